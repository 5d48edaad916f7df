// Joins what the parts of a tile have left: out = sum_p 2^(m_p - m) O_p / sum_p 2^(m_p - m)
// total_p.
//
// Grid: the lines of the launch (find_line of tiles.cuh). A thread has four elements, and threads
// that have all of a line are a group; groups take parts in turns, four each at once: parts of a
// line up to 64 for heads of 128, 128 for heads of 64, are one trip to memory. Lines whose tile was
// one part are in place and left alone.
//
// For tiles that are too much for their last block: all lines of the launch are joined at once
// here. What Tiling::joins says is joined by decode_kernel.
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/tiles.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kAtOnce = 4;  // loads that do not wait for each other

// Of the parts of a line, what softmax needs: a part's largest score, and its sum of weights.
using Scored = Pack<float, 2>;

// The largest score of a line, in all lanes.
__device__ __forceinline__ float largest_of(const Scored* parts, int used) {
  float largest = kNoScore;
#pragma unroll 1
  for (int first = lane_of_warp(); first < used; first += kAtOnce * kWarpSize) {
    float scores[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) scores[i] = parts[min(first + i * kWarpSize, used - 1)].at[0];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) largest = fmaxf(largest, scores[i]);
  }
  return warp_max(largest);
}

__global__ void __launch_bounds__(kThreads)
    merge_kernel(AttendArgs args, Tiling tiling, Partials partials) {
  next_may_start();
  const int dim = args.cache.head_dim;
  const int words = dim / 4, groups = quotient(kThreads, words);
  const auto thread = static_cast<int>(threadIdx.x);
  const int group = quotient(thread, words), word = thread - group * words;
  LineOfTile at;
  if (!find_line(args, tiling, static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y),
                 at))
    return nothing_to_do();
  const int used = share_of(at.tile, tiling, 0).used;
  if (used == 1) return nothing_to_do();
  const int64_t first = partial_index(args, tiling, at.tile, at.line, at.kv_head, 0);
  const float* sums = partials.sums + first * dim + word * 4;  // [parts][dim]
  const auto* scored = reinterpret_cast<const Scored*>(partials.largest_and_total) + first;
  float* out = args.out + at.tile.row(at.line, args.group) * args.out_stride +
               int64_t{at.tile.head(at.line, args.group, at.kv_head)} * dim;
  previous_done();

  Pack<float, 4> parts[kAtOnce];
  Scored own[kAtOnce];
  const auto ask = [&](int part) {  // beyond the last one, for the last
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int p = min(part + i * groups, used - 1);
      parts[i] = load<4>(sums + int64_t{p} * dim);
      own[i] = load<2>(scored[p].at);
    }
  };
  ask(group);
  const float largest = largest_of(scored, used);
  Pack<float, 4> sum = {};
  float total = 0.0f;
#pragma unroll 1
  for (int part = group; part < used; part += kAtOnce * groups) {
    if (part != group) ask(part);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool there = part + i * groups < used;
      const float weight = there ? exp2_fast(own[i].at[0] - largest) : 0.0f;
      total = fmaf(weight, own[i].at[1], total);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.at[e] = fmaf(weight, parts[i].at[e], sum.at[e]);
    }
  }
  float* group_sums = shared<float>();        // [groups][dim]
  float* totals = group_sums + groups * dim;  // [groups]
  if (group < groups) {
    store<4>(group_sums + group * dim + word * 4, sum);
    if (word == 0) totals[group] = total;
  }
  __syncthreads();
  if (thread >= dim) return;
  float numerator = 0.0f, denominator = 0.0f;
#pragma unroll 8
  for (int g = 0; g < groups; ++g) {
    numerator += group_sums[g * dim + thread];
    denominator += totals[g];
  }
  out[thread] = numerator / denominator;
}

}  // namespace

// REQUIRES: heads of a multiple of four elements, at most kThreads.
void attend_merge(Context& context, const AttendArgs& args, const Tiling& tiling,
                  Partials partials) {
  const int dim = args.cache.head_dim;
  const size_t floats = static_cast<size_t>(kThreads / (dim / 4)) * static_cast<size_t>(dim + 1);
  const Grid grid{line_grid(args, tiling), dim3(kThreads), floats * sizeof(float), true};
  launch(context, "attend (merge)", grid, merge_kernel, args, tiling, partials);
}

}  // namespace trireme::cuda
