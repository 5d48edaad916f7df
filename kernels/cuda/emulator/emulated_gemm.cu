// The Gemm library of the emulated device: what tensor cores compute, inputs in their format and
// sums in f32, one thread for each number.
#include <memory>

#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

template <class T>
__global__ void product_kernel(Product p) {
  const int64_t output = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (output >= p.outputs) return;
  const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
  const T* w = static_cast<const T*>(p.w) + output * p.w_stride;
  float sum = 0;
  for (int64_t i = 0; i < p.inputs; ++i) sum += to_float(x[i]) * to_float(w[i]);
  p.y[row * p.y_stride + output] = sum;
}

class EmulatedGemm final : public Gemm {
 public:
  bool multiply(Context& context, const Product& p) override {
    const Grid grid{
        dim3(static_cast<unsigned>(ceil_div(p.outputs, 64)), static_cast<unsigned>(p.rows)),
        dim3(64)};
    dispatch_floats(p.dtype, [&](auto zero) {
      launch(context, "product", grid, product_kernel<decltype(zero)>, p);
    });
    return true;
  }
};

}  // namespace

Result<std::unique_ptr<Gemm>> make_gemm() {
  return std::unique_ptr<Gemm>(std::make_unique<EmulatedGemm>());
}

}  // namespace trireme::cuda
