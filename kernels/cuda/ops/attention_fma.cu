// Attention over a cache of f32, for any rows: the structure of the other kernels without tensor
// cores, which would round.
//
// Grid [tiles of 16 lines, kv heads, parts], 4 warps. Keys and values come in tiles of 32 positions
// that the block's warps share. A warp has 4 lines: for scores a lane takes a position, for values
// every 32nd element, and weights go between through shared memory. It is bound by loads from
// shared memory, 16 multiply-adds for 5 words of 16 bytes; f32 caches are for tests and
// comparisons.
//
// nvcc 13.0, sm_90: 96 registers, 44 KB of shared memory for heads of 128, no spills.
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/tiles.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kWarpLines = 4;
constexpr int kLines = kWarps * kWarpLines;
constexpr int kPositions = kWarpSize;
constexpr int kHeadDimMax = 256;
constexpr int kEach = kHeadDimMax / kWarpSize;

// Shared memory, in floats: rows have 4 more than they need, for the banks.
struct Layout {
  int stride;
  int queries, keys, values, weights, all;
  constexpr explicit Layout(int dim)
      : stride(dim + 4),
        queries(0),
        keys(kLines * stride),
        values(keys + kPositions * stride),
        weights(values + kPositions * stride),
        all(weights + kLines * kPositions) {}
};

// q times scale; zeros beyond the last line.
__device__ __forceinline__ void load_lines(const AttendArgs& args, const LineTile& tile,
                                           int kv_head, int stride, float* to) {
  const int dim = args.cache.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < kLines * dim; i += kWarps * kWarpSize) {
    const int line = i / dim, d = i % dim;
    const int head = tile.head(line, args.group, kv_head);
    to[line * stride + d] =
        line < tile.lines
            ? args.q[tile.row(line, args.group) * args.q_stride + int64_t{head} * dim + d] *
                  (args.scale * kLogTwoE)
            : 0.0f;
  }
}

// Keys and values of the positions from `first` on; a warp copies every fourth position.
__device__ __forceinline__ void copy_tile(const TileKeys<float>& source, int32_t first, int dim,
                                          int stride, float* keys, float* values) {
  const int lane = lane_of_warp();
  const int64_t to_value = source.cache.value_offset();
  for (int p = warp_of_block(); p < kPositions; p += kWarps) {
    const float* key = source.key(first + p);
    const bool seen = key != nullptr;
    if (!seen) key = reinterpret_cast<const float*>(source.cache.blocks);
    for (int d = lane * 4; d < dim; d += kWarpSize * 4) {
      copy_16_bytes(keys + p * stride + d, seen ? key + d : key, seen);
      copy_16_bytes(values + p * stride + d, seen ? key + to_value + d : key, seen);
    }
  }
  copies_commit();
}

// s[l] = q_l . k of one position, for the warp's lines; both in shared memory.
__device__ __forceinline__ void dot_lines(const float* queries, const float* key, int stride,
                                          int dim, float (&s)[kWarpLines]) {
#pragma unroll
  for (int l = 0; l < kWarpLines; ++l) s[l] = 0.0f;
  for (int d = 0; d < dim; d += 4) {
    const Pack<float, 4> k = load<4>(key + d);
#pragma unroll
    for (int l = 0; l < kWarpLines; ++l) {
      const Pack<float, 4> q = load<4>(queries + l * stride + d);
#pragma unroll
      for (int i = 0; i < 4; ++i) s[l] = fmaf(q.at[i], k.at[i], s[l]);
    }
  }
}

// sum[l][i] += sum over positions of the weight of line l times element lane + 32 i of the value.
__device__ __forceinline__ void add_weighted(const float* weights, const float* values, int stride,
                                             int dim, float (&sum)[kWarpLines][kEach]) {
  const int lane = lane_of_warp();
  for (int p = 0; p < kPositions; ++p) {
    float w[kWarpLines];
#pragma unroll
    for (int l = 0; l < kWarpLines; ++l) w[l] = weights[l * kPositions + p];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d >= dim) break;
      const float v = values[p * stride + d];
#pragma unroll
      for (int l = 0; l < kWarpLines; ++l) sum[l][i] = fmaf(w[l], v, sum[l][i]);
    }
  }
}

__global__ void __launch_bounds__(kWarps* kWarpSize)
    fma_kernel(AttendArgs args, Tiling tiling, Partials partials) {
  next_may_start();
  LineTile tile;
  Share share;
  if (!find_work(args, tiling, static_cast<int32_t>(blockIdx.x), tile, share))
    return nothing_to_do();
  previous_done();
  const int part = static_cast<int>(blockIdx.z);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int warp = warp_of_block();
  const int lane = lane_of_warp();
  const int dim = args.cache.head_dim;
  const Layout at(dim);
  auto* memory = shared<float>();
  const float* queries = memory + at.queries + warp * kWarpLines * at.stride;
  float* weights = memory + at.weights + warp * kWarpLines * kPositions;  // [kWarpLines][positions]
  const TileKeys<float> source(args, tile, kv_head, share.end);
  const int32_t window = args.cache.window_tokens;
  load_lines(args, tile, kv_head, at.stride, memory + at.queries);

  int32_t last[kWarpLines];
  float largest[kWarpLines], total[kWarpLines] = {}, sum[kWarpLines][kEach] = {};
#pragma unroll
  for (int l = 0; l < kWarpLines; ++l) {
    largest[l] = kNoScore;
    last[l] = args.rows.positions[tile.row(min(warp * kWarpLines + l, tile.lines - 1), args.group)];
  }
  for (int32_t first = share.begin; first < share.end; first += kPositions) {
    copy_tile(source, first, dim, at.stride, memory + at.keys, memory + at.values);
    copies_wait<0>();
    __syncthreads();
    float s[kWarpLines];
    dot_lines(queries, memory + at.keys + lane * at.stride, at.stride, dim, s);
    const int32_t position = first + lane;
#pragma unroll
    for (int l = 0; l < kWarpLines; ++l) {
      const bool seen = position <= last[l] && position < share.end &&
                        (window == 0 || position > last[l] - window);
      const float larger = fmaxf(largest[l], warp_max(seen ? s[l] : -INFINITY));
      const float shrink = exp2_fast(largest[l] - larger);
      const float weight = seen ? exp2_fast(s[l] - larger) : 0.0f;
      largest[l] = larger;
      total[l] = fmaf(total[l], shrink, weight);
      weights[l * kPositions + lane] = weight;
#pragma unroll
      for (int i = 0; i < kEach; ++i) sum[l][i] *= shrink;
    }
    __syncwarp();
    add_weighted(weights, memory + at.values, at.stride, dim, sum);
    __syncthreads();  // the next tile takes the place of this one
  }

#pragma unroll
  for (int l = 0; l < kWarpLines; ++l) {
    const float all = warp_sum(total[l]);
    const int line = warp * kWarpLines + l;
    if (line >= tile.lines) continue;
    const int32_t row = tile.row(line, args.group);
    const int32_t head = tile.head(line, args.group, kv_head);
    const int64_t index = partial_index(args, tiling, tile, line, kv_head, part);
    const bool whole = share.used == 1;
    float* to = whole ? args.out + row * args.out_stride + int64_t{head} * dim
                      : partials.sums + index * dim;
    if (!whole && lane == 0) {
      partials.largest_and_total[index * 2] = largest[l];
      partials.largest_and_total[index * 2 + 1] = all;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < dim) to[d] = whole ? sum[l][i] / all : sum[l][i];
    }
  }
}

}  // namespace

void attend_fma(Context& context, const AttendArgs& args, const Tiling& tiling, Partials partials) {
  CHECK(tiling.lines == kLines);
  const Grid grid{tile_grid(args, tiling), dim3(kWarps * kWarpSize),
                  static_cast<size_t>(Layout(args.cache.head_dim).all) * sizeof(float), true};
  launch(context, "attend (fma)", grid, fma_kernel, args, tiling, partials);
}

}  // namespace trireme::cuda
