#include "launcher/device_choice.h"

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

namespace trireme {

std::vector<std::string> cuda_library_folders() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const std::filesystem::path here = program.parent_path();
  const std::filesystem::path lib = here.parent_path() / "lib";
  return {here.string(), lib.string(), (lib / "trireme").string()};
}

const NcclDoor* nccl_door(const CudaLibrary& library) {
  const auto door = reinterpret_cast<NcclDoorFunction*>(library.symbol(kNcclDoorName));
  return door == nullptr ? nullptr : door();
}

CudaFound look_for_cuda(std::span<const std::string> folders) {
  CudaFound found;
  Result<CudaLibrary> library = open_cuda_library(folders);
  found.problem = library.status();
  if (!library.ok()) return found;
  found.library = library.take();
  Result<std::vector<GpuInfo>> gpus = found.library->plugin->gpus();
  found.problem = gpus.status();
  if (!gpus.ok()) return found;
  found.gpus = gpus.take();
  CHECK(!found.gpus.empty());
  return found;
}

Result<DeviceChoice> choose_device(DeviceKind wanted, const CudaFound& found, int host_rank,
                                   int host_size) {
  DeviceChoice choice;
  if (wanted == DeviceKind::kCpu) return choice;
  if (!found.problem.ok()) {
    if (wanted == DeviceKind::kCuda)
      return invalid_argument(
          fmt::format("engine.device is cuda, but {}", found.problem.message()));
    // A machine without the library has nothing to explain.
    if (found.problem.code() != StatusCode::kNotFound) choice.note = found.problem.message();
    return choice;
  }
  const auto gpus = static_cast<int>(found.gpus.size());
  choice.kind = DeviceKind::kCuda;
  choice.gpu = host_rank % gpus;
  choice.ranks_on_gpu = host_size / gpus + (choice.gpu < host_size % gpus ? 1 : 0);
  return choice;
}

Status agree_on_device(RankWorld& world, DeviceChoice& mine) {
  if (world.size == 1) return {};
  int32_t has_gpu = mine.kind == DeviceKind::kCuda ? 1 : 0;
  std::vector<int32_t> all(static_cast<size_t>(world.size));
  const Status gathered = world.world->all_gather(tensor(&has_gpu, 1, 1, DType::kI32),
                                                  tensor(all.data(), world.size, 1, DType::kI32));
  if (!gathered.ok() || has_gpu == 0) return gathered;
  for (int rank = 0; rank < world.size; ++rank) {
    if (all[static_cast<size_t>(rank)] != 0) continue;
    mine = {};
    mine.note = fmt::format("rank {} has no GPU, and all ranks compute on the same kind", rank);
    return {};
  }
  return {};
}

}  // namespace trireme
