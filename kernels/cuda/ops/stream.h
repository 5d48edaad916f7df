// Products of one row, one after the other in one launch, with the norms and token shifts between
// them. RowChain (kernels/cuda/row_chain.h) collects them; stream.cu computes them.
#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

// norm() of one row, or add_norm() where there is a delta.
struct RowNorm {
  float* x;  // written where there is a delta
  const float* delta;
  float* y;
  int64_t cols;
  bool layer;  // NormKind::kLayer
  float epsilon;
  const float* gain;  // may be null
  const float* bias;  // may be null
};

// shift_mix() of the one row that a norm makes.
struct RowShift {
  Ragged rows;
  StateRows states;
  const float* mix;  // [mixes], mix_stride numbers from one to the next
  int64_t mix_stride;
  int32_t mixes;
  float* out;  // [mixes * cols]
};

// Products that do not wait for each other, and what makes their rows.
struct StreamStage {
  int32_t first_call, calls;
  bool norms, shifts;  // shifts only what norms make
  RowNorm norm;
  RowShift shift;
};

inline constexpr int kStagesMax = 6;
inline constexpr int kStreamCallsMax = 16;  // of all stages

struct Stream {
  StreamStage stages[kStagesMax];
  Call each[kStreamCallsMax];
  int8_t mix_of[kStreamCallsMax];  // of each call where its stage shifts
  int32_t stage_count, call_count;
};

// Whether the kernel runs on this GPU and takes rows of weights of so many numbers.
bool can_stream(const Context& context, DType dtype, int64_t w_stride);
// Whether a stage with such a norm can be one of products of `dtype`.
bool can_stream(DType dtype, const RowNorm& norm);

// REQUIRES: at least one stage, each with a call; of all calls one row, no prologue, weights of
// `dtype` and can_stream() of them and of norms.
void launch_stream(Context& context, DType dtype, const Stream& stream);

}  // namespace trireme::cuda
