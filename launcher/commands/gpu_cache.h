// How much of a GPU the cache may take.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace trireme {

// Bytes for the cache of one rank, once its weights and workspaces are on the GPU:
//   (floor(total * utilization) - (total - free)) / ranks - executor
// what gpu_memory_utilization allows, without what is in use by whoever it is, shared among the
// ranks of this GPU, and without `executor_bytes`, which this rank will take beside its cache. All
// of them measure before any of them takes either.
// kResourceExhausted: nothing is left; what to do. REQUIRES: memory is known, 0 < utilization <= 1,
// ranks >= 1.
Result<uint64_t> gpu_cache_bytes(DeviceMemory memory, float utilization, int ranks,
                                 uint64_t executor_bytes);

}  // namespace trireme
