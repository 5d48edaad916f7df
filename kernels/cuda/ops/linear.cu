// Matrix products. Few rows: the weights are read once, straight into fused multiply-adds, and the
// time is that of reading them. Many rows: tensor cores, through the Gemm library; without one, a
// plain tiled kernel, which is also what the library is checked against.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

// Up to so many rows of x the weights are streamed past all of them. Beyond, their products cost
// more than the reading, and tensor cores win.
constexpr int64_t kStreamedRows = 8;

struct Call {
  const float* x;
  int64_t x_stride;
  const float* bias;  // may be null
  float* y;
  int64_t y_stride;
  int64_t rows, inputs, outputs;
};

// ---- few rows ----
//
// A warp computes kOutputs outputs of kRows rows; a lane reads 16 bytes of each weight row at a
// time, kUnroll of them before it uses the first, so that enough reads are under way. With kSplit,
// all warps of a block share the same outputs and each takes a part of the inputs: for matrices
// with too few rows to fill the device.
constexpr int kStreamWarps = 8;
constexpr int kOutputs = 2;

template <class W, int kRows, bool kAlignedX, bool kSplit>
__global__ void __launch_bounds__(kStreamWarps* kWarpSize)
    stream_kernel(const W* w, int64_t w_stride, Call c) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(W));
  constexpr int kUnroll = kRows <= 2 ? 4 : 2;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t group = kSplit ? int64_t{blockIdx.x} : int64_t{blockIdx.x} * kStreamWarps + warp;
  const int64_t first_output = group * kOutputs;
  const bool any = first_output < c.outputs;
  float sums[kOutputs][kRows] = {};
  if (any) {
    const W* rows_of_w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      // The last group may be short: it computes its last row again and stores it once.
      const int64_t output = first_output + o < c.outputs ? first_output + o : c.outputs - 1;
      rows_of_w[o] = w + output * w_stride;
    }
    constexpr int64_t kStep = int64_t{kWarpSize} * kWide;
    const int64_t stride = kSplit ? kStep * kStreamWarps : kStep;
    int64_t k = (kSplit ? warp * kStep : 0) + lane * kWide;
    for (; k < c.inputs; k += stride * kUnroll) {
      Pack<W, kWide> packs[kUnroll][kOutputs];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) {
          const int64_t at = k + u * stride;
          if (at < c.inputs) packs[u][o] = load<kWide>(rows_of_w[o] + at);
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t at = k + u * stride;
        if (at >= c.inputs) break;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const float* x = c.x + r * c.x_stride + at;
          float values[kWide];
          if (kAlignedX && at + kWide <= c.inputs) {
#pragma unroll
            for (int i = 0; i < kWide; i += 4) {
              const Pack<float, 4> four = load<4>(x + i);
#pragma unroll
              for (int j = 0; j < 4; ++j) values[i + j] = four.at[j];
            }
          } else {
#pragma unroll
            for (int i = 0; i < kWide; ++i) values[i] = at + i < c.inputs ? x[i] : 0.0f;
          }
#pragma unroll
          for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
            for (int i = 0; i < kWide; ++i)
              sums[o][r] = fmaf(to_float(packs[u][o].at[i]), values[i], sums[o][r]);
          }
        }
      }
    }
  }
  float* partial = shared<float>();
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = kSplit ? block_sum(sums[o][r], partial) : warp_sum(sums[o][r]);
      const int64_t output = first_output + o;
      if ((kSplit ? threadIdx.x : static_cast<unsigned>(lane)) == 0 && output < c.outputs)
        c.y[r * c.y_stride + output] = sum + (c.bias == nullptr ? 0.0f : c.bias[output]);
    }
  }
}

template <class W, int kRows>
void stream_rows(Context& context, const W* w, int64_t w_stride, const Call& c) {
  const bool aligned = reinterpret_cast<uintptr_t>(c.x) % 16 == 0 && c.x_stride % 4 == 0;
  const int64_t groups = ceil_div(c.outputs, kOutputs);
  const bool split = groups < int64_t{4} * context.multiprocessors() * kStreamWarps / 2;
  const Grid grid{dim3(static_cast<unsigned>(split ? groups : ceil_div(groups, kStreamWarps))),
                  dim3(kStreamWarps * kWarpSize), kStreamWarps * sizeof(float)};
  if (split) {
    launch(context, "linear", grid,
           aligned ? stream_kernel<W, kRows, true, true> : stream_kernel<W, kRows, false, true>, w,
           w_stride, c);
  } else {
    launch(context, "linear", grid,
           aligned ? stream_kernel<W, kRows, true, false> : stream_kernel<W, kRows, false, false>,
           w, w_stride, c);
  }
}

template <class W>
void stream(Context& context, const W* w, int64_t w_stride, const Call& c) {
  switch (c.rows) {
    case 1:
      return stream_rows<W, 1>(context, w, w_stride, c);
    case 2:
      return stream_rows<W, 2>(context, w, w_stride, c);
    case 3:
      return stream_rows<W, 3>(context, w, w_stride, c);
    case 4:
      return stream_rows<W, 4>(context, w, w_stride, c);
    default:
      break;
  }
  Call first = c, rest = c;
  first.rows = 4;
  rest.rows -= 4;
  rest.x += 4 * c.x_stride;
  rest.y += 4 * c.y_stride;
  stream<W>(context, w, w_stride, first);
  stream<W>(context, w, w_stride, rest);
}

// ---- many rows, plain ----
//
// A block of 16 x 16 threads computes 64 rows x 64 outputs from tiles of 16 inputs.
constexpr int kTile = 64;
constexpr int kTileInputs = 16;
constexpr int kEach = 4;  // rows, and outputs, of a thread

template <class W>
__global__ void tiled_kernel(const W* w, int64_t w_stride, Call c) {
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
          inside && row < c.rows ? c.x[row * c.x_stride + k + input] : 0.0f;
      w_tile[input * (kTile + 1) + at] =
          inside && output < c.outputs ? to_float(w[output * w_stride + k + input]) : 0.0f;
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
        c.y[row * c.y_stride + output] = sums[i][j] + (c.bias == nullptr ? 0.0f : c.bias[output]);
    }
  }
}

template <class W>
void tiled(Context& context, const W* w, int64_t w_stride, const Call& c) {
  launch(context, "linear",
         {dim3(static_cast<unsigned>(ceil_div(c.outputs, kTile)),
               static_cast<unsigned>(ceil_div(c.rows, kTile))),
          dim3(256), 2 * kTileInputs * (kTile + 1) * sizeof(float)},
         tiled_kernel<W>, w, w_stride, c);
}

// ---- many rows, on tensor cores ----

// A block for each row: y = x in the weights' format. A row whose largest number would leave f16 is
// divided by a power of two, which `scales` keeps; bf16 has the range of f32.
template <class W>
__global__ void narrow_kernel(const float* x, int64_t x_stride, int64_t cols, W* y,
                              int64_t y_stride, float* scales) {
  const int64_t row = blockIdx.x;
  x += row * x_stride;
  y += row * y_stride;
  float scale = 1.0f;
  if (scales != nullptr) {
    float* partial = shared<float>();
    float largest = 0.0f;
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) largest = fmaxf(largest, fabsf(x[i]));
    largest = warp_max(largest);
    if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = largest;
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    largest = warp_max(lane < static_cast<int>(blockDim.x) / kWarpSize ? partial[lane] : 0.0f);
    constexpr float kRoom = 32768.0f;  // half of what f16 can hold
    while (largest * scale > kRoom && scale > 0x1p-100f) scale *= 0.5f;
    if (threadIdx.x == 0) scales[row] = 1.0f / scale;
  }
  for (int64_t i = threadIdx.x; i < y_stride; i += blockDim.x)
    y[i] = from_float<W>(i < cols ? x[i] * scale : 0.0f);
}

// y = y * scale of the row + bias.
__global__ void finish_kernel(float* y, int64_t y_stride, int64_t cols, const float* scales,
                              const float* bias) {
  const int64_t row = blockIdx.x;
  const int64_t col = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  float* at = y + row * y_stride + col;
  const float scale = scales == nullptr ? 1.0f : scales[row];
  if (scale == 1.0f && bias == nullptr) return;
  *at = *at * scale + (bias == nullptr ? 0.0f : bias[col]);
}

bool aligned16(const void* data, int64_t stride, int64_t element_bytes) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * element_bytes % 16 == 0;
}

template <class W>
bool library(Context& context, Gemm& gemm, DType dtype, const W* w, int64_t w_stride,
             const Call& c) {
  if (!aligned16(c.y, c.y_stride, sizeof(float))) return false;
  Product p;
  p.dtype = dtype;
  p.w = w;
  p.w_stride = w_stride;
  p.y = c.y;
  p.y_stride = c.y_stride;
  p.rows = c.rows;
  p.inputs = c.inputs;
  p.outputs = c.outputs;
  float* scales = nullptr;
  if (dtype == DType::kF32 && aligned16(c.x, c.x_stride, sizeof(float))) {
    p.x = c.x;
    p.x_stride = c.x_stride;
  } else {
    p.x_stride = weight_stride(c.inputs);
    const size_t x_bytes = static_cast<size_t>(c.rows * p.x_stride) * sizeof(W);
    auto* scratch = static_cast<std::byte*>(
        context.scratch(x_bytes + static_cast<size_t>(c.rows) * sizeof(float)));
    if (scratch == nullptr) return true;  // the context holds the error
    if (dtype == DType::kF16) scales = reinterpret_cast<float*>(scratch + x_bytes);
    p.x = scratch;
    launch(context, "linear",
           {dim3(static_cast<unsigned>(c.rows)), dim3(256), kWarpSize * sizeof(float)},
           narrow_kernel<W>, c.x, c.x_stride, c.inputs, reinterpret_cast<W*>(scratch), p.x_stride,
           scales);
  }
  if (!gemm.multiply(context, p)) return false;
  if (scales != nullptr || c.bias != nullptr) {
    launch(context, "linear",
           {dim3(static_cast<unsigned>(c.rows), static_cast<unsigned>(ceil_div(c.outputs, 256))),
            dim3(256)},
           finish_kernel, c.y, c.y_stride, c.outputs, scales, c.bias);
  }
  return true;
}

}  // namespace

void CudaOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  if (x.rows == 0 || w.rows == 0) return;
  Call call;
  call.x = static_cast<const float*>(x.data);
  call.x_stride = x.row_stride;
  call.bias = w.bias.empty() ? nullptr : static_cast<const float*>(w.bias.data);
  call.y = static_cast<float*>(y.data);
  call.y_stride = y.row_stride;
  call.rows = x.rows;
  call.inputs = w.cols;
  call.outputs = w.rows;
  const int64_t stride = weight_stride(w.cols);
  dispatch_floats(w.dtype, [&](auto zero) {
    using W = decltype(zero);
    const auto* weights = static_cast<const W*>(w.data);
    if (call.rows <= kStreamedRows) return stream<W>(context_, weights, stride, call);
    if (gemm_ != nullptr && library<W>(context_, *gemm_, w.dtype, weights, stride, call)) return;
    tiled<W>(context_, weights, stride, call);
  });
}

}  // namespace trireme::cuda
