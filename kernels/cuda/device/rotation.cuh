// A step's own rows, where attention norms and rotates them itself (Rotation of ops/attention.h).
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/heads.cuh"
#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {

// Heads of q or of k of one row, normed and rotated. All that memory has of them is asked for
// before anything is looked at, and without a branch: a load that a branch guards is waited for
// before the next one begins, and a row's way from L2 is what such a kernel waits for.
template <int D>
class RotatedHeads {
 public:
  struct Held {
    float own[kLaneElements<D>];
    float other[kLaneElements<D>];  // the second of each element's pair
  };

  // x: the row's heads; gain: of their norm, null: none.
  __device__ __forceinline__ RotatedHeads(const Rotation& r, const float* x, const float* gain,
                                          int32_t row)
      : r_(r), normed_(gain != nullptr) {
    // Where there is nothing to read, something else is.
    const float* cos_sin = r.half > 0 ? r.cos_sin + row * r.cos_sin_stride : x;
    const float* gains = normed_ ? gain : x;
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) {
      const Pairing p = pairing(i);
      cos_[i] = cos_sin[p.pair];
      sin_[i] = cos_sin[p.pair + r.half];
      own_gain_[i] = gains[lane_element<D>(i)];
      other_gain_[i] = gains[p.other];
    }
  }

  __device__ __forceinline__ Held ask(const float* head) const {
    Held held;
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) {
      held.own[i] = head[lane_element<D>(i)];
      held.other[i] = head[pairing(i).other];
    }
    return held;
  }

  // REQUIRES: the whole warp calls it.
  __device__ __forceinline__ void take(const Held& held, float (&x)[kLaneElements<D>]) const {
    const float scale = normed_ ? inverse_rms(held) : 1.0f;
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) {
      const Pairing p = pairing(i);
      const float own = normed_ ? held.own[i] * scale * own_gain_[i] : held.own[i];
      const float other = normed_ ? held.other[i] * scale * other_gain_[i] : held.other[i];
      const float kept = own * cos_[i];
      const float turned = p.second ? kept + other * sin_[i] : kept - other * sin_[i];
      x[i] = p.turns ? turned : own;
    }
  }

 private:
  // Of a lane's i-th element: whether it is one of a pair that is rotated, of which one, and which
  // is the other of them.
  struct Pairing {
    bool turns, second;
    int pair, other;
  };
  __device__ __forceinline__ Pairing pairing(int i) const {
    const int d = lane_element<D>(i), half = r_.half;
    const bool turns = d < 2 * half, second = r_.interleaved ? d % 2 != 0 : d >= half;
    const int first = second ? d - half : d;  // of halves
    const int pair = r_.interleaved ? d / 2 : first;
    const int other = r_.interleaved ? d ^ 1 : second ? first : d + half;
    return {turns, second, turns ? pair : 0, turns ? other : d};
  }

  __device__ __forceinline__ float inverse_rms(const Held& held) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kLaneElements<D>; ++i) {
      if (lane_has<D>(i)) sum = fmaf(held.own[i], held.own[i], sum);
    }
    return 1.0f / sqrtf(warp_sum(sum) / D + r_.epsilon);
  }

  const Rotation& r_;
  bool normed_;
  float cos_[kLaneElements<D>], sin_[kLaneElements<D>];
  float own_gain_[kLaneElements<D>], other_gain_[kLaneElements<D>];
};

}  // namespace trireme::cuda
