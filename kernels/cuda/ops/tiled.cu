// The plain product: for shapes that the library has no algorithm for, and what it is checked
// against.
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

// A block of 16 x 16 threads computes 64 rows x 64 outputs from tiles of 16 inputs.
constexpr int kTile = 64;
constexpr int kTileInputs = 16;
constexpr int kEach = 4;  // rows, and outputs, of a thread

template <class W>
__global__ void tiled_kernel(Call c) {
  const W* w = static_cast<const W*>(c.w);
  float* x_tile = shared<float>();                     // [kTileInputs][kTile + 1]
  float* w_tile = x_tile + kTileInputs * (kTile + 1);  // the same
  const int column = static_cast<int>(threadIdx.x) % 16, line = static_cast<int>(threadIdx.x) / 16;
  const int64_t first_output = int64_t{blockIdx.x} * kTile, first_row = int64_t{blockIdx.y} * kTile;
  float sums[kEach][kEach] = {};
  for (int64_t k = 0; k < c.inputs; k += kTileInputs) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTileInputs; i += 256) {
      const int input = i % kTileInputs, at = i / kTileInputs;
      const bool inside = k + input < c.inputs;
      const int64_t row = first_row + at, output = first_output + at;
      x_tile[input * (kTile + 1) + at] =
          inside && row < c.rows ? input_of(c, c.x + row * c.x_stride, k + input) : 0.0f;
      w_tile[input * (kTile + 1) + at] =
          inside && output < c.outputs ? to_float(w[output * c.w_stride + k + input]) : 0.0f;
    }
    __syncthreads();
    for (int input = 0; input < kTileInputs; ++input) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j)
          sums[i][j] = fmaf(x_tile[input * (kTile + 1) + line + 16 * i],
                            w_tile[input * (kTile + 1) + column + 16 * j], sums[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t row = first_row + line + 16 * i;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t output = first_output + column + 16 * j;
      if (row < c.rows && output < c.outputs)
        c.y[row * c.y_stride + output] =
            finished(c, sums[i][j] + (c.bias == nullptr ? 0.0f : c.bias[output]));
    }
  }
}

}  // namespace

void tiled_product(Context& context, DType dtype, const Call& c) {
  const Grid grid{dim3(static_cast<unsigned>(ceil_div(c.outputs, kTile)),
                       static_cast<unsigned>(ceil_div(c.rows, kTile))),
                  dim3(256), 2 * kTileInputs * (kTile + 1) * sizeof(float)};
  dispatch_floats(
      dtype, [&](auto zero) { launch(context, "linear", grid, tiled_kernel<decltype(zero)>, c); });
}

}  // namespace trireme::cuda
