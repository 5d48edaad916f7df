// A step's own rows, where attention norms and rotates them itself (Rotation of ops/attention.h).
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {

// A head of D elements, one row of q or of k, as a warp sees it.
template <int D>
struct RotatedHead {
  const Rotation& r;
  const float* gain;  // of its norm; null: none
  const float* cos_sin;
  const float* x;
  float inverse_rms;

  // REQUIRES: the whole warp calls it.
  __device__ __forceinline__ RotatedHead(const Rotation& rotation, const float* head_gain,
                                         int32_t row, const float* head)
      : r(rotation),
        gain(head_gain),
        cos_sin(rotation.cos_sin + row * rotation.cos_sin_stride),
        x(head),
        inverse_rms(1.0f) {
    if (gain == nullptr) return;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < (D + kWarpSize - 1) / kWarpSize; ++i) {
      const int d = lane_of_warp() + i * kWarpSize;
      if (d < D) sum = fmaf(x[d], x[d], sum);
    }
    inverse_rms = 1.0f / sqrtf(warp_sum(sum) / D + r.epsilon);
  }

  __device__ __forceinline__ float normed(int d) const {
    return gain == nullptr ? x[d] : x[d] * inverse_rms * gain[d];
  }
  // Element d: one of a rotated pair, or what lies beyond them.
  __device__ __forceinline__ float operator[](int d) const {
    if (d >= 2 * r.half) return normed(d);
    const bool second = r.interleaved ? d % 2 != 0 : d >= r.half;
    const int pair = r.interleaved ? d / 2 : second ? d - r.half : d;
    const int other = r.interleaved ? d ^ 1 : second ? d - r.half : d + r.half;
    const float turned = normed(other) * cos_sin[r.half + pair];
    const float kept = normed(d) * cos_sin[pair];
    return second ? kept + turned : kept - turned;
  }
};

}  // namespace trireme::cuda
