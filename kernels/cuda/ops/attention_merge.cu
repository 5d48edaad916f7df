// Joins what the parts of a tile have left: out = sum_p 2^(m_p - m) O_p / sum_p 2^(m_p - m)
// total_p.
//
// Grid: the lines of the launch (find_line of tiles.cuh), 4 warps: a warp takes every fourth part,
// a lane every 32nd element. Lines whose tile was one part are in place and left alone.
//
// For tiles that are too much for their last block: all lines of the launch are joined at once
// here, 3 us whatever their number. What Tiling::joins says is joined by decode_kernel.
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/tiles.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kHeadDimMax = 256;
constexpr int kEach = kHeadDimMax / kWarpSize;

__global__ void __launch_bounds__(kWarps* kWarpSize)
    merge_kernel(AttendArgs args, Tiling tiling, Partials partials) {
  next_may_start();
  const int warp = warp_of_block();
  const int lane = lane_of_warp();
  const int dim = args.cache.head_dim;
  LineOfTile at;
  if (!find_line(args, tiling, static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y),
                 at))
    return nothing_to_do();
  const int used = share_of(at.tile, tiling, 0).used;
  if (used == 1) return nothing_to_do();
  previous_done();
  const int64_t first = partial_index(args, tiling, at.tile, at.line, at.kv_head, 0);
  const float* sums = partials.sums + first * dim;                          // [parts][dim]
  const float* largest_and_total = partials.largest_and_total + first * 2;  // [parts][2]

  float largest = kNoScore;
  for (int part = lane; part < used; part += kWarpSize)
    largest = fmaxf(largest, largest_and_total[part * 2]);
  largest = warp_max(largest);
  float sum[kEach] = {}, total = 0.0f;
#pragma unroll 2
  for (int part = warp; part < used; part += kWarps) {
    const float weight = exp2_fast(largest_and_total[part * 2] - largest);
    total = fmaf(weight, largest_and_total[part * 2 + 1], total);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < dim) sum[i] = fmaf(weight, sums[int64_t{part} * dim + d], sum[i]);
    }
  }
  float* totals = shared<float>();     // [kWarps]
  float* warp_sums = totals + kWarps;  // [kWarps][dim]
  if (lane == 0) totals[warp] = total;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < dim) warp_sums[warp * dim + d] = sum[i];
  }
  __syncthreads();
  float* out = args.out + at.tile.row(at.line, args.group) * args.out_stride +
               int64_t{at.tile.head(at.line, args.group, at.kv_head)} * dim;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kWarps * kWarpSize) {
    float numerator = 0.0f, denominator = 0.0f;
    for (int w = 0; w < kWarps; ++w) {
      numerator += warp_sums[w * dim + d];
      denominator += totals[w];
    }
    out[d] = numerator / denominator;
  }
}

}  // namespace

void attend_merge(Context& context, const AttendArgs& args, const Tiling& tiling,
                  Partials partials) {
  const Grid grid{line_grid(args, tiling), dim3(kWarps * kWarpSize),
                  static_cast<size_t>(kWarps * (1 + args.cache.head_dim)) * sizeof(float), true};
  launch(context, "attend (merge)", grid, merge_kernel, args, tiling, partials);
}

}  // namespace trireme::cuda
