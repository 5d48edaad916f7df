// Products of one row with matrices of short rows, as low-rank layers have them: a warp for two
// outputs, 16 bytes of each row a lane. Such matrices are small and many; all calls go in one
// launch, and what it takes is a trip to memory and back. (stream.cu, which shares a row out to 256
// threads, took 38 us for the four of an RWKV-7 layer of 7.2B parameters, this kernel 4.)
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kOutputs = 2;
constexpr int kUnroll = 2;  // reads of a row that are under way

struct Calls {
  Call each[kCallsMax];
  int32_t first_block[kCallsMax + 1];  // of each, and of all together
  int32_t count;
  bool aligned;  // x, to 16 bytes
};

template <class W>
__global__ void __launch_bounds__(kWarps* kWarpSize, 4)
    short_rows_kernel(const __grid_constant__ Calls calls) {
  next_may_start();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.first_block[i]; });
  const Call& c = calls.each[index];
  const int block = static_cast<int>(blockIdx.x) - calls.first_block[index];
  const int64_t group = int64_t{block} * kWarps + warp_of_block();
  const bool gated = c.epilogue == Epilogue::kSwiglu;
  const int64_t first = gated ? group : group * kOutputs;  // output, and row of w
  const int64_t next = gated ? c.outputs : 1;              // rows of w between the two
  const int64_t w_rows = gated ? 2 * c.outputs : c.outputs;
  constexpr int kWide = 16 / static_cast<int>(sizeof(W));
  constexpr int kStep = kWarpSize * kWide;
  const W* w[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    // The last group may be short: it computes its last row again and stores it once.
    const int64_t row = first + o * next < w_rows ? first + o * next : w_rows - 1;
    w[o] = static_cast<const W*>(c.w) + row * c.w_stride;
  }
  float sums[kOutputs] = {};
  const int own = lane_of_warp() * kWide;
  for (int64_t k = own; k < c.inputs || k == own; k += int64_t{kStep} * kUnroll) {
    Pack<W, kWide> packs[kUnroll][kOutputs];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int o = 0; o < kOutputs; ++o)
        if (k + u * kStep < c.inputs) packs[u][o] = load_once<kWide>(w[o] + k + u * kStep);
    }
    if (k == own) previous_done();
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t at = k + u * kStep;
      if (at >= c.inputs) break;
      float x[kWide];
      inputs_at(c, at, calls.aligned, x);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        float numbers[kWide];
        to_floats(packs[u][o], numbers);
#pragma unroll
        for (int i = 0; i < kWide; ++i) sums[o] = fmaf(numbers[i], x[i], sums[o]);
      }
    }
  }
  float bias[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) bias[o] = bias_of(c, first + o * next);
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) sums[o] = warp_sum(sums[o]) + bias[o];
  if (lane_of_warp() != 0 || first >= c.outputs) return;
  if (gated) {
    c.y[first] = swiglu(sums[0], sums[1]);
    return;
  }
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    if (first + o >= c.outputs) continue;
    float* y = c.y + first + o;
    const float x = finished(c, sums[o]);
    *y = c.adds ? *y + x : x;
  }
}

}  // namespace

void stream_short_rows(Context& context, DType dtype, std::span<const Call> each) {
  Calls calls{};
  calls.count = static_cast<int32_t>(each.size());
  calls.aligned = true;
  int64_t blocks = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    const Call& c = calls.each[i] = each[i];
    const int64_t groups =
        c.epilogue == Epilogue::kSwiglu ? c.outputs : ceil_div(c.outputs, kOutputs);
    calls.aligned = calls.aligned && aligned4(c.x, c.x_stride);
    blocks += ceil_div(groups, kWarps);
    calls.first_block[i + 1] = static_cast<int32_t>(blocks);
  }
  const Grid grid{dim3(static_cast<unsigned>(blocks)), dim3(kWarps * kWarpSize), 0, true};
  dispatch_floats(dtype, [&](auto zero) {
    launch(context, "linear", grid, short_rows_kernel<decltype(zero)>, calls);
  });
}

}  // namespace trireme::cuda
