// What products read and store: see ops/product.h.
#pragma once

#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

__device__ __forceinline__ float relu_squared(float x) {
  return x < 0.0f ? 0.0f : x * x;  // NaN stays NaN
}

// Input `i` of a row of x.
__device__ __forceinline__ float input_of(const Call& c, const float* x, int64_t i) {
  switch (c.prologue) {
    case Prologue::kReluSquared:
      return relu_squared(x[i]);
    case Prologue::kSwiglu:
      return x[i] * sigmoid(x[i]) * x[c.inputs + i];
    default:
      return x[i];
  }
}

// One number of y.
__device__ __forceinline__ float finished(Epilogue epilogue, float x) {
  switch (epilogue) {
    case Epilogue::kSigmoid:
      return sigmoid(x);
    case Epilogue::kTanh:
      return tanhf(x);
    case Epilogue::kSilu:
      return x * sigmoid(x);
    case Epilogue::kReluSquared:
      return relu_squared(x);
    default:
      return x;
  }
}

}  // namespace trireme::cuda
