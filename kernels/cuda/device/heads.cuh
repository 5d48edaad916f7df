// A head of D elements as a warp holds it: lane l has elements l, l + 32, ...
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"

namespace trireme::cuda {

template <int D>
inline constexpr int kLaneElements = (D + kWarpSize - 1) / kWarpSize;

// Whether the lane has an i-th element.
template <int D>
__device__ __forceinline__ bool lane_has(int i) {
  return D % kWarpSize == 0 || lane_of_warp() + i * kWarpSize < D;
}
// Which one it is. Where there is none the last: it may be read.
template <int D>
__device__ __forceinline__ int lane_element(int i) {
  const int d = lane_of_warp() + i * kWarpSize;
  return D % kWarpSize == 0 || d < D ? d : D - 1;
}

// Heads as they lie in memory. Like RotatedHeads (rotation.cuh): ask() for several, then take()
// them.
template <int D>
struct PlainHeads {
  struct Held {
    float own[kLaneElements<D>];
  };
  __device__ __forceinline__ Held ask(const float* head) const {
    Held held;
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) held.own[i] = head[lane_element<D>(i)];
    return held;
  }
  __device__ __forceinline__ void take(const Held& held, float (&x)[kLaneElements<D>]) const {
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) x[i] = held.own[i];
  }
};

}  // namespace trireme::cuda
