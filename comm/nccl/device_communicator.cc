#include "comm/nccl/device_communicator.h"

#include <array>
#include <fstream>
#include <utility>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "comm/staged/staged.h"

namespace trireme {
namespace {

// The same in all containers of a machine, unlike its name.
std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

}  // namespace

Result<RankGpu> describe_rank_gpu(int ordinal, const NcclApi* api) {
  RankGpu gpu;
  gpu.host = boot_id();
  std::array<char, 32> bus_id{};
  if (const cudaError_t error = cudaDeviceGetPCIBusId(bus_id.data(), bus_id.size(), ordinal);
      error != cudaSuccess)
    return unavailable(
        fmt::format("GPU {} does not tell its bus id: {}", ordinal, cudaGetErrorString(error)));
  gpu.gpu = bus_id.data();
  if (api != nullptr) (void)api->get_version(&gpu.nccl_version);
  return gpu;
}

Result<DeviceCommunicator> make_device_communicator(std::unique_ptr<Communicator> control,
                                                    Device& device, const NcclApi* api,
                                                    const NcclOptions& options) {
  const Result<RankGpu> mine = describe_rank_gpu(options.ordinal, api);
  if (!mine.ok()) return mine.status();
  Result<DeviceWayChoice> choice = agree_on_device_way(*control, *mine);
  if (!choice.ok()) return choice.status();
  DeviceCommunicator made;
  made.choice = choice.take();
  if (made.choice.way == DeviceWay::kStaged) {
    made.world = make_staged_communicator(std::move(control), device);
    return made;
  }
  auto nccl = make_nccl_communicator(std::move(control), device, *api, options);
  if (!nccl.ok()) return nccl.status();
  made.nccl = nccl->get();
  made.world = nccl.take();
  return made;
}

}  // namespace trireme
