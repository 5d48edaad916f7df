// Which device the ranks of a job compute on: what CUDA this process can use, and what
// engine.device makes of it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/nccl/door.h"
#include "kernels/cuda/plugin/open_plugin.h"
#include "launcher/world.h"
#include "runtime/config/deployment.h"

namespace trireme {

// What came of looking for CUDA. INVARIANT: `gpus` is empty where `problem` is not ok, and only
// there.
struct CudaFound {
  std::optional<CudaLibrary> library;
  std::vector<GpuInfo> gpus;
  Status problem = not_found("CUDA was not looked for");  // one sentence
};

// Where the library is looked for before the system is asked: beside this program, and in lib and
// lib/trireme beside its folder.
std::vector<std::string> cuda_library_folders();

// Communicators for tensors of GPUs; null where the library has none.
const NcclDoor* nccl_door(const CudaLibrary& library);

// Opens the library and asks it for GPUs.
CudaFound look_for_cuda(std::span<const std::string> folders);

struct DeviceChoice {
  DeviceKind kind = DeviceKind::kCpu;  // never kAuto
  int gpu = 0;                         // kCuda: the ordinal
  int ranks_on_gpu = 1;                // kCuda: of this host. NCCL takes one rank a GPU
  // Why it is the CPU although there is a CUDA library: one sentence, else "".
  std::string note;
};

// For one rank. Rank i of a host takes GPU i, and again from 0 where there are more ranks than
// GPUs. kInvalidArgument: engine.device is cuda, and there is none.
Result<DeviceChoice> choose_device(DeviceKind wanted, const CudaFound& found, int host_rank,
                                   int host_size);

// All ranks of a job compute on the same kind: where `auto` found a GPU for some of them only, all
// take the CPU. Every rank calls it, with what it chose. A Status that is not ok is the world's.
Status agree_on_device(RankWorld& world, DeviceChoice& mine);

}  // namespace trireme
