// Norms of rows that a warp or a block holds in registers.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"

namespace trireme::cuda {

// What numbers are multiplied by and what is added to them: ones and zeros where there is nothing.
template <int kWide>
struct Scales {
  Pack<float, kWide> gain, bias;

  __device__ __forceinline__ void read(const float* gains, const float* biases, int32_t at) {
#pragma unroll
    for (int i = 0; i < kWide; ++i) gain.at[i] = 1.0f, bias.at[i] = 0.0f;
    if (gains != nullptr) gain = load<kWide>(gains + at);
    if (biases != nullptr) bias = load<kWide>(biases + at);
  }
  __device__ __forceinline__ void apply(float inverse, Pack<float, kWide>& x) const {
#pragma unroll
    for (int i = 0; i < kWide; ++i) x.at[i] = fmaf(x.at[i] * inverse, gain.at[i], bias.at[i]);
  }
};

// Which numbers of a row each of `lanes` threads holds: every lanes-th pack of kWide.
template <int kWide>
struct HeldBy {
  int lane, lanes;
  int64_t cols;
  // The first of pack p; beyond the row where it has none.
  __device__ __forceinline__ int64_t at(int p) const { return (lane + int64_t{p} * lanes) * kWide; }
  __device__ __forceinline__ bool has(int p) const { return at(p) < cols; }
};

// Takes the mean off, for a layer's norm, and returns 1 / sqrt(mean of squares + epsilon).
// kBlock: by a block, else by a warp. partial: room for two floats a warp, which nothing else uses
// before the next two barriers.
template <bool kBlock, int kWide, int kPacks>
__device__ __forceinline__ float centre(const HeldBy<kWide>& by, bool layer, float epsilon,
                                        float* partial, Pack<float, kWide> (&held)[kPacks]) {
  float total = 0.0f;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
#pragma unroll
    for (int i = 0; i < kWide; ++i) total += held[p].at[i];
  }
  const auto count = static_cast<float>(by.cols);
  const auto sum = [&](float value, int which) {
    return kBlock ? block_sum_once(value, partial + which * kWarpSize) : warp_sum(value);
  };
  const float mean = layer ? sum(total, 0) / count : 0.0f;
  float squares = 0.0f;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      held[p].at[i] -= mean;
      squares = fmaf(held[p].at[i], held[p].at[i], squares);
    }
  }
  return 1.0f / sqrtf(sum(squares, 1) / count + epsilon);
}

// held += what lies at delta, and back to x.
template <int kWide, int kPacks>
__device__ __forceinline__ void add_held(const HeldBy<kWide>& by, const float* delta, float* x,
                                         Pack<float, kWide> (&held)[kPacks]) {
  Pack<float, kWide> more[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (by.has(p)) more[p] = load<kWide>(delta + by.at(p));
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
#pragma unroll
    for (int i = 0; i < kWide; ++i) held[p].at[i] += more[p].at[i];
    store_out<kWide>(x + by.at(p), held[p]);
  }
}

}  // namespace trireme::cuda
