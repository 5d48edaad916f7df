// The door to a library of matrix products on tensor cores.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/base/weight_format.h"
#include "kernels/cuda/context.h"

namespace trireme::cuda {

// y = x transpose(w): x is [rows, inputs], w is [outputs, inputs], both of `type`; y is
// [rows, outputs] of `y_type`, sums in f32. Strides in elements, from one row to the next; data and
// strides are multiples of 16 bytes.
struct Product {
  WeightType type = WeightType::kBF16;  // kF32, kBF16, kF16 or kFp8
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* w = nullptr;
  int64_t w_stride = 0;
  DType y_type = DType::kF32;  // kF32, or kBF16 where x and w are
  void* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0, inputs = 0, outputs = 0;
  // kFp8 only: y[r][o] is multiplied by x_scales[r] * w_scales[o]. Both null: by nothing, which
  // more devices have algorithms for.
  const float* x_scales = nullptr;
  const float* w_scales = nullptr;
};

class Gemm {
 public:
  virtual ~Gemm() = default;
  // False where the library has no algorithm for these shapes; errors go to the context.
  virtual bool multiply(Context& context, const Product& product) = 0;
};

// cuBLASLt on the current device, or what stands for it on the emulated one. kUnavailable: the
// library does not start. kResourceExhausted: no memory for its workspace.
Result<std::unique_ptr<Gemm>> make_gemm();

}  // namespace trireme::cuda
