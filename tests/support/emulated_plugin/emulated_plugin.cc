// The doors of a libtrireme_cuda.so whose GPUs are emulated: what kernels/cuda/door.cc and
// comm/nccl/door.cc are to the real one. An emulated GPU has no NCCL: ranks that have one each go
// through host memory too.
//
// TRIREME_EMULATED_GPUS=n says how many there are (default 1), with 256 MiB each, to every process
// alone.
#include <cstdlib>

#include "comm/nccl/door.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/plugin/plugin.h"

namespace trireme {
namespace {

// What a GPU allocates is filled, and guarded at each wait: more would only take longer.
constexpr size_t kGpuBytes = size_t{256} << 20;

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
    return make_cuda_device(options);
  }
};

class NoNccl final : public NcclDoor {
 public:
  Result<std::string> version() const override { return unavailable("emulated GPUs have no NCCL"); }
  Result<DeviceCommunicator> make(std::unique_ptr<Communicator> control, Device& device,
                                  const NcclOptions& options) const override {
    return make_device_communicator(std::move(control), device, nullptr, options);
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
  static const trireme::NoNccl door;
  return &door;
}
