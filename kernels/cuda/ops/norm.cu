// Norms, with or without the residual before them. In decode a row is one block's work, and the
// time is that of getting it there and back: the row stays in registers between the passes, what no
// kernel writes is there before the kernel before ends, and sums have one barrier each.
//
// nvcc 13.0: few rows of up to 4096 numbers 56 registers, of up to 8192 96, many 50, heads of up to
// 128 36, no spills (unaligned rows 64, on sm_80 some).
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/norm.cuh"
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
  int32_t units;  // rows * groups
  bool layer;     // NormKind::kLayer
  float epsilon;
  const float* gain;                 // may be null
  const float* bias;                 // may be null
  int64_t gain_stride, bias_stride;  // from one group to the next: 0 where all share
  LeftOut left;                      // of y; only where a block has a row
};

// The group of one row that a warp or block works on.
struct Unit {
  const float* delta;
  float* x;
  float* y;
  const float* gain;
  const float* bias;
};

__device__ __forceinline__ Unit unit_of(const NormCall& c, int32_t index) {
  const int32_t row = quotient(index, c.groups), group = index - row * c.groups;
  const int64_t first = group * c.cols;
  return {c.delta.data == nullptr ? nullptr : c.delta.row(row) + first, c.x.row(row) + first,
          c.y.row(row) + first, c.gain == nullptr ? nullptr : c.gain + group * c.gain_stride,
          c.bias == nullptr ? nullptr : c.bias + group * c.bias_stride};
}

// A warp (kBlock false) or a block for each unit; a lane holds kPacks packs of kWide numbers, every
// lanes-th pack of the unit. kEarly: gains and biases are read before the kernel before has ended,
// and held, which pays where rows are few.
template <bool kBlock, int kWide, int kPacks, bool kEarly>
__global__ void __launch_bounds__(kBlock ? (kEarly ? 512 : 1024) : 128) norm_kernel(NormCall c) {
  next_may_start();
  const HeldBy<kWide> by = {kBlock ? static_cast<int>(threadIdx.x) : lane_of_warp(),
                            kBlock ? static_cast<int>(blockDim.x) : kWarpSize,
                            static_cast<int32_t>(c.cols)};
  const int32_t index =
      kBlock ? static_cast<int32_t>(blockIdx.x)
             : static_cast<int32_t>(blockIdx.x * (blockDim.x / kWarpSize)) + warp_of_block();
  const bool mine = index < c.units;
  const Unit unit = unit_of(c, mine ? index : 0);
  Scales<kWide> scales[kPacks];
  if constexpr (kEarly) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (by.has(p)) scales[p].read(unit.gain, unit.bias, by.at(p));
  }
  previous_done();
  if (!mine) return;
  Pack<float, kWide> held[kPacks];
  // All loads, then all sums.
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (by.has(p)) held[p] = load<kWide>(unit.x + by.at(p));
  if (unit.delta != nullptr) add_held(by, unit.delta, unit.x, held);
  const float inverse =
      centre<kBlock>(by, c.layer, c.epsilon, kBlock ? shared<float>() : nullptr, held);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
    if constexpr (!kEarly) scales[p].read(unit.gain, unit.bias, by.at(p));
    scales[p].apply(inverse, held[p]);
    store_out<kWide>(unit.y + by.at(p), held[p]);
    if constexpr (kBlock && kWide == 4) leave<kWide>(c.left, index, by.at(p), held[p]);
  }
}

// A block for each unit that no block's registers hold: passes over memory.
__global__ void long_norm_kernel(NormCall c) {
  next_may_start();
  float* partial = shared<float>();
  const Unit unit = unit_of(c, static_cast<int32_t>(blockIdx.x));
  previous_done();
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
constexpr int64_t kEarlyColsMax = 8192;   // 16 numbers a thread of 512

void queue_norm(Context& context, NormCall c, const TensorView& y) {
  const bool wide = aligned4(c.x.data, c.x.stride) && aligned4(c.y.data, c.y.stride) &&
                    aligned4(c.delta.data, c.delta.stride) && aligned4(c.gain, c.gain_stride) &&
                    aligned4(c.bias, c.bias_stride) && c.cols % 4 == 0;
  const auto launch_of = [&](auto kernel, int64_t blocks, int64_t threads) {
    launch(context, "norm",
           {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
            2 * kWarpSize * sizeof(float), true},
           kernel, c);
  };
  if (c.cols <= kWarpColsMax) {
    const int64_t blocks = ceil_div(c.units, kWarpUnits);
    if (wide && c.cols <= 4 * kWarpSize)  // heads of up to 128
      return launch_of(norm_kernel<false, 4, 1, true>, blocks, kWarpUnits * kWarpSize);
    return launch_of(norm_kernel<false, 1, kWarpColsMax / kWarpSize, false>, blocks,
                     kWarpUnits * kWarpSize);
  }
  if (c.cols > kBlockColsMax) return launch_of(long_norm_kernel, c.units, 1024);
  if (!wide) return launch_of(norm_kernel<true, 1, 16, false>, c.units, 1024);
  const LeftRows left = c.groups == 1 ? room_for_left(context, y) : LeftRows{};
  c.left = left.out;
  // Small blocks: a large one waits for a multiprocessor that has room for all of it, while
  // products that stream weights fill them. Two words a thread where rows are few, for a short way;
  // four where they are many, so that a multiprocessor holds more rows that wait for each other
  // less.
  const auto threads_of = [&](int64_t packs) {
    return ceil_div(ceil_div(c.cols / 4, packs), kWarpSize) * kWarpSize;
  };
  const bool few = c.units <= int64_t{4} * context.multiprocessors();
  if (few && c.cols <= kEarlyColsMax / 2) {
    launch_of(norm_kernel<true, 4, 2, true>, c.units, threads_of(2));
  } else if (few && c.cols <= kEarlyColsMax) {
    launch_of(norm_kernel<true, 4, 4, true>, c.units, threads_of(4));
  } else {
    launch_of(norm_kernel<true, 4, 4, false>, c.units, threads_of(4));
  }
  context.leave(left);
}

NormCall call_of(const TensorView& x, const NormArgs& args, const TensorView& y) {
  NormCall call{};
  call.x = matrix(x);
  call.y = matrix(y);
  call.groups = args.groups;
  call.cols = x.cols / args.groups;
  call.units = static_cast<int32_t>(x.rows * args.groups);
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
  queue_norm(context_, call_of(read_only, args, y), y);
}

void CudaOps::add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) {
  NormCall call = call_of(x, args, y);
  call.delta = matrix(delta);
  queue_norm(context_, call, y);
}

}  // namespace trireme::cuda
