// Runs of a step and the states of their sequences, for kernels that walk a run row by row.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/activation.cuh"
#include "kernels/ops.h"

namespace trireme::cuda {

struct Run {
  int32_t first_row;
  int32_t rows;
  bool fresh;  // begins at position 0: the state's bytes are not to be read
};

__device__ __forceinline__ Run run_of(const Ragged& rows, int sequence) {
  // In decode sequence i has row i: its position is under way together with the offsets.
  const int32_t guessed = sequence < rows.rows ? rows.positions[sequence] : 0;
  Run run;
  run.first_row = rows.offsets[sequence];
  run.rows = rows.offsets[sequence + 1] - run.first_row;
  run.fresh =
      run.rows > 0 && (run.first_row == sequence ? guessed : rows.positions[run.first_row]) == 0;
  return run;
}

// The lengths of the runs that a kernel takes. The host cannot know how long runs are: where two
// kernels share them out, both are launched, and each leaves the other's alone.
struct RunLengths {
  int32_t least = 1;
  int32_t most = INT32_MAX;
  __device__ bool hold(const Run& run) const { return run.rows >= least && run.rows <= most; }
};

// How the kernels of an op share out the runs of a step: runs of fewer than `least` rows to one
// that walks them row by row, the others to one that takes them in chunks. Known from what a
// recorded step has in common with its replays: a step of as many rows as sequences is one of
// decode and needs the former only, whatever its runs are.
struct RunShares {
  bool chunks;
  RunLengths by_row, by_chunk;
};
inline RunShares share_runs(const Ragged& rows, int32_t least) {
  const bool chunks = rows.rows != rows.sequences && rows.rows >= least;
  return {chunks, {1, chunks ? least - 1 : INT32_MAX}, {least, INT32_MAX}};
}

// A sequence's state. In a step one kernel reads and writes what lies there, and before that only
// earlier steps and copies did, all of which have ended when the step's first kernel begins: a
// kernel may read the state before previous_done(). It writes it afterwards: the base is null where
// a sequence has no rows.
__device__ __forceinline__ float* state_of(const StateRows& states, int sequence) {
  std::byte* base = states.base[sequence];
#ifdef __CUDA_ARCH__
  // A pointer that comes from memory could point anywhere: loads that may be from shared memory.
  __builtin_assume(__isGlobal(base));
#endif
  return reinterpret_cast<float*>(base + states.offset);
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

// Whether rows of floats that lie so begin on words of four.
inline bool aligned4(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 4 == 0;
}

// Whether all rows of all of x can be read four floats at a time, from columns that are a multiple
// of four on.
template <class... X>
bool all_aligned4(const X&... x) {
  const auto aligned = [](const ConstTensorView& y) {
    return aligned4(y.data, y.row_stride) && y.cols % 4 == 0;
  };
  return (aligned(x) && ...);
}

}  // namespace trireme::cuda
