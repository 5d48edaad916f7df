// What products read and store: see ops/product.h.
#pragma once

#include "kernels/cuda/device/activation.cuh"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

// Which of `count` calls that share a grid block `block` belongs to: the last that begins at or
// before it. first(i) is the first block of call i.
template <class F>
__device__ __forceinline__ int call_of_block(int block, int count, F first) {
  int index = 0;
  while (index + 1 < count && block >= first(index + 1)) ++index;
  return index;
}

// Input `i` of a row of x.
__device__ __forceinline__ float input_of(const Call& c, const float* x, int64_t i) {
  switch (c.prologue) {
    case Prologue::kReluSquared:
      return relu_squared(x[i]);
    case Prologue::kSwiglu:
      return swiglu(x[i], x[c.inputs + i]);
    default:
      return x[i];
  }
}

// Inputs i + step n, four each, of a row of x, zeros beyond the last. kWide: rows of x and their
// numbers of inputs are whole words of four; then all are one trip to memory.
template <bool kWide, int N>
__device__ __forceinline__ void fours_of(const Call& c, const float* x, int64_t i, int step,
                                         Pack<float, 4> (&fours)[N]) {
  if (kWide && i + (N - 1) * step + 4 <= c.inputs) {
#pragma unroll
    for (int n = 0; n < N; ++n) fours[n] = load<4>(x + i + n * step);
    if (c.prologue == Prologue::kSwiglu) {
      Pack<float, 4> ups[N];
#pragma unroll
      for (int n = 0; n < N; ++n) ups[n] = load<4>(x + c.inputs + i + n * step);
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) fours[n].at[j] = swiglu(fours[n].at[j], ups[n].at[j]);
      }
    } else if (c.prologue == Prologue::kReluSquared) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) fours[n].at[j] = relu_squared(fours[n].at[j]);
      }
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t at = i + n * step + j;
      fours[n].at[j] = at < c.inputs ? input_of(c, x, at) : 0.0f;
    }
  }
}

// Numbers [at, at + kWide) of the first row of x, zeros beyond the last. aligned: rows of x begin
// on words of 16 bytes.
template <int kWide>
__device__ __forceinline__ void inputs_at(const Call& c, int64_t at, bool aligned,
                                          float (&values)[kWide]) {
  if (aligned && at + kWide <= c.inputs) {
#pragma unroll
    for (int i = 0; i < kWide; i += 4) {
      const Pack<float, 4> four = load<4>(c.x + at + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) values[i + j] = four.at[j];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) values[i] = at + i < c.inputs ? c.x[at + i] : 0.0f;
}

// The largest magnitude of a row of x. REQUIRES: all threads of the block; room for a float per
// warp at the beginning of its shared memory.
__device__ __forceinline__ float row_max(const Call& c, const float* x) {
  float largest = 0.0f;
  for (int64_t i = threadIdx.x; i < c.inputs; i += blockDim.x)
    largest = fmaxf(largest, fabsf(input_of(c, x, i)));
  return block_max(largest, shared<float>());
}

// A power of two that brings numbers up to `largest` below what f16 holds.
__device__ __forceinline__ float scale_for_f16(float largest) {
  constexpr float kRoom = 32768.0f;  // half of what f16 can hold
  float scale = 1.0f;
  while (largest * scale > kRoom && scale > 0x1p-100f) scale *= 0.5f;
  return scale;
}

// What is read where there is nothing to read.
static __device__ const float kNothing = 0.0f;

// The bias of row `row` of w, the last one's beyond it; 0 where there is none. One load behind no
// branch, so that several are one trip to memory, and whoever wants them late waits late.
__device__ __forceinline__ float bias_of(const Call& c, int64_t row) {
  const int64_t rows = c.epilogue == Epilogue::kSwiglu ? 2 * c.outputs : c.outputs;
  return *(c.bias != nullptr ? c.bias + min(row, rows - 1) : &kNothing);
}

// One number of y. REQUIRES: not kSwiglu, which takes two.
__device__ __forceinline__ float finished(const Call& c, float x) {
  return c.epilogue == Epilogue::kActivate ? activated(c.activation, x) : x;
}

// Several: which activation it is, is asked once, and their exponentials do not wait for each
// other.
template <int N>
__device__ __forceinline__ void finish(const Call& c, float (&x)[N]) {
  if (c.epilogue != Epilogue::kActivate) return;
  with_activation(c.activation, [&](auto activate) {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = activate(x[i]);
  });
}

}  // namespace trireme::cuda
