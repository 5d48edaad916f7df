// Sums and maxima over a warp or a block, the block's shared memory, and which sequence a row
// belongs to.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

// Where a thread of a block of one dimension stands. Known not to be negative, so that divisions by
// powers of two become shifts.
__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x & 31u); }
__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x >> 5); }

// a / b where neither is negative, which takes half the instructions.
__device__ __forceinline__ int32_t quotient(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b));
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = kWarpSize / 2; step > 0; step /= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = kWarpSize / 2; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, step));
  return x;
}

// The sum over all threads of a block of whole warps, in every thread. `partial`: room for a float
// per warp, which nothing else uses before the next barrier.
__device__ __forceinline__ float block_sum_once(float x, float* partial) {
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  x = warp_sum(x);
  if (warps == 1) return x;
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = x;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  return warp_sum(lane < warps ? partial[lane] : 0.0f);
}
// The same with a barrier more, after which `partial` may be used again.
__device__ __forceinline__ float block_sum(float x, float* partial) {
  x = block_sum_once(x, partial);
  __syncthreads();
  return x;
}

// The largest of all threads' x, none of them negative; as block_sum().
__device__ __forceinline__ float block_max(float x, float* partial) {
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  x = warp_max(x);
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = x;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  x = warp_max(lane < warps ? partial[lane] : 0.0f);
  __syncthreads();
  return x;
}

// The dynamic shared memory of the launch. Kernels keep all their shared memory there.
template <class T>
__device__ __forceinline__ T* shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
#else
  return static_cast<T*>(emulator::dynamic_shared());
#endif
}

// The sequence of row `t`: -1 where it belongs to none (rows that only fill up a recorded step).
// Where every sequence has one row, as in decode, two loads find it.
__device__ __forceinline__ int sequence_of(const Ragged& rows, int t) {
  const int32_t* offsets = rows.offsets;
  if (t < rows.sequences) {
    const int32_t first = offsets[t], end = offsets[t + 1];  // both under way at once
    if (first == t && end == t + 1) return t;
  }
  if (t >= offsets[rows.sequences]) return -1;
  int low = 0, high = rows.sequences;  // offsets[low] <= t < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace trireme::cuda
