// Runs of a step and the states of their sequences, for kernels that walk a run row by row.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

struct Run {
  int32_t first_row;
  int32_t rows;
  bool fresh;  // begins at position 0: the state's bytes are not to be read
};

__device__ __forceinline__ Run run_of(const Ragged& rows, int sequence) {
  Run run;
  run.first_row = rows.offsets[sequence];
  run.rows = rows.offsets[sequence + 1] - run.first_row;
  run.fresh = run.rows > 0 && rows.positions[run.first_row] == 0;
  return run;
}

__device__ __forceinline__ float* state_of(const StateRows& states, int sequence) {
  return reinterpret_cast<float*>(states.base[sequence] + states.offset);
}

// A matrix of f32 rows as kernels see it.
struct Matrix32 {
  const float* data;
  int64_t stride;
  __device__ const float* row(int64_t r) const { return data + r * stride; }
};
struct MatrixOut32 {
  float* data;
  int64_t stride;
  __device__ float* row(int64_t r) const { return data + r * stride; }
};
inline Matrix32 matrix(const ConstTensorView& x) {
  return {static_cast<const float*>(x.data), x.row_stride};
}
inline MatrixOut32 matrix(const TensorView& x) {
  return {static_cast<float*>(x.data), x.row_stride};
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

}  // namespace trireme::cuda
