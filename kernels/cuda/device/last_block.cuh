// Which of several blocks ends last, so that it can go on with what the others have left in memory.
//
// The order is the memory model's (PTX ISA, "Memory Consistency Model"): a block's writes, its
// barrier, thread 0's addition, which releases them; in the last block that addition, which
// acquires, the barrier, all threads' reads. No block waits for another: they need not run at the
// same time. __threadfence() would order more than that: it is MEMBAR.SC, twice in the last block,
// where an addition that releases and acquires has one MEMBAR.ALL.
#pragma once

#include <cuda_runtime.h>

namespace trireme::cuda {

__device__ __forceinline__ unsigned add_in_order(unsigned* counter) {
#ifdef __CUDA_ARCH__
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return before;
#else
  __threadfence();
  const unsigned before = atomicAdd(counter, 1u);
  __threadfence();
  return before;
#endif
}

// How many blocks have come. Who reads it as one less than there are, and is the one that has not,
// may go on as the last one, with what all others have left, after a barrier.
__device__ __forceinline__ unsigned blocks_come(const unsigned* counter) {
#ifdef __CUDA_ARCH__
  unsigned come;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(come)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return come;
#else
  const unsigned come = *counter;
  __threadfence();
  return come;
#endif
}

// True in all threads of one of the `blocks` blocks that call it, once each, with a counter that is
// zero at first and zero again afterwards: of the last. `flag`: a word of shared memory that
// nothing else uses. All threads of a block call it; it has barriers at its beginning and its end.
__device__ __forceinline__ bool last_block(unsigned* counter, int blocks, int* flag) {
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = add_in_order(counter) == static_cast<unsigned>(blocks - 1);
    if (last) *counter = 0;  // for the next launch that counts in it
    *flag = last ? 1 : 0;
  }
  __syncthreads();
  return *flag != 0;
}

}  // namespace trireme::cuda
