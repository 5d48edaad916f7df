// Attention of few lines over long contexts, on tensor cores: decode.
//
// Grid [tiles of 16 lines, kv heads, parts], 4 warps. A tile's lines are the query heads of a group
// (and the rows of a short run), padded to the 16 rows of a product; with groups of up to 16, keys
// and values are read from memory once for all of them. Larger groups take several tiles, which
// stand side by side in the grid and find most of the cache's lines in L2.
//
// A block's warps share nothing until the end: warp w takes every fourth 16 positions of the part,
// through a ring of its own in shared memory, with a softmax of its own. So there is no barrier in
// the loop, and two of three stages, 70 KB a block and 139 KB a multiprocessor for heads of 128,
// are on their way while one is computed. By count of its dependent products (8 steps for the
// scores, 32 products for the values, 33 cycles each where one waits for another) a tile takes a
// warp some 850 cycles; at 4.3 TB/s each of a multiprocessor's 8 warps gets one every 3,450. So q
// and weights can have two parts (tile_products.cuh): nobody waits for the products.
//
// Long contexts, on one H200: 128K positions, 8 kv heads of 128, bf16, are 537 MB a layer, 125 us
// at 4.3 TB/s. 32 parts make 256 blocks, of 264 that 132 multiprocessors hold; 94 % of the
// bandwidth was measured.
//
// Short ones wait for latencies: 1024 positions are 4 MB, 1 us, and took 12 us as 32 blocks of 256
// positions, 17 us where a kernel that streams weights held 100 KB of each multiprocessor, room for
// one block of this one. So a part is at most 128 positions (attention_choice.cc), just what the
// rings take: all of it is on its way while the kernels before this one run, but for the positions
// that they store. Blocks without a part end at once, before they wait for anything; those with one
// have the lower numbers, and up to 2048 positions they are 128, one on each multiprocessor, which
// has room for it beside the weights' kernel. Up to 1024 positions a part is 64, a tile of each
// warp. After the wait there are q, a tile or two, 0.5 us each, and the joining: the tile's last
// block reads 32 KB of partial results, all at once, for 1024 positions and groups of 4, 64 KB in
// two turns at most.
// Measured in a step of 8B parameters at 1024 tokens, from the end of the product before, while the
// next one's first weights come: 15.7 us, twice of what that adds up to. The machine code has said
// why since (no GPU has run it yet): loads of q, key, cosines and sines stood behind branches, so
// each was waited for, 16 times for the four lines of a group, which one warp had; sums went to
// shared memory eight lanes a bank; a fence ordered more than it had to. Now all of a row is asked
// for at once, by all warps. Expected: 9 to 11 us.
//
// A step of decode rotates its queries and keys here, after their norms if they have any, and
// stores keys and values (rope_attend): a kernel or three less a layer, each 2 us by the timeline
// of a recorded step. The block whose part ends with the row's own position makes its key and
// value, for the cache and for itself; nobody else reads them.
//
// A grid of one block on each multiprocessor for all lengths would do by this count: 70 KB under
// way cover the latency of more than 4.3 TB/s, which takes 30, and four warps that take 850
// cycles a tile read 30 bytes a clock where the memory gives 18. But look-ups and softmax are not
// in the 850, and a long context has time to start a second block.
//
// nvcc 13.0, sm_90, heads of 64 / 80 / 96 / 128 / 256: 96 / 128 / 125 / 128 / 236 registers, and 96
// / 127 / 128 / 156 / 254 where they rotate, no spills; 60 / 73 / 87 / 113 / 152 KB of shared
// memory; 64 HMMA and 32 LDSM a tile of heads of 128, and copies are LDGSTS. Times are arithmetic
// where they are not said to be measured.
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/rotation.cuh"
#include "kernels/cuda/device/tile_products.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kLines = 16;
constexpr int kPositions = 16;  // of a warp's tile
constexpr int kParts = 2;
static_assert(kPartGrain % (kWarps * kPositions) == 0);

// kSmall: for GPUs whose blocks cannot have the memory of three stages.
template <class T, int D, bool kSmall = false>
struct Layout {
  static constexpr int kStages = (D <= 128 ? 3 : 2) - (kSmall ? 1 : 0);
  static constexpr int kTile = kPositions * kRowStride<D>;  // elements: keys, or values
  static constexpr int kQueries = kParts * kLines * kRowStride<D>;
  static constexpr int kRing = kStages * 2 * kTile;  // of a warp
  static constexpr int kNewest = 2 * D;              // a key and a value
  static constexpr size_t kBytes =
      (kQueries + kWarps * kRing + kNewest) * sizeof(T) + kLines * sizeof(float);
  // Where the warps' sums meet at the end, queries and rings lie no more. A line's sums have a
  // stride that leads eight lines to different banks.
  static constexpr int kSumStride = D + 8;
  static_assert(kWarps * kLines * (kSumStride + 2) * sizeof(float) <=
                (kQueries + kWarps * kRing) * sizeof(T));
};

// Elements of a line's sums that a lane takes at a time, and how many a warp does then.
template <int D>
inline constexpr int kVector = D % 128 == 0  ? 4
                               : D % 64 == 0 ? 2
                                             : 1;
template <int D>
inline constexpr int kAcross = kVector<D>* kWarpSize;
template <int D>
inline constexpr int kTurns = (D + kAcross<D> - 1) / kAcross<D>;

// The largest score, total and sums of each of the warp's lines go to shared memory:
// sums [kWarps][kLines][stride], largest and total [kWarps][kLines][2].
template <class T, int D>
__device__ __forceinline__ void leave_sums(const LineSums<D, 1>& lines, int count, int warp,
                                           float* sums, float* largest_and_total) {
  const int lane = lane_of_warp();
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half * 8 >= count) break;
    const int line = warp * kLines + g + half * 8;
    float total = lines.total[0][half];
    total += __shfl_xor_sync(kWholeWarp, total, 1);
    total += __shfl_xor_sync(kWholeWarp, total, 2);
    if (t == 0)
      store<2>(largest_and_total + line * 2, Pack<float, 2>{{lines.largest[0][half], total}});
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      const float* pair = &lines.sum[0][d].at[half * 2];
      store<2>(sums + line * Layout<T, D>::kSumStride + d * 8 + t * 2,
               Pack<float, 2>{{pair[0], pair[1]}});
    }
  }
}

// A lane's elements of a line, [kTurns][kVector], divided by its total, to the output.
template <int D>
__device__ __forceinline__ void put_output(const AttendArgs& args, const LineTile& tile, int line,
                                           int kv_head, float total,
                                           const float (&sum)[kTurns<D>][kVector<D>]) {
  const int32_t row = tile.row(line, args.group);
  const int64_t first = int64_t{tile.head(line, args.group, kv_head)} * D;
  float* out = args.out + row * args.out_stride + first;
  const bool aligned = reinterpret_cast<uintptr_t>(out) % (kVector<D> * sizeof(float)) == 0;
  const float inverse = 1.0f / total;
#pragma unroll
  for (int i = 0; i < kTurns<D>; ++i) {
    const int d = lane_of_warp() * kVector<D> + i * kAcross<D>;
    if (d >= D) continue;
    Pack<float, kVector<D>> x;
#pragma unroll
    for (int e = 0; e < kVector<D>; ++e) x.at[e] = sum[i][e] * inverse;
    if (aligned) {
      store_out<kVector<D>>(out + d, x);
    } else {
#pragma unroll
      for (int e = 0; e < kVector<D>; ++e) out[d + e] = x.at[e];
    }
    leave<kVector<D>>(args.left, row, first + d, x);
  }
}

// Joins the warps' sums, a warp every fourth line; to the output, or to the partials where there
// are several parts.
template <class T, int D>
__device__ __forceinline__ void put_lines(const AttendArgs& args, const Tiling& tiling,
                                          const Partials& partials, const LineTile& tile,
                                          int kv_head, const Share& share, const float* sums,
                                          const float* largest_and_total) {
  using Vector = Pack<float, kVector<D>>;
  const int lane = lane_of_warp();
#pragma unroll 1
  for (int line = warp_of_block(); line < tile.lines; line += kWarps) {
    Pack<float, 2> of_warp[kWarps];
    float largest = kNoScore, total = 0.0f, sum[kTurns<D>][kVector<D>] = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      of_warp[w] = load<2>(largest_and_total + (w * kLines + line) * 2);
      largest = fmaxf(largest, of_warp[w].at[0]);
    }
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = exp2_fast(of_warp[w].at[0] - largest);
      total = fmaf(weight, of_warp[w].at[1], total);
      const float* from = sums + (w * kLines + line) * Layout<T, D>::kSumStride;
#pragma unroll
      for (int i = 0; i < kTurns<D>; ++i) {
        const int d = lane * kVector<D> + i * kAcross<D>;
        if (d >= D) continue;
        const Vector x = load<kVector<D>>(from + d);
#pragma unroll
        for (int e = 0; e < kVector<D>; ++e) sum[i][e] = fmaf(weight, x.at[e], sum[i][e]);
      }
    }
    if (share.used == 1) {
      put_output<D>(args, tile, line, kv_head, total, sum);
      continue;
    }
    const int64_t index = partial_index(args, tiling, tile, line, kv_head, blockIdx.z);
#pragma unroll
    for (int i = 0; i < kTurns<D>; ++i) {
      const int d = lane * kVector<D> + i * kAcross<D>;
      Vector x;
#pragma unroll
      for (int e = 0; e < kVector<D>; ++e) x.at[e] = sum[i][e];
      if (d < D) store_out<kVector<D>>(partials.sums + index * D + d, x);
    }
    if (lane == 0)
      store_out<2>(partials.largest_and_total + index * 2, Pack<float, 2>{{largest, total}});
  }
}

// Joins a tile's parts, in their order, so that it does not matter which block does it:
//   out = sum_p 2^(m_p - m) O_p / sum_p 2^(m_p - m) total_p
// A warp takes every fourth line, and asks for several parts before it looks at the first.
template <int D>
__device__ __forceinline__ void join_parts(const AttendArgs& args, const Tiling& tiling,
                                           const Partials& partials, const LineTile& tile,
                                           int kv_head, int parts) {
  constexpr int kAtOnce = D <= 128 ? 16 : 8;
  using Vector = Pack<float, kVector<D>>;
  const int lane = lane_of_warp();
#pragma unroll 1
  for (int line = warp_of_block(); line < tile.lines; line += kWarps) {
    const int64_t first = partial_index(args, tiling, tile, line, kv_head, 0);
    const float* sums = partials.sums + first * D + lane * kVector<D>;        // [parts][D]
    const float* largest_and_total = partials.largest_and_total + first * 2;  // [parts][2]
    Vector x[kAtOnce][kTurns<D>];
    Pack<float, 2> pair[kAtOnce];
    const auto ask = [&](int part) {
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) {
        const int from = min(part + p, parts - 1);
        pair[p] = load<2>(largest_and_total + from * 2);
#pragma unroll
        for (int i = 0; i < kTurns<D>; ++i) {
          if (lane * kVector<D> + i * kAcross<D> < D)
            x[p][i] = load<kVector<D>>(sums + int64_t{from} * D + i * kAcross<D>);
        }
      }
    };
    ask(0);  // the first parts are under way together with all scores
    float largest = kNoScore;
    for (int part = lane; part < parts; part += kWarpSize)
      largest = fmaxf(largest, largest_and_total[part * 2]);
    largest = warp_max(largest);

    float sum[kTurns<D>][kVector<D>] = {}, total = 0.0f;
#pragma unroll 1
    for (int part = 0; part < parts; part += kAtOnce) {
      if (part > 0) ask(part);
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) {
        if (part + p < parts) {
          const float weight = exp2_fast(pair[p].at[0] - largest);
          total = fmaf(weight, pair[p].at[1], total);
#pragma unroll
          for (int i = 0; i < kTurns<D>; ++i) {
#pragma unroll
            for (int e = 0; e < kVector<D>; ++e) sum[i][e] = fmaf(weight, x[p][i].at[e], sum[i][e]);
          }
        }
      }
    }
    put_output<D>(args, tile, line, kv_head, total, sum);
  }
}

// Element d of a head that a warp holds, rounded, goes to put(d, x).
template <class T, int D, class Heads, class Put>
__device__ __forceinline__ void put_head(const Heads& heads, const typename Heads::Held& held,
                                         const Put& put) {
  float x[kLaneElements<D>];
  heads.take(held, x);
#pragma unroll
  for (int i = 0; i < kLaneElements<D>; ++i)
    if (lane_has<D>(i)) put(lane_element<D>(i), from_float<T>(x[i]));
}

// The heads of a step's new keys.
template <int D>
__device__ __forceinline__ RotatedHeads<D> new_keys(const Rotation& r, int32_t row) {
  return RotatedHeads<D>(r, r.k + row * r.k_stride, r.k_gain, row);
}

// The rotated key of the tile's row and its value, rounded, to shared memory, and by the first tile
// of the row to the cache. By the block's last two warps: where lines are few, the others have the
// queries meanwhile.
template <class T, int D>
__device__ __forceinline__ void make_newest(const AttendArgs& args, const LineTile& tile,
                                            int kv_head, T* newest) {
  const Rotation& r = args.rotation;
  const int32_t row = tile.first_row;
  const int warp = warp_of_block();
  if (warp < kWarps - 2) return;
  const auto make = [&](const auto& heads, const float* head, int64_t offset, T* here) {
    const auto held = heads.ask(head);  // on its way while the cache's block is looked up
    const bool stores = tile.first_line == quotient(tile.first_line, args.group) * args.group;
    const SequenceCache cache = sequence_cache(args.cache, tile.sequence);
    T* to = cache.key<T>(tile.first_position, kv_head) + offset * cache.value_offset();
    put_head<T, D>(heads, held, [&](int d, T x) {
      here[d] = x;
      if (stores) to[d] = x;
    });
  };
  if (warp == kWarps - 1) {
    make(PlainHeads<D>{}, r.v + row * r.v_stride + kv_head * D, 1, newest + D);
  } else {
    make(new_keys<D>(r, row), r.k + row * r.k_stride + kv_head * D, 0, newest);
  }
}

// Into a warp's tile of positions from `at` on, in place of what was copied: keys and values that
// this launch stores. The tile's own is `newest`. Where its run has rows before it, which a step of
// decode rarely has, theirs are made here once more.
template <class T, int D>
__device__ __forceinline__ void put_new(const AttendArgs& args, const LineTile& tile, int kv_head,
                                        const T* newest, int32_t at, int32_t end, T* keys) {
  constexpr int kWord = 16 / sizeof(T), kWords = D / kWord;
  T* values = keys + Layout<T, D>::kTile;
  const int own = tile.first_position - at;
  if (own < kPositions && tile.first_position < end) {
    for (int w = lane_of_warp(); w < 2 * kWords; w += kWarpSize) {
      T* to = w < kWords ? keys + w * kWord : values + (w - kWords) * kWord;
      store<kWord>(to + own * kRowStride<D>, load<kWord>(newest + w * kWord));
    }
  }
  const Rotation& r = args.rotation;
#pragma unroll 1
  for (int32_t row = tile.run_row; row < tile.first_row; ++row) {
    const int place = args.rows.positions[row] - at;
    if (place < 0 || place >= kPositions) continue;
    const RotatedHeads<D> of_keys = new_keys<D>(r, row);
    const PlainHeads<D> of_values;
    const auto key = of_keys.ask(r.k + row * r.k_stride + kv_head * D);
    const auto value = of_values.ask(r.v + row * r.v_stride + kv_head * D);
    put_head<T, D>(of_keys, key, [&](int d, T x) { keys[place * kRowStride<D> + d] = x; });
    put_head<T, D>(of_values, value, [&](int d, T x) { values[place * kRowStride<D> + d] = x; });
  }
  __syncwarp();
}

// kRotates: args.rotation says what is done first. Tiles are of rows then.
template <class T, int D, bool kRotates, bool kSmall>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    decode_kernel(AttendArgs args, Tiling tiling, Partials partials) {
  next_may_start();
  using L = Layout<T, D, kSmall>;
  LineTile tile;
  Share share;
  if (!find_work(args, tiling, static_cast<int32_t>(blockIdx.x), tile, share))
    return nothing_to_do();
  const int kv_head = static_cast<int>(blockIdx.y);
  const int warp = warp_of_block();
  T* queries = shared<T>();  // [kParts][kLines][stride]
  T* rings = queries + L::kQueries;
  T* ring = rings + warp * L::kRing;  // [kStages][keys, values][kPositions][stride]
  T* newest = rings + kWarps * L::kRing;
  auto* factors = reinterpret_cast<float*>(newest + L::kNewest);

  const bool stores = kRotates && args.rotation.k != nullptr;
  const float* first_query = QueryLines{args, tile, kv_head}(0);  // the row's others follow it
  const TileKeys<T> source(args, tile, kv_head, share.end);
  const int32_t first = share.begin + warp * kPositions;
  const auto begin_copies = [&](int i) {
    const int32_t at = first + i * kWarps * kPositions;
    T* keys = ring + i % L::kStages * 2 * L::kTile;
    if (at < share.end) copy_positions<T, D, kPositions>(source, at, keys, keys + L::kTile);
    copies_commit();
  };
  // What the kernels before this one do not store comes while they run.
  const int32_t settled = !args.older_settled ? 0
                          : stores            ? tile.end + kPositions  // what is not is replaced
                                              : args.rows.positions[tile.run_row];
  for (int i = 0; i < L::kStages - 1; ++i) {
    if (first + i * kWarps * kPositions + kPositions > settled) previous_done();
    begin_copies(i);
  }
  previous_done();

  if constexpr (kRotates) {
    const bool makes = stores && share.end == tile.end;
    if (makes) make_newest<T, D>(args, tile, kv_head, newest);
    load_queries<T, D, kParts, kLines>(
        args, tile, makes && tile.lines <= kWarps ? kWarps - 2 : kWarps, queries, factors,
        RotatedHeads<D>(args.rotation, first_query, args.rotation.q_gain, tile.first_row),
        [&](int line) { return first_query + line * D; });
  } else {
    load_queries<T, D, kParts, kLines>(args, tile, kWarps, queries, factors, PlainHeads<D>{},
                                       QueryLines{args, tile, kv_head});
  }
  __syncthreads();
  LineSums<D, 1> lines;
  for (int i = 0; first + i * kWarps * kPositions < share.end; ++i) {
    const int32_t at = first + i * kWarps * kPositions;
    if constexpr (L::kStages == 1) {
      begin_copies(i);
      copies_wait<0>();
      __syncwarp();  // all lanes' copies are there
    } else {
      copies_wait<L::kStages - 2>();
      __syncwarp();  // all lanes' copies of this stage are there, and all have read the one before
      begin_copies(i + L::kStages - 1);
    }
    T* keys = ring + i % L::kStages * 2 * L::kTile;
    if (stores) put_new<T, D>(args, tile, kv_head, newest, at, share.end, keys);
    FragmentC s[1][kPositions / 8];
    scores<T, D, 1, kPositions / 8, kParts>(queries, kLines * kRowStride<D>, keys, s);
    if (needs_mask(args, tile, at, kPositions, share.end))
      mask_scores(args, tile, 0, at, share.end, s);
    shrink_sums(weigh<T>(factors, s, lines), lines);
    add_values<T, D, 1, kPositions / 8, kParts>(keys + L::kTile, s, lines);
    if constexpr (L::kStages == 1) __syncwarp();  // all have read it
  }

  copies_wait<0>();
  __syncthreads();  // no warp reads queries, reads or fills its ring any more
  auto* sums = reinterpret_cast<float*>(queries);
  float* largest_and_total = sums + kWarps * kLines * L::kSumStride;
  leave_sums<T, D>(lines, tile.lines, warp, sums, largest_and_total);
  __syncthreads();
  put_lines<T, D>(args, tiling, partials, tile, kv_head, share, sums, largest_and_total);

  if (share.used == 1 || !tiling.joins) return;
  unsigned* ended = partials.ended + blockIdx.x * gridDim.y + blockIdx.y;
  if (last_block(ended, share.used, reinterpret_cast<int*>(factors)))
    join_parts<D>(args, tiling, partials, tile, kv_head, share.used);
}

template <class T, int D, bool kSmall>
void attend(Context& context, const AttendArgs& args, const Tiling& tiling, Partials partials) {
  launch(
      context, "attend (decode)",
      Grid{tile_grid(args, tiling), dim3(kWarps * kWarpSize), Layout<T, D, kSmall>::kBytes,
           args.overlaps},
      args.rotation.wanted ? decode_kernel<T, D, true, kSmall> : decode_kernel<T, D, false, kSmall>,
      args, tiling, partials);
}

}  // namespace

void attend_decode(Context& context, const AttendArgs& args, const Tiling& tiling,
                   Partials partials) {
  dispatch_layout<Layout>(context, args.cache, [&](auto zero, auto dim, auto small) {
    attend<decltype(zero), decltype(dim)::value, decltype(small)::value>(context, args, tiling,
                                                                         partials);
  });
}

}  // namespace trireme::cuda
