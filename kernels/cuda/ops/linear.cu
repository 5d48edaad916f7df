// Matrix products. Few rows: the weights are read once, straight into fused multiply-adds, and the
// time is that of reading them. Many rows: tensor cores, through the Gemm library; without one, a
// plain tiled kernel, which is also what the library is checked against.
#include <optional>
#include <span>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

// Up to so many rows of x the weights are streamed past all of them. Beyond, their products cost
// more than the reading, and tensor cores win.
constexpr int64_t kStreamedRows = 8;

// What becomes of a product before it is stored.
enum class Epilogue : uint8_t { kNone, kSigmoid, kTanh, kSilu, kReluSquared, kSwiglu };

struct Call {
  const void* w;
  int64_t w_stride;
  const float* x;
  int64_t x_stride;
  const float* bias;  // may be null
  float* y;
  int64_t y_stride;
  int64_t rows, inputs, outputs;
  Epilogue epilogue;
  // kSwiglu: rows 0 to outputs of w are the gates, the same number after them the values.
};

// ---- few rows ----
//
// A warp computes two outputs of kRows rows; a lane reads 16 bytes of each weight row at a time,
// kUnroll of them before it uses the first, so that enough reads are under way: 8 warps of 32 lanes
// times 8 reads of 16 bytes are 32 KB for a block, and two blocks of a multiprocessor cover what
// 4.3 TB/s owe to a latency of 0.6 us. With kSplit, all warps of a block share the same outputs and
// each takes a part of the inputs: for matrices with too few rows to fill the device.
//
// Products that do not wait for each other go in one launch: the small matrices of a low-rank
// layer, which alone would leave most of the device idle, are read while larger ones are.
constexpr int kStreamWarps = 8;
constexpr int kOutputs = 2;
constexpr int kCallsMax = 8;

struct Calls {
  Call each[kCallsMax];
  int32_t first_block[kCallsMax + 1];  // of each, and of all together
  int32_t count;
};

__device__ __forceinline__ float finished(Epilogue epilogue, float x) {
  switch (epilogue) {
    case Epilogue::kSigmoid:
      return sigmoid(x);
    case Epilogue::kTanh:
      return tanhf(x);
    case Epilogue::kSilu:
      return x * sigmoid(x);
    case Epilogue::kReluSquared:
      return x < 0.0f ? 0.0f : x * x;
    default:
      return x;
  }
}

// sums[o][r] += the lane's part of row r of x times row o of w. The first weights are asked for
// before the kernel before has ended.
template <class W, int kRows, bool kAlignedX>
__device__ __forceinline__ void stream(const W* const (&w)[kOutputs], const Call& c, int64_t k,
                                       int64_t stride, float (&sums)[kOutputs][kRows]) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(W));
  constexpr int kUnroll = kRows <= 2 ? 4 : 2;
  for (bool waited = false; k < c.inputs; k += stride * kUnroll) {
    Pack<W, kWide> packs[kUnroll][kOutputs];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        if (k + u * stride < c.inputs) packs[u][o] = load<kWide>(w[o] + k + u * stride);
      }
    }
    if (!waited) previous_done();
    waited = true;
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

template <class W, int kRows, bool kAlignedX, bool kSplit>
__global__ void __launch_bounds__(kStreamWarps* kWarpSize)
    stream_kernel(const __grid_constant__ Calls calls) {
  next_may_start();
  int index = 0;
  while (index + 1 < calls.count && static_cast<int>(blockIdx.x) >= calls.first_block[index + 1])
    ++index;
  const Call& c = calls.each[index];
  const int64_t block = static_cast<int>(blockIdx.x) - calls.first_block[index];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t group = kSplit ? block : block * kStreamWarps + warp;
  const bool gated = c.epilogue == Epilogue::kSwiglu;
  const int64_t first = gated ? group : group * kOutputs;  // output, and row of w
  const int64_t next = gated ? c.outputs : 1;              // rows of w between the two
  const int64_t w_rows = gated ? 2 * c.outputs : c.outputs;
  float sums[kOutputs][kRows] = {};
  if (first < c.outputs) {
    const W* w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      // The last group may be short: it computes its last row again and stores it once.
      const int64_t row = first + o * next < w_rows ? first + o * next : w_rows - 1;
      w[o] = static_cast<const W*>(c.w) + row * c.w_stride;
    }
    constexpr int64_t kStep = int64_t{kWarpSize} * (16 / static_cast<int>(sizeof(W)));
    stream<W, kRows, kAlignedX>(w, c, (kSplit ? warp * kStep : 0) + lane * (kStep / kWarpSize),
                                kSplit ? kStep * kStreamWarps : kStep, sums);
  }
  float* partial = shared<float>();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float values[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      values[o] = kSplit ? block_sum(sums[o][r], partial) : warp_sum(sums[o][r]);
      if (c.bias != nullptr && first + o * next < w_rows) values[o] += c.bias[first + o * next];
    }
    if ((kSplit ? static_cast<int>(threadIdx.x) : lane) != 0 || first >= c.outputs) continue;
    float* y = c.y + r * c.y_stride + first;
    if (gated) {
      *y = values[0] * sigmoid(values[0]) * values[1];
      continue;
    }
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (first + o < c.outputs) y[o] = finished(c.epilogue, values[o]);
    }
  }
}

// REQUIRES: all calls have kRows rows and weights of W.
template <class W, int kRows>
void stream_calls(Context& context, std::span<const Call> each) {
  Calls calls{};
  calls.count = static_cast<int32_t>(each.size());
  bool aligned = true;
  int64_t groups = 0;
  const auto groups_of = [](const Call& c) {
    return c.epilogue == Epilogue::kSwiglu ? c.outputs : ceil_div(c.outputs, kOutputs);
  };
  for (const Call& c : each) {
    aligned = aligned && reinterpret_cast<uintptr_t>(c.x) % 16 == 0 && c.x_stride % 4 == 0;
    groups += groups_of(c);
  }
  // Two warps for each of a multiprocessor's four schedulers keep it reading.
  const bool split = groups < int64_t{kStreamWarps} * context.multiprocessors();
  int64_t blocks = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    calls.each[i] = each[i];
    blocks += split ? groups_of(each[i]) : ceil_div(groups_of(each[i]), kStreamWarps);
    calls.first_block[i + 1] = static_cast<int32_t>(blocks);
  }
  const Grid grid{dim3(static_cast<unsigned>(blocks)), dim3(kStreamWarps * kWarpSize),
                  kWarpSize * sizeof(float), true};
  if (split) {
    launch(context, "linear", grid,
           aligned ? stream_kernel<W, kRows, true, true> : stream_kernel<W, kRows, false, true>,
           calls);
  } else {
    launch(context, "linear", grid,
           aligned ? stream_kernel<W, kRows, true, false> : stream_kernel<W, kRows, false, false>,
           calls);
  }
}

// REQUIRES: all calls have the same number of rows, at most kStreamedRows, and weights of W.
template <class W>
void stream_rows(Context& context, std::span<const Call> each) {
  switch (each.front().rows) {
    case 1:
      return stream_calls<W, 1>(context, each);
    case 2:
      return stream_calls<W, 2>(context, each);
    case 3:
      return stream_calls<W, 3>(context, each);
    case 4:
      return stream_calls<W, 4>(context, each);
    default:
      break;
  }
  Call first[kCallsMax], rest[kCallsMax];
  for (size_t i = 0; i < each.size(); ++i) {
    first[i] = rest[i] = each[i];
    first[i].rows = 4;
    rest[i].rows -= 4;
    rest[i].x += 4 * each[i].x_stride;
    rest[i].y += 4 * each[i].y_stride;
  }
  stream_rows<W>(context, {first, each.size()});
  stream_rows<W>(context, {rest, each.size()});
}

// ---- many rows, plain ----
//
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
          inside && row < c.rows ? c.x[row * c.x_stride + k + input] : 0.0f;
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
        c.y[row * c.y_stride + output] = sums[i][j] + (c.bias == nullptr ? 0.0f : c.bias[output]);
    }
  }
}

template <class W>
void tiled(Context& context, const Call& c) {
  launch(context, "linear",
         {dim3(static_cast<unsigned>(ceil_div(c.outputs, kTile)),
               static_cast<unsigned>(ceil_div(c.rows, kTile))),
          dim3(256), 2 * kTileInputs * (kTile + 1) * sizeof(float)},
         tiled_kernel<W>, c);
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

// y = epilogue(y * scale of the row + bias).
__global__ void finish_kernel(Call c, const float* scales) {
  const int64_t row = blockIdx.x;
  const int64_t col = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (col >= c.outputs) return;
  float* at = c.y + row * c.y_stride + col;
  const float scale = scales == nullptr ? 1.0f : scales[row];
  *at = finished(c.epilogue, *at * scale + (c.bias == nullptr ? 0.0f : c.bias[col]));
}

void finish(Context& context, const Call& c, const float* scales) {
  launch(context, "linear",
         {dim3(static_cast<unsigned>(c.rows), static_cast<unsigned>(ceil_div(c.outputs, 256))),
          dim3(256)},
         finish_kernel, c, scales);
}

bool aligned16(const void* data, int64_t stride, int64_t element_bytes) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * element_bytes % 16 == 0;
}

// The product on tensor cores, as far as `scales` and bias: false where the library cannot.
// Sets `scales` to those of the rows, or null.
template <class W>
bool library(Context& context, Gemm& gemm, DType dtype, const Call& c, const float*& scales) {
  scales = nullptr;
  if (!aligned16(c.y, c.y_stride, sizeof(float))) return false;
  Product p;
  p.dtype = dtype;
  p.w = c.w;
  p.w_stride = c.w_stride;
  p.y = c.y;
  p.y_stride = c.y_stride;
  p.rows = c.rows;
  p.inputs = c.inputs;
  p.outputs = c.outputs;
  if (dtype == DType::kF32 && aligned16(c.x, c.x_stride, sizeof(float))) {
    p.x = c.x;
    p.x_stride = c.x_stride;
    return gemm.multiply(context, p);
  }
  p.x_stride = weight_stride(c.inputs);
  const size_t x_bytes = static_cast<size_t>(c.rows * p.x_stride) * sizeof(W);
  auto* scratch = static_cast<std::byte*>(
      context.scratch(x_bytes + static_cast<size_t>(c.rows) * sizeof(float)));
  if (scratch == nullptr) return true;  // the context holds the error
  float* row_scales = dtype == DType::kF16 ? reinterpret_cast<float*>(scratch + x_bytes) : nullptr;
  p.x = scratch;
  launch(context, "linear",
         {dim3(static_cast<unsigned>(c.rows)), dim3(256), kWarpSize * sizeof(float)},
         narrow_kernel<W>, c.x, c.x_stride, c.inputs, reinterpret_cast<W*>(scratch), p.x_stride,
         row_scales);
  scales = row_scales;
  return gemm.multiply(context, p);
}

template <class W>
void multiply_rows(Context& context, Gemm* gemm, DType dtype, const Call& c) {
  const float* scales = nullptr;
  if (gemm == nullptr || !library<W>(context, *gemm, dtype, c, scales)) {
    tiled<W>(context, c);
    if (c.epilogue != Epilogue::kNone) {
      Call rest = c;
      rest.bias = nullptr;
      finish(context, rest, nullptr);
    }
    return;
  }
  if (scales != nullptr || c.bias != nullptr || c.epilogue != Epilogue::kNone)
    finish(context, c, scales);
}

Call call_of(const ConstTensorView& x, const WeightView& w, const TensorView& y) {
  Call call{};
  call.w = w.data;
  call.w_stride = weight_stride(w.cols);
  call.x = static_cast<const float*>(x.data);
  call.x_stride = x.row_stride;
  call.bias = w.bias.empty() ? nullptr : static_cast<const float*>(w.bias.data);
  call.y = static_cast<float*>(y.data);
  call.y_stride = y.row_stride;
  call.rows = x.rows;
  call.inputs = w.cols;
  call.outputs = w.rows;
  call.epilogue = Epilogue::kNone;
  return call;
}

Epilogue epilogue_of(const std::optional<Activation>& activation) {
  if (!activation) return Epilogue::kNone;
  switch (*activation) {
    case Activation::kSigmoid:
      return Epilogue::kSigmoid;
    case Activation::kTanh:
      return Epilogue::kTanh;
    case Activation::kSilu:
      return Epilogue::kSilu;
    case Activation::kReluSquared:
      return Epilogue::kReluSquared;
  }
  return Epilogue::kNone;
}

}  // namespace

void CudaOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  const LinearCall call{x, w, y, std::nullopt};
  linears({&call, 1});
}

// Neighbours that can be streamed together go in one launch.
void CudaOps::linears(std::span<const LinearCall> calls) {
  for (size_t i = 0; i < calls.size();) {
    const DType dtype = calls[i].w.dtype;
    const int64_t rows = calls[i].x.rows;
    Call batch[kCallsMax];
    size_t count = 0;
    for (; i < calls.size() && count < kCallsMax; ++i) {
      const LinearCall& call = calls[i];
      if (call.x.rows != rows || call.w.dtype != dtype) break;
      if (rows == 0 || call.w.rows == 0) continue;
      batch[count] = call_of(call.x, call.w, call.y);
      batch[count++].epilogue = epilogue_of(call.activation);
    }
    if (count == 0) continue;
    dispatch_floats(dtype, [&](auto zero) {
      using W = decltype(zero);
      if (rows <= kStreamedRows) return stream_rows<W>(context_, {batch, count});
      for (size_t j = 0; j < count; ++j) multiply_rows<W>(context_, gemm_, dtype, batch[j]);
    });
  }
}

void CudaOps::linear_swiglu(ConstTensorView x, const WeightView& gate_up, TensorView both,
                            TensorView y) {
  if (x.rows > kStreamedRows) return Ops::linear_swiglu(x, gate_up, both, y);
  if (x.rows == 0 || y.cols == 0) return;
  Call call = call_of(x, gate_up, y);
  call.outputs = y.cols;
  call.epilogue = Epilogue::kSwiglu;
  dispatch_floats(gate_up.dtype, [&](auto zero) {
    stream_rows<decltype(zero)>(context_, {&call, 1});
  });
}

}  // namespace trireme::cuda
