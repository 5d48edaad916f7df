// Products of few rows: the weights are read once, straight into fused multiply-adds, and the time
// is that of reading them.
//
// A warp computes two outputs of kRows rows; a lane reads 16 bytes of each weight row at a time,
// kUnroll of them before it uses the first, so that enough reads are under way: 8 warps of 32 lanes
// times 8 reads of 16 bytes are 32 KB for a block, and two blocks of a multiprocessor cover what
// 4.3 TB/s owe to a latency of 0.6 us. With kSplit, all warps of a block share the same outputs and
// each takes a part of the inputs: for matrices with too few rows to fill the device.
//
// Versions, measured on one H200, a decode step of 8B parameters at batch 1: 80 registers and reads
// through the L1 cache 5.0 ms; asking for the next reads before the last are used, 114 registers,
// 5.7 ms, since a multiprocessor then has no room for the next kernel's blocks, which begin while
// this one ends; all matrices split, 5.8 to 6.1 ms; reads past the L1 cache, which keeps x there,
// 0.26 ms less than the same without. Hence 64 registers, so that four blocks fit.
//
// Products that do not wait for each other go in one launch: the small matrices of a low-rank
// layer, which alone would leave most of the device idle, are read while larger ones are.
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kStreamWarps = 8;
constexpr int kOutputs = 2;

struct Calls {
  Call each[kCallsMax];
  int32_t first_block[kCallsMax + 1];  // of each, and of all together
  int32_t count;
};

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
        if (k + u * stride < c.inputs) packs[u][o] = load_once<kWide>(w[o] + k + u * stride);
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
__global__ void __launch_bounds__(kStreamWarps* kWarpSize, kRows == 1 ? 4 : 3)
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
      *y = swiglu(values[0], values[1]);
      continue;
    }
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (first + o < c.outputs) y[o] = finished(c, values[o]);
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
    aligned = aligned && aligned4(c.x, c.x_stride);
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

}  // namespace

void stream_products(Context& context, DType dtype, std::span<const Call> calls) {
  dispatch_floats(dtype, [&](auto zero) { stream_rows<decltype(zero)>(context, calls); });
}

}  // namespace trireme::cuda
