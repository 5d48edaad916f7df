// The Gemm library of the emulated device: what tensor cores compute, inputs in their format and
// sums in f32, one thread for each number. It lets the next kernel begin early, as a library might.
// Of fp8 it refuses what cuBLASLt refuses.
#include <memory>

#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

struct F8 {
  uint8_t bits;
};
float number_of(F8 x) { return f8_to_f32(x.bits); }
template <class T>
float number_of(T x) {
  return to_float(x);
}

template <class T, class Y>
__global__ void product_kernel(Product p) {
  next_may_start();
  const int64_t output = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (output >= p.outputs) return;
  const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
  const T* w = static_cast<const T*>(p.w) + output * p.w_stride;
  float sum = 0;
  for (int64_t i = 0; i < p.inputs; ++i) sum += number_of(x[i]) * number_of(w[i]);
  if (p.x_scales != nullptr) sum *= p.x_scales[row] * p.w_scales[output];
  static_cast<Y*>(p.y)[row * p.y_stride + output] = from_float<Y>(sum);
}

class EmulatedGemm final : public Gemm {
 public:
  bool multiply(Context& context, const Product& p) override {
    const Grid grid{
        dim3(static_cast<unsigned>(ceil_div(p.outputs, 64)), static_cast<unsigned>(p.rows)),
        dim3(64)};
    if (p.type == WeightType::kFp8) {
      if (p.inputs % 16 != 0 || p.outputs % 16 != 0) return false;
      launch(context, "product", grid, product_kernel<F8, float>, p);
    } else if (p.y_type == DType::kBF16) {
      CHECK(p.type == WeightType::kBF16) << "a product in bf16 of other numbers";
      launch(context, "product", grid, product_kernel<Bf16, Bf16>, p);
    } else {
      dispatch_floats(WeightFormat(p.type, 0).dtype(), [&](auto zero) {
        launch(context, "product", grid, product_kernel<decltype(zero), float>, p);
      });
    }
    return true;
  }
};

}  // namespace

Result<std::unique_ptr<Gemm>> make_gemm() {
  return std::unique_ptr<Gemm>(std::make_unique<EmulatedGemm>());
}

}  // namespace trireme::cuda
