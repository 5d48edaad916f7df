// By which way tensors of the GPUs go from rank to rank: over NCCL, or staged through host memory.
// One answer for the whole world, since a group may be any part of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "comm/communicator.h"

namespace trireme {

// What a rank tells the others of itself.
struct RankGpu {
  std::string host;      // the same on all ranks of a machine: its boot id
  std::string gpu;       // the same on all ranks that use one GPU of a machine: its PCI bus id
  int nccl_version = 0;  // as NCCL counts; 0: this rank has no NCCL
};

enum class DeviceWay : uint8_t { kStaged, kNccl };

struct DeviceWayChoice {
  DeviceWay way = DeviceWay::kStaged;
  std::string why;  // one sentence, for the start-up log
};

// Staged where a rank has no NCCL, where two ranks have different versions of it (they need not
// understand one another) or share a GPU (NCCL refuses), and in a world of one.
DeviceWayChoice choose_device_way(std::span<const RankGpu> ranks);

// The same, over all ranks of `control`; every rank calls it and gets the same answer. Errors: the
// communicator's. REQUIRES: host and gpu have at most 63 bytes.
Result<DeviceWayChoice> agree_on_device_way(Communicator& control, const RankGpu& mine);

}  // namespace trireme
