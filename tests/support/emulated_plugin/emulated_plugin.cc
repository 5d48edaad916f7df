// The doors of a libtrireme_cuda.so whose GPUs are emulated: what kernels/cuda/door.cc and
// comm/nccl/door.cc are to the real one.
//
// TRIREME_EMULATED_GPUS=n says how many there are (default 1), with 256 MiB each, to every process
// alone. TRIREME_EMULATED_NCCL=1: there is a NCCL for ranks that have one each (process_nccl.h);
// else their tensors go through host memory.
#include <cstdlib>
#include <string_view>

#include "comm/nccl/door.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/plugin/plugin.h"
#include "tests/support/emulated_plugin/process_nccl.h"

namespace trireme {
namespace {

// What a GPU allocates is filled, and guarded at each wait: more would only take longer.
constexpr size_t kGpuBytes = size_t{256} << 20;

bool has_nccl() {
  const char* wanted = std::getenv("TRIREME_EMULATED_NCCL");
  return wanted != nullptr && std::string_view(wanted) == "1";
}

class EmulatedPlugin final : public CudaPlugin {
 public:
  EmulatedPlugin() {
    const char* count = std::getenv("TRIREME_EMULATED_GPUS");
    emulator::set_device_count(count == nullptr ? 1 : std::atoi(count));
    emulator::set_device_bytes(kGpuBytes);
  }
  std::string versions() const override { return "CUDA 13.0 (emulated)"; }
  Result<std::vector<GpuInfo>> gpus() const override { return list_gpus(); }
  Result<std::unique_ptr<Device>> make_device(const CudaOptions& options) const override {
    if (has_nccl()) emulator::set_streams_run_by_themselves(true);
    return make_cuda_device(options);
  }
};

class EmulatedDoor final : public NcclDoor {
 public:
  Result<std::string> version() const override {
    if (!has_nccl()) return unavailable("emulated GPUs have no NCCL");
    return std::string("NCCL 2.28.9 (emulated)");
  }
  Result<DeviceCommunicator> make(std::unique_ptr<Communicator> control, Device& device,
                                  const NcclOptions& options) const override {
    static const NcclApi api = test::process_nccl();
    return make_device_communicator(std::move(control), device, has_nccl() ? &api : nullptr,
                                    options);
  }
};

}  // namespace
}  // namespace trireme

extern "C" __attribute__((visibility("default"))) const trireme::CudaPluginEntry*
trireme_cuda_plugin() {
  static const trireme::EmulatedPlugin plugin;
  static const trireme::CudaPluginEntry entry{trireme::cuda_plugin_abi(), &plugin};
  return &entry;
}

extern "C" __attribute__((visibility("default"))) const trireme::NcclDoor* trireme_nccl_door() {
  static const trireme::EmulatedDoor door;
  return &door;
}
