// The activations of ops.h, number by number: one formula for the ops and for what products do to
// their rows on the way.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace trireme::cuda {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float relu_squared(float x) {
  return x < 0.0f ? 0.0f : x * x;  // NaN stays NaN
}
__device__ __forceinline__ float swiglu(float gate, float up) { return gate * sigmoid(gate) * up; }

// Calls f with the formula of `kind`, from number to number.
template <class F>
__device__ __forceinline__ void with_activation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::kSigmoid:
      return f([](float x) { return sigmoid(x); });
    case Activation::kTanh:
      return f([](float x) { return tanhf(x); });
    case Activation::kSilu:
      return f([](float x) { return x * sigmoid(x); });
    case Activation::kReluSquared:
      return f([](float x) { return relu_squared(x); });
  }
}

__device__ __forceinline__ float activated(Activation kind, float x) {
  with_activation(kind, [&](auto activate) { x = activate(x); });
  return x;
}

}  // namespace trireme::cuda
