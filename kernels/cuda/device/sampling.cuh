// The order of tokens in a row of logits, their weights, and sums over a block: for ops/sample.cu.
#pragma once

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/ops/sample.h"

namespace trireme::cuda {

inline constexpr double kWeightOne = 70368744177664.0;  // 2^46
inline constexpr int32_t kNoBin = -1;

// The order in which tokens are preferred: ascending keys are descending logits.
__device__ __forceinline__ uint32_t key_of(float l) {
  const uint32_t bits = __float_as_uint(l == 0.0f ? 0.0f : l);  // -0 is 0
  return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}
__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key : ~key & 0x7fffffffu);
}
// A token's place: of equal logits the lower id comes first.
__device__ __forceinline__ uint64_t place_of(float l, int32_t token) {
  return uint64_t{key_of(l)} << 32 | static_cast<uint32_t>(token);
}

// One row, as the kernels after the first see it.
struct RowOfLogits {
  const float* logits;  // after the edits
  int32_t vocab;
  float max, reach, scale;
  double inverse;                 // of the temperature
  double bound;                   // min_p's: logits below it are no candidates
  uint64_t limit = ~uint64_t{0};  // the place of the last candidate

  // min_p as a bound on logits: w >= min_p  <=>  l >= max + temperature ln(min_p).
  __device__ RowOfLogits(const float* row, int32_t v, const SampleRow& how, const SampleState& s)
      : logits(row),
        vocab(v),
        max(s.max),
        reach(s.reach),
        scale(s.scale),
        inverse(1.0 / static_cast<double>(how.temperature)),
        bound(how.min_p > 0.0f
                  ? static_cast<double>(s.max) +
                        static_cast<double>(how.temperature) * log(static_cast<double>(how.min_p))
                  : -INFINITY) {}

  // What weighs something and is not left out by min_p or by the limit.
  __device__ bool holds(int32_t token, float l) const {
    return l > -INFINITY && max - l <= reach && static_cast<double>(l) >= bound &&
           place_of(l, token) <= limit;
  }
  // The inverse moves a weight by less than its rounding does, and spares a division in f64 for
  // each token.
  __device__ uint64_t weight(float l) const {
    return static_cast<uint64_t>(
        exp((static_cast<double>(l) - static_cast<double>(max)) * inverse) * kWeightOne + 0.5);
  }
  // Descending logits are in ascending bins. REQUIRES: max - l <= reach.
  __device__ int32_t bin(float l) const {
    const auto bin = static_cast<int32_t>((max - l) * scale);
    return bin < kSampleBins - 1 ? bin : kSampleBins - 1;
  }
};

// Beyond 33 temperatures a weight is below 2^46 e^-33 = 0.33, and rounds to nothing.
inline constexpr float kReach = 33.0f;

__device__ __forceinline__ void set_bins(SampleState& s, float min, float temperature) {
  s.reach = kReach * temperature;
  const float range = fminf(s.max - min, s.reach);
  s.scale = range > 0.0f ? fminf(static_cast<float>(kSampleBins - 1) / range, 1e30f) : 0.0f;
}

// The sum of the values of the threads before this one, and that of all. `sums`: room for one each
// warp. All threads of the block.
__device__ __forceinline__ unsigned long long scan(unsigned long long* sums,
                                                   unsigned long long value,
                                                   unsigned long long& total) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  unsigned long long sum = value;
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const unsigned long long other = __shfl_up_sync(kWholeWarp, sum, static_cast<unsigned>(step));
    if (lane >= step) sum += other;
  }
  if (lane == kWarpSize - 1) sums[warp] = sum;
  __syncthreads();
  unsigned long long before = sum - value;
  total = 0;
  for (int w = 0; w < warps; ++w) {
    if (w < warp) before += sums[w];
    total += sums[w];
  }
  __syncthreads();
  return before;
}
__device__ __forceinline__ unsigned long long sum_of_all(unsigned long long* sums,
                                                         unsigned long long value) {
  unsigned long long total = 0;
  scan(sums, value, total);
  return total;
}

// Puts `count`, a power of two, numbers of shared memory in ascending order (Batcher's bitonic
// sorter). All threads of the block; barriers at its beginning and its end.
__device__ __forceinline__ void sort_shared(uint64_t* numbers, int count) {
  __syncthreads();
  for (int run = 2; run <= count; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < count / 2;
           pair += static_cast<int>(blockDim.x)) {
        const int low = pair / step * step * 2 + pair % step, high = low + step;
        const bool ascending = (low & run) == 0;
        const uint64_t a = numbers[low], b = numbers[high];
        if ((a > b) == ascending) {
          numbers[low] = b;
          numbers[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace trireme::cuda
