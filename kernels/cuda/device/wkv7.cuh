// RWKV-7's formulas (ops.h) for what a lane holds of a head: what the kernels share that do one of
// them and the kernel that does all. A head lies in kLanes neighbouring lanes, 4 channels in each.
#pragma once

#include <optional>

#include <cuda_runtime.h>

#include "kernels/cuda/device/activation.cuh"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/ops.h"

namespace trireme::cuda {

template <int kLanes>
__device__ __forceinline__ float head_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  return x;
}

// ---- before the recurrence ----

__device__ __forceinline__ float wkv7_decay(float w) {
  constexpr float kMost = 0.60653066f;  // exp(-1/2)
  return expf(-kMost * sigmoid(w));
}
__device__ __forceinline__ float wkv7_value(float v, float v_first, float v_gate) {
  return fmaf(v_first - v, sigmoid(v_gate), v);
}
// What kk is divided by, as a factor.
__device__ __forceinline__ float wkv7_inverse_length(float squares) {
  return 1.0f / fmaxf(sqrtf(squares), 1e-12f);
}

// What becomes of k; `al`: sigmoid(a).
struct Wkv7Keys {
  Pack<float, 4> a, b, k;
};
template <int kLanes>
__device__ __forceinline__ Wkv7Keys wkv7_keys(const Pack<float, 4>& al, const Pack<float, 4>& k,
                                              const Pack<float, 4>& k_k,
                                              const Pack<float, 4>& k_a) {
  Pack<float, 4> kk;
  float squares = 0.0f;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    kk.at[e] = k.at[e] * k_k.at[e];
    squares = fmaf(kk.at[e], kk.at[e], squares);
  }
  const float inverse = wkv7_inverse_length(head_sum<kLanes>(squares));
  Wkv7Keys out;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float unit = kk.at[e] * inverse;
    out.a.at[e] = -unit;
    out.b.at[e] = unit * al.at[e];
    out.k.at[e] = k.at[e] * fmaf(al.at[e] - 1.0f, k_a.at[e], 1.0f);
  }
  return out;
}

// ---- a row of the recurrence ----
//
// Of a head of 64. The lanes hold the keys, and each 8 values of the state: sums over keys are
// folds over 16 lanes, 8 shuffles for S a, 8 to tell all lanes, 8 for S r.
namespace wkv7_rows {

using Four = Pack<float, 4>;

inline constexpr int kDim = 64, kKeyLanes = kDim / 4, kValuesEach = 8;

struct Row {
  Four r, w, k, a, b, v[kValuesEach / 4];
};

// What S r is for value lane % 16 / 2 of this thread's 8.
__device__ __forceinline__ float advance(const Row& x, int lane, Four (&state)[kValuesEach]) {
  float sums[kValuesEach];
#pragma unroll
  for (int i = 0; i < kValuesEach; ++i) {
    sums[i] = 0.0f;
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[i] = fmaf(state[i].at[e], x.a.at[e], sums[i]);
  }
  fold_sums<kKeyLanes, kValuesEach>(sums, lane);
  const float mine = sums[0];
#pragma unroll
  for (int i = 0; i < kValuesEach; ++i) {
    const float sa = __shfl_sync(kWholeWarp, mine, 2 * i, kKeyLanes);
    const float v = x.v[i / 4].at[i % 4];
    sums[i] = 0.0f;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& s = state[i].at[e];
      s = fmaf(s, x.w.at[e], fmaf(sa, x.b.at[e], v * x.k.at[e]));
      sums[i] = fmaf(s, x.r.at[e], sums[i]);
    }
  }
  fold_sums<kKeyLanes, kValuesEach>(sums, lane);
  return sums[0];
}

}  // namespace wkv7_rows

// ---- after it ----

// The norm of each head.
struct HeadNorm {
  bool layer;  // NormKind::kLayer
  float epsilon;
  const float *gain, *bias;  // [heads * head_dim], or null
};
// No value where heads share parameters, or these do not lie on words of four.
inline std::optional<HeadNorm> norm_of_heads(const NormArgs& args, int64_t cols) {
  for (const ConstTensorView& x : {args.gain, args.bias})
    if (!x.empty() && (x.cols != cols || !all_aligned4(x))) return std::nullopt;
  const auto floats = [](const ConstTensorView& x) {
    return x.empty() ? nullptr : static_cast<const float*>(x.data);
  };
  return HeadNorm{args.kind == NormKind::kLayer, args.epsilon, floats(args.gain),
                  floats(args.bias)};
}

// Of a head's outputs: two sums, the first of which NormKind::kRms does without.
struct HeadMoments {
  float mean, inverse;  // 1 / sqrt(var + epsilon)
  __device__ float normalised(float y, float gain, float bias) const {
    return fmaf((y - mean) * inverse, gain, bias);
  }
};
template <int kLanes>
__device__ __forceinline__ HeadMoments moments_of_head(const HeadNorm& norm,
                                                       const Pack<float, 4>& y) {
  constexpr auto kDim = static_cast<float>(4 * kLanes);
  float mean = 0.0f, squares = 0.0f;
  if (norm.layer) mean = head_sum<kLanes>(y.at[0] + y.at[1] + y.at[2] + y.at[3]) / kDim;
#pragma unroll
  for (int e = 0; e < 4; ++e) squares = fmaf(y.at[e] - mean, y.at[e] - mean, squares);
  return {mean, 1.0f / sqrtf(head_sum<kLanes>(squares) / kDim + norm.epsilon)};
}

// sum_j r_j k_j r_k_j
template <int kLanes>
__device__ __forceinline__ float wkv7_bonus(const Pack<float, 4>& r, const Pack<float, 4>& k,
                                            const Pack<float, 4>& r_k) {
  float bonus = 0.0f;
#pragma unroll
  for (int e = 0; e < 4; ++e) bonus = fmaf(r.at[e] * k.at[e], r_k.at[e], bonus);
  return head_sum<kLanes>(bonus);
}
__device__ __forceinline__ float wkv7_finished(float y, float bonus, float v, float g) {
  return fmaf(bonus, v, y) * g;
}

}  // namespace trireme::cuda
