// Sums over neighbouring lanes of several numbers at once.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"

namespace trireme::cuda {

// Every lane of each group of kLanes brings kCount numbers. Afterwards lane l of a group holds the
// group's sums of numbers [l * h, (l + 1) * h) in x[0, h), h = kCount / kLanes; where there are
// fewer numbers than lanes, lane l holds that of number l * kCount / kLanes in x[0].
//
// A step halves the numbers that a lane still has: it gives one half to its partner and takes the
// other half of the partner's. That is kCount - h shuffles, where summing each number by itself
// would take kCount * log2(kLanes). kLanes and kCount are powers of two.
template <int kLanes, int kCount, int kSize>
__device__ __forceinline__ void fold_sums(float (&x)[kSize], int lane) {
  static_assert(kCount <= kSize && kLanes <= kWarpSize);
  if constexpr (kLanes > 1) {
    constexpr int kPartner = kLanes / 2;
    if constexpr (kCount > 1) {
      constexpr int kHalf = kCount / 2;
      const bool upper = (lane & kPartner) != 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float give = upper ? x[i] : x[i + kHalf];
        const float keep = upper ? x[i + kHalf] : x[i];
        x[i] = keep + __shfl_xor_sync(kWholeWarp, give, kPartner);
      }
      fold_sums<kPartner, kHalf>(x, lane);
    } else {
      x[0] += __shfl_xor_sync(kWholeWarp, x[0], kPartner);
      fold_sums<kPartner, 1>(x, lane);
    }
  }
}

// The same over the upper bits of the lanes' numbers, where each lane brings its numbers in an
// order of its own: the i-th is number i ^ (m h), with m what its lane number in the group is in
// units of kUntil, h = kCount kUntil / kLanes. So a lane always keeps its first half, and nothing
// is selected. Afterwards x[0, h) of the lanes of m are numbers [m h, (m + 1) h), summed over lanes
// that are the same below kUntil; fold_sums<kUntil, h> adds up the rest.
template <int kLanes, int kUntil, int kCount, int kSize>
__device__ __forceinline__ void fold_turned(float (&x)[kSize]) {
  static_assert(kCount <= kSize && kLanes <= kWarpSize);
  if constexpr (kLanes > kUntil) {
    constexpr int kHalf = kCount / 2;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) x[i] += __shfl_xor_sync(kWholeWarp, x[i + kHalf], kLanes / 2);
    fold_turned<kLanes / 2, kUntil, kHalf>(x);
  }
}

}  // namespace trireme::cuda
