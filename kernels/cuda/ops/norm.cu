// Norms, with or without the residual before them. In decode a row is one block's work, and the
// time is that of getting it there and back: the row stays in registers between the passes.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

struct NormCall {
  Matrix32 delta;  // no data: none
  MatrixOut32 x;   // written where there is a delta
  MatrixOut32 y;
  int64_t cols;  // of one group
  int32_t groups;
  int64_t units;  // rows * groups
  bool layer;     // NormKind::kLayer
  float epsilon;
  const float* gain;                 // may be null
  const float* bias;                 // may be null
  int64_t gain_stride, bias_stride;  // from one group to the next: 0 where all share
};

// The group of one row that a warp or block works on.
struct Unit {
  const float* delta;
  float* x;
  float* y;
  const float* gain;
  const float* bias;
};

__device__ __forceinline__ Unit unit_of(const NormCall& c, int64_t index) {
  const int64_t row = index / c.groups, group = index % c.groups, first = group * c.cols;
  return {c.delta.data == nullptr ? nullptr : c.delta.row(row) + first, c.x.row(row) + first,
          c.y.row(row) + first, c.gain == nullptr ? nullptr : c.gain + group * c.gain_stride,
          c.bias == nullptr ? nullptr : c.bias + group * c.bias_stride};
}

// A warp (kBlock false) or a block for each unit; a lane holds kPacks packs of kWide numbers, every
// lanes-th pack of the unit.
template <bool kBlock, int kWide, int kPacks>
__global__ void norm_kernel(NormCall c) {
  next_may_start();
  previous_done();
  const int lane = static_cast<int>(threadIdx.x) % (kBlock ? 1024 : kWarpSize);
  const int lanes = kBlock ? static_cast<int>(blockDim.x) : kWarpSize;
  const int64_t index =
      kBlock ? int64_t{blockIdx.x}
             : int64_t{blockIdx.x} * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
  if (index >= c.units) return;
  float* partial = kBlock ? shared<float>() : nullptr;
  const Unit unit = unit_of(c, index);
  Pack<float, kWide> held[kPacks];
  float total = 0.0f;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t at = (lane + int64_t{p} * lanes) * kWide;
    if (at >= c.cols) break;
    held[p] = load<kWide>(unit.x + at);
    if (unit.delta != nullptr) {
      const Pack<float, kWide> delta = load<kWide>(unit.delta + at);
#pragma unroll
      for (int i = 0; i < kWide; ++i) held[p].at[i] += delta.at[i];
      store<kWide>(unit.x + at, held[p]);
    }
#pragma unroll
    for (int i = 0; i < kWide; ++i) total += held[p].at[i];
  }
  const auto count = static_cast<float>(c.cols);
  const auto sum = [&](float value) {
    return kBlock ? block_sum(value, partial) : warp_sum(value);
  };
  const float mean = c.layer ? sum(total) / count : 0.0f;
  float squares = 0.0f;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if ((lane + int64_t{p} * lanes) * kWide >= c.cols) break;
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      held[p].at[i] -= mean;
      squares = fmaf(held[p].at[i], held[p].at[i], squares);
    }
  }
  const float inverse = 1.0f / sqrtf(sum(squares) / count + c.epsilon);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t at = (lane + int64_t{p} * lanes) * kWide;
    if (at >= c.cols) break;
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      held[p].at[i] *= inverse;
      if (unit.gain != nullptr) held[p].at[i] *= unit.gain[at + i];
      if (unit.bias != nullptr) held[p].at[i] += unit.bias[at + i];
    }
    store<kWide>(unit.y + at, held[p]);
  }
}

// A block for each unit that no block's registers hold: passes over memory.
__global__ void long_norm_kernel(NormCall c) {
  next_may_start();
  previous_done();
  float* partial = shared<float>();
  const Unit unit = unit_of(c, blockIdx.x);
  const auto count = static_cast<float>(c.cols);
  float total = 0.0f;
  for (int64_t i = threadIdx.x; i < c.cols; i += blockDim.x) {
    if (unit.delta != nullptr) unit.x[i] += unit.delta[i];
    total += unit.x[i];
  }
  const float mean = c.layer ? block_sum(total, partial) / count : 0.0f;
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < c.cols; i += blockDim.x) {
    const float d = unit.x[i] - mean;
    squares = fmaf(d, d, squares);
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares, partial) / count + c.epsilon);
  for (int64_t i = threadIdx.x; i < c.cols; i += blockDim.x) {
    float value = (unit.x[i] - mean) * inverse;
    if (unit.gain != nullptr) value *= unit.gain[i];
    if (unit.bias != nullptr) value += unit.bias[i];
    unit.y[i] = value;
  }
}

constexpr int kWarpUnits = 4;             // of a block
constexpr int64_t kWarpColsMax = 512;     // 16 numbers a lane
constexpr int64_t kBlockColsMax = 16384;  // 16 numbers a thread of 1024

void queue_norm(Context& context, const NormCall& c) {
  if (c.cols <= kWarpColsMax) {
    launch(context, "norm",
           {dim3(static_cast<unsigned>(ceil_div(c.units, kWarpUnits))),
            dim3(kWarpUnits * kWarpSize), 0, true},
           norm_kernel<false, 1, kWarpColsMax / kWarpSize>, c);
    return;
  }
  const auto units = static_cast<unsigned>(c.units);
  constexpr size_t kPartial = kWarpSize * sizeof(float);
  if (c.cols > kBlockColsMax) {
    launch(context, "norm", {dim3(units), dim3(1024), kPartial, true}, long_norm_kernel, c);
    return;
  }
  const bool wide = aligned4(c.x.data, c.x.stride) && aligned4(c.y.data, c.y.stride) &&
                    aligned4(c.delta.data, c.delta.stride) && c.cols % 4 == 0;
  if (wide) {
    // Few rows: as many threads as there are words, for the shortest way. Many: small blocks, of
    // which a multiprocessor holds more and which wait for each other less.
    const bool many = c.units > int64_t{4} * context.multiprocessors();
    const int64_t words = ceil_div(c.cols / 4, many ? 4 : 1);
    const int64_t threads = std::min<int64_t>(1024, ceil_div(words, kWarpSize) * kWarpSize);
    launch(context, "norm", {dim3(units), dim3(static_cast<unsigned>(threads)), kPartial, true},
           norm_kernel<true, 4, 4>, c);
  } else {
    launch(context, "norm", {dim3(units), dim3(1024), kPartial, true}, norm_kernel<true, 1, 16>, c);
  }
}

NormCall call_of(const TensorView& x, const NormArgs& args, const TensorView& y) {
  NormCall call{};
  call.x = matrix(x);
  call.y = matrix(y);
  call.groups = args.groups;
  call.cols = x.cols / args.groups;
  call.units = x.rows * args.groups;
  call.layer = args.kind == NormKind::kLayer;
  call.epsilon = args.epsilon;
  call.gain = args.gain.empty() ? nullptr : static_cast<const float*>(args.gain.data);
  call.bias = args.bias.empty() ? nullptr : static_cast<const float*>(args.bias.data);
  call.gain_stride = args.gain.cols == call.cols ? 0 : call.cols;
  call.bias_stride = args.bias.cols == call.cols ? 0 : call.cols;
  return call;
}

}  // namespace

void CudaOps::norm(ConstTensorView x, const NormArgs& args, TensorView y) {
  TensorView read_only = y;  // without a delta x is only read
  read_only.data = const_cast<void*>(x.data);
  read_only.row_stride = x.row_stride;
  queue_norm(context_, call_of(read_only, args, y));
}

void CudaOps::add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) {
  NormCall call = call_of(x, args, y);
  call.delta = matrix(delta);
  queue_norm(context_, call);
}

}  // namespace trireme::cuda
