// Rotary embeddings of a step's own rows, where attention does them itself (ops/attention.h).
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {

// Element d of head x of row `row`: one of a rotated pair, or what lies beyond them.
__device__ __forceinline__ float rotated(const Rotation& r, int32_t row, const float* x, int d) {
  if (d >= 2 * r.half) return x[d];
  const bool second = r.interleaved ? d % 2 != 0 : d >= r.half;
  const int pair = r.interleaved ? d / 2 : second ? d - r.half : d;
  const int other = r.interleaved ? d ^ 1 : second ? d - r.half : d + r.half;
  const float* cos_sin = r.cos_sin + row * r.cos_sin_stride;
  const float turned = x[other] * cos_sin[r.half + pair], kept = x[d] * cos_sin[pair];
  return second ? kept + turned : kept - turned;
}

}  // namespace trireme::cuda
