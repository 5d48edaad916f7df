// Feed-forward nets of many rows whose inner numbers are bf16 from product to product, so that
// they move 6 bytes each between the two instead of 14.
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // numbers of one word

// A row of `inner`: what the first product has made, then what becomes of it.
struct Inner {
  Bf16* data;
  int64_t stride;
  int64_t made;    // numbers of a row
  int64_t inputs;  // of the second product
};

// A thread has kEach numbers of a row.
template <bool kGated>
__global__ void activate_kernel(const Inner inner) {
  next_may_start();
  previous_done();
  const int64_t first = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kEach;
  if (first >= inner.inputs) return;
  Bf16* row = inner.data + int64_t{blockIdx.x} * inner.stride;
  float values[kEach];
  to_floats(load<kEach>(row + first), values);
  if constexpr (kGated) {
    float up[kEach];
    to_floats(load<kEach>(row + inner.inputs + first), up);
#pragma unroll
    for (int i = 0; i < kEach; ++i) values[i] = swiglu(values[i], up[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) values[i] = relu_squared(values[i]);
  }
  store_out<kEach>(row + inner.made + first, rounded<Bf16>(values));
}

}  // namespace

bool library_feed_forward(Context& context, Gemm& gemm, FeedForward kind, const Call& up,
                          const Call& down) {
  // The memory of `inner` has 4 bytes for each number of the first product; the two need 2 and at
  // most 2.
  const Inner inner{reinterpret_cast<Bf16*>(up.y), 2 * up.y_stride, up.outputs, down.inputs};
  if (up.bias != nullptr || !aligned4(up.y, up.y_stride) || !aligned4(down.y, down.y_stride) ||
      inner.inputs % kEach != 0)
    return false;
  Narrow first{up, nullptr, 0, nullptr, nullptr};
  if (narrow_rows(context, DType::kBF16, {&first, 1}, 0) == nullptr) return true;  // an error
  Product p = product_of(first, DType::kBF16);
  p.y_type = DType::kBF16;
  p.y_stride = inner.stride;
  if (!gemm.multiply(context, p)) return false;
  const Grid grid{dim3(static_cast<unsigned>(up.rows),
                       static_cast<unsigned>(ceil_div(inner.inputs, kThreads * kEach))),
                  dim3(kThreads), 0, true};
  launch(context, "feed_forward", grid,
         kind == FeedForward::kSwiglu ? activate_kernel<true> : activate_kernel<false>, inner);
  const Narrow second{down, inner.data + inner.made, inner.stride, nullptr, nullptr};
  if (!gemm.multiply(context, product_of(second, DType::kBF16))) return false;
  finish_products(context, {&second, 1});
  return true;
}

}  // namespace trireme::cuda
