// Which of several blocks ends last, so that it can go on with what the others have left in memory.
//
// The order is the memory model's (PTX ISA, "Memory Consistency Model"): a block's writes, its
// barrier, thread 0's fence, its addition; in the last block that addition, the fence, the barrier,
// all threads' reads. No block waits for another: they need not run at the same time.
#pragma once

#include <cuda_runtime.h>

namespace trireme::cuda {

// True in all threads of one of the `blocks` blocks that call it, once each, with a counter that is
// zero at first and zero again afterwards: of the last. `flag`: a word of shared memory that
// nothing else uses. All threads of a block call it; it has barriers at its beginning and its end.
__device__ __forceinline__ bool last_block(unsigned* counter, int blocks, int* flag) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    const bool last = atomicAdd(counter, 1u) == static_cast<unsigned>(blocks - 1);
    if (last) {
      __threadfence();
      *counter = 0;  // for the next launch that counts in it
    }
    *flag = last ? 1 : 0;
  }
  __syncthreads();
  return *flag != 0;
}

}  // namespace trireme::cuda
