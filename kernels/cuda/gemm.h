// The door to a library of matrix products on tensor cores.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/base/dtype.h"
#include "kernels/cuda/context.h"

namespace trireme::cuda {

// y = x transpose(w): x is [rows, inputs], w is [outputs, inputs], both of `dtype`; y is
// [rows, outputs] f32, sums in f32. Strides in elements, from one row to the next; data and strides
// are multiples of 16 bytes.
struct Product {
  DType dtype = DType::kBF16;
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* w = nullptr;
  int64_t w_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0, inputs = 0, outputs = 0;
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
