// Kernels that begin while the one before them ends (programmatic dependent launch, CUDA C++
// Programming Guide; sm_90). A kernel that is launched so reads what no kernel writes, the weights,
// as soon as it starts, and waits before anything else. So the launch, the first reads, and the
// tail of the kernel before are one and the same time.
//
// INVARIANT: a kernel launched with Grid::overlaps calls previous_done() in every thread that
// touches other memory, before it does, and in some thread of each launch. Then all kernels before
// it have ended, not only the last: that one has waited for its own predecessor.
//
// What copies have written may be read at once too: a step's offsets, positions and block tables,
// and what no kernel since the last copy has written of a cache. Only a kernel that follows a
// kernel begins early; one that follows a copy, an event or a recording's start waits for it whole.
// And none begins before all blocks of its predecessor have. So when a block runs, the first kernel
// after the copy has begun, and the copy has ended, however many kernels of the chain still run.
#pragma once

#include <cuda_runtime.h>

namespace trireme::cuda {

// The next kernel's blocks may start where there is room, once all blocks of this one are here.
__device__ __forceinline__ void next_may_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#elif !defined(__CUDACC__)
  emulator::next_may_start();
#endif
}

// Returns when all kernels before this one have ended and their writes are seen.
__device__ __forceinline__ void previous_done() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#elif !defined(__CUDACC__)
  emulator::previous_done();
#endif
}

// Instead of it in a block that ends because it has nothing to do: if all blocks of a launch ended
// so, it would end before its predecessor, and the next kernel would wait for less than it thinks.
__device__ __forceinline__ void nothing_to_do() {
  if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) previous_done();
}

}  // namespace trireme::cuda
