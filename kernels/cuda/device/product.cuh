// What products read and store: see ops/product.h.
#pragma once

#include "kernels/cuda/device/activation.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

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

// One number of y. REQUIRES: not kSwiglu, which takes two.
__device__ __forceinline__ float finished(const Call& c, float x) {
  return c.epilogue == Epilogue::kActivate ? activated(c.activation, x) : x;
}

}  // namespace trireme::cuda
