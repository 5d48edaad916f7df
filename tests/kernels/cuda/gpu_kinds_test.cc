// GPUs that are not Hoppers: which are refused, and what the others say of themselves.
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"

namespace trireme {
namespace {

class GpuKinds : public testing::Test {
 protected:
  ~GpuKinds() override { emulator::set_gpu_kind(emulator::kHopper, emulator::kHopperSharedBytes); }
};

TEST_F(GpuKinds, OlderOnesThanKernelsAreBuiltForAreRefused) {
  emulator::set_gpu_kind(75, 64 << 10);
  const Result<std::unique_ptr<Device>> made = make_cuda_device({});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().message(),
            "GPU 0 (emulated GPU) has compute capability 7.5; this build needs 8.0 or newer: "
            "name another GPU, or engine.device: cpu");
}

TEST_F(GpuKinds, AllOthersAreTaken) {
  for (const auto& [capability, shared_bytes] : {std::pair{80, 163 << 10},
                                                 {86, 99 << 10},
                                                 {89, 99 << 10},
                                                 {100, 227 << 10},
                                                 {120, 99 << 10}}) {
    emulator::set_gpu_kind(capability, shared_bytes);
    EXPECT_TRUE(make_cuda_device({}).ok()) << capability;
    const auto gpus = list_gpus();
    ASSERT_TRUE(gpus.ok());
    EXPECT_EQ((*gpus)[0].capability_major * 10 + (*gpus)[0].capability_minor, capability);
  }
}

}  // namespace
}  // namespace trireme
