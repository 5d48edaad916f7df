// The number formats of weights and caches on a CUDA device, and how a weight's rows lie.
#pragma once

#include <cstdint>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"

namespace trireme::cuda {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

// Elements from one row of a weight to the next: rows begin on words of 16 bytes, whatever the
// columns; what lies between is zero.
constexpr int64_t weight_stride(int64_t cols) { return (cols + 7) / 8 * 8; }

// f(a value of the C++ type of `dtype`), which is kBF16 or kF16: what tensor cores take.
template <class F>
void dispatch_16_bits(DType dtype, F f) {
  CHECK(dtype == DType::kBF16 || dtype == DType::kF16) << "no kernel for " << dtype_name(dtype);
  return dtype == DType::kBF16 ? f(Bf16{}) : f(F16{});
}

// f(a value of the C++ type of `dtype`), which is kF32, kBF16 or kF16.
template <class F>
void dispatch_floats(DType dtype, F f) {
  switch (dtype) {
    case DType::kF32:
      return f(float{});
    case DType::kBF16:
      return f(Bf16{});
    case DType::kF16:
      return f(F16{});
    default:
      CHECK(false) << "no kernel for " << dtype_name(dtype);
  }
}

}  // namespace trireme::cuda
