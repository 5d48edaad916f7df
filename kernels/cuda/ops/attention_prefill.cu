// Attention of many lines, on tensor cores: prefill. The loop is FlashAttention-2's (arXiv
// 2307.08691), over a block table.
//
// Grid [tiles of 128 lines (64 for heads of 256), kv heads, parts], 4 warps. A tile's lines are
// rows of one run times the query heads of a group, which share keys and values. The tile of q
// stays in shared memory in the cache's format; keys and values come in tiles of 64 positions (32),
// two buffers of each: one is filled while the other is used. Tiles that no line sees are skipped,
// and masks cost something only where a line does not see all of a tile.
//
// A warp holds 32 lines, so that keys and values that it loads from shared memory serve two
// products each: with 16 lines that load, 128 bytes a cycle, would bound a Hopper at half its
// matrix rate. The tiles with most positions have the lowest numbers and begin first.
//
// q and weights are rounded to the cache's format: see kParts in tile_products.cuh. Two parts would
// double the products, and here they are what takes the time.
//
// Expected on one H200: a layer of 8K rows, 32 heads of 128, causal, is 0.55 TFLOP.
// FlashAttention-2 is reported to reach 35 % of an H100's 989 TFLOP/s (arXiv 2407.08608), at which
// it takes 1.6 ms, 51 ms for 32 layers. An 8B model at 65 % of 790 TFLOP/s has 257 ms for its 132
// TFLOP, which leaves 206 to the 114 TFLOP of the matrices and all else: 70 % of the rate for
// those.
//
// Versions: scores of 64 positions at a time spilled (128 + 64 sums of 255 registers), so that a
// tile's positions are taken 32 at a time where heads are larger than 64; limits of masks and line
// factors held in registers spilled too, and are loaded where they are needed; sums that shrank for
// every new largest score, rather than for one much larger, were a quarter of the instructions
// beside the products.
//
// nvcc 13.0, sm_90, heads of 64 / 80 / 96 / 128 / 256: 217 / 167 / 212 / 246 / 236 registers, 56 /
// 68 / 80 / 105 / 102 KB of shared memory, no spills; 128 HMMA and 48 LDSM for 32 lines and 32
// positions of heads of 128. On an H200, 8192 rows of 32 heads of 128: 1.78 ms, 38 % of the matrix
// rate.
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/prefill_lines.cuh"
#include "kernels/cuda/device/tile_products.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;

// kSmall: for GPUs whose blocks cannot have the memory of two stages of so many positions.
template <class T, int D, bool kSmall = false>
struct Layout {
  static constexpr int kStages = kSmall && D > 128 ? 1 : 2;
  static constexpr int kM = D <= 128 ? 2 : 1;  // 16 lines each, of a warp
  static constexpr int kLines = kWarps * kM * 16;
  static constexpr int kPositions = D <= 128 && !kSmall ? 64 : 32;
  static constexpr int kStep = D <= 64 ? 64 : 32;
  static_assert(kPartGrain % kPositions == 0);
  static constexpr int kTile = kPositions * kRowStride<D>;  // elements: keys, or values
  static constexpr int kQueries = kLines * kRowStride<D>;
  static constexpr size_t kBytes =
      (kQueries + kStages * 2 * kTile) * sizeof(T) + kLines * sizeof(float);
};

template <class T, int D, bool kSmall>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    prefill_kernel(AttendArgs args, Tiling tiling, Partials partials) {
  next_may_start();
  using L = Layout<T, D, kSmall>;
  LineTile tile;
  Share share;
  if (!find_work(args, tiling, static_cast<int32_t>(gridDim.x - 1 - blockIdx.x), tile, share))
    return nothing_to_do();
  previous_done();
  const int kv_head = static_cast<int>(blockIdx.y);
  const int warp = warp_of_block();
  T* queries = shared<T>();            // [kLines][stride]
  T* buffers = queries + L::kQueries;  // [kStages][keys, values][kPositions][stride]
  auto* factors = reinterpret_cast<float*>(buffers + L::kStages * 2 * L::kTile);

  const TileKeys<T> source(args, tile, kv_head, share.end);
  constexpr int kWarpPositions = L::kPositions / kWarps;
  const auto begin_copies = [&](int i) {
    const int32_t at = share.begin + i * L::kPositions;
    if (at < share.end) {
      T* keys = buffers + i % L::kStages * 2 * L::kTile + warp * kWarpPositions * kRowStride<D>;
      copy_positions<T, D, kWarpPositions>(source, at + warp * kWarpPositions, keys,
                                           keys + L::kTile);
    }
    copies_commit();
  };
  if constexpr (L::kStages > 1) begin_copies(0);

  load_queries<T, D, 1, L::kLines>(args, tile, kWarps, queries, factors, PlainHeads<D>{},
                                   QueryLines{args, tile, kv_head});
  __syncthreads();
  const int warp_line = warp * L::kM * 16;
  LineSums<D, L::kM> lines;
  for (int i = 0; share.begin + i * L::kPositions < share.end; ++i) {
    const int32_t at = share.begin + i * L::kPositions;
    begin_copies(i + L::kStages - 1);
    copies_wait<L::kStages - 1>();
    __syncthreads();  // all warps' copies of this tile are there
    if (warp_line < tile.lines) {
      const T* keys = buffers + i % L::kStages * 2 * L::kTile;
#pragma unroll 1
      for (int p = 0; p < L::kPositions; p += L::kStep) {
        FragmentC s[L::kM][L::kStep / 8];
        const T* step_keys = keys + p * kRowStride<D>;
        scores<T, D, L::kM, L::kStep / 8, 1>(queries + warp_line * kRowStride<D>, 0, step_keys, s);
        if (needs_mask(args, tile, at + p, L::kStep, share.end))
          mask_scores(args, tile, warp_line, at + p, share.end, s);
        shrink_sums(weigh<T>(factors + warp_line, s, lines), lines);
        add_values<T, D, L::kM, L::kStep / 8, 1>(step_keys + L::kTile, s, lines);
      }
    }
    __syncthreads();  // nobody reads this tile any more: the next copies may fill its buffer
  }
  put_lines<D, L::kM>(args, tiling, partials, tile, kv_head, share, warp_line, lines);
}

template <class T, int D, bool kSmall>
void attend(Context& context, const AttendArgs& args, const Tiling& tiling, Partials partials) {
  using L = Layout<T, D, kSmall>;
  CHECK(tiling.lines == L::kLines);
  launch(context, "attend (prefill)",
         Grid{tile_grid(args, tiling), dim3(kWarps * kWarpSize), L::kBytes, true},
         prefill_kernel<T, D, kSmall>, args, tiling, partials);
}

}  // namespace

void attend_prefill(Context& context, const AttendArgs& args, const Tiling& tiling,
                    Partials partials) {
  dispatch_layout<Layout>(context, args.cache, [&](auto zero, auto dim, auto small) {
    attend<decltype(zero), decltype(dim)::value, decltype(small)::value>(context, args, tiling,
                                                                         partials);
  });
}

}  // namespace trireme::cuda
