// A barrier of all blocks of a launch, in two halves, so that a block can do something else between
// its arrival and its wait.
//
// The order is the memory model's (PTX ISA, "Memory Consistency Model"): a block's writes, its
// barrier, thread 0's release; thread 0's acquire in another block, its barrier, that block's
// reads. L1 caches know nothing of it: what other blocks wrote is read by load_fresh (floats.cuh).
//
// All blocks must be on the GPU at a time, and nothing that is there before them may wait for them:
// a launch has no more blocks than there are multiprocessors, each of which has room for one as
// soon as earlier kernels have ended. Two such launches at a time, of processes that share a GPU
// through MPS, could each have half of the multiprocessors and wait for ever: after some ten
// seconds a wait ends the kernel with an error.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace trireme::cuda {

__device__ __forceinline__ unsigned load_acquire(const unsigned* address) {
#ifdef __CUDA_ARCH__
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
#else
  return *address;
#endif
}
// Returns what was there.
__device__ __forceinline__ unsigned add_release(unsigned* address, unsigned value) {
#ifdef __CUDA_ARCH__
  unsigned old;
  asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(address), "r"(value)
               : "memory");
  return old;
#else
  return atomicAdd(address, value);
#endif
}

// `arrivals` is zero at first, and from then on whatever the launches before have left: when all
// blocks have arrived they have added 2^31 together.
class GridBarrier {
 public:
  __device__ __forceinline__ explicit GridBarrier(unsigned* arrivals) : arrivals_(arrivals) {}

  // All threads of all blocks call it, then wait().
  __device__ __forceinline__ void arrive() {
    __syncthreads();
    if (threadIdx.x == 0)
      found_ = add_release(arrivals_, blockIdx.x == 0 ? kTurn - (gridDim.x - 1) : 1u);
  }
  __device__ __forceinline__ void wait() {
    if (threadIdx.x == 0) {
#ifdef __CUDA_ARCH__
      const int64_t begin = clock64();
      while (!turned()) {
        if (clock64() - begin > kPatience) __trap();
      }
#elif !defined(__CUDACC__)
      emulator::wait_for_another_block([this] { return turned(); });
#endif
    }
    __syncthreads();
  }

 private:
  static constexpr unsigned kTurn = 0x80000000u;
  static constexpr int64_t kPatience = int64_t{20} * 1000 * 1000 * 1000;  // clocks

  __device__ __forceinline__ bool turned() const {
    return ((load_acquire(arrivals_) ^ found_) & kTurn) != 0;
  }

  unsigned* arrivals_;
  unsigned found_ = 0;  // by thread 0, when it arrived
};

}  // namespace trireme::cuda
