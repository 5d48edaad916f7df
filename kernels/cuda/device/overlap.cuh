// Kernels that begin while the one before them ends (programmatic dependent launch, CUDA C++
// Programming Guide; sm_90). A kernel that is launched so reads what no kernel writes, the weights,
// as soon as it starts, and waits before anything else. So the launch, the first reads, and the
// tail of the kernel before are one and the same time.
//
// INVARIANT: a kernel launched with Grid::overlaps calls previous_done() in every thread that
// touches other memory, before it does. Then all kernels before it have ended, not only the last:
// that one has waited for its own predecessor.
#pragma once

#include <cuda_runtime.h>

namespace trireme::cuda {

// The next kernel's blocks may start where there is room, once all blocks of this one are here.
__device__ __forceinline__ void next_may_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when all kernels before this one have ended and their writes are seen.
__device__ __forceinline__ void previous_done() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace trireme::cuda
