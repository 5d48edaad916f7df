// Attention of many lines on a Hopper: prefill, by products of warp groups (wgmma.cuh) with
// FlashAttention-3's division of labour (arXiv 2407.08608), over a block table.
//
// Grid [tiles of 128 lines, kv heads, parts], 12 warps, one block on a multiprocessor. Four warps
// copy keys and values, 128 positions at a time, into two buffers of each; eight multiply, 64 lines
// for each group of four:
//
//   S = Q K^T    from shared memory, S in registers
//   O = O + P V  P in registers, V from shared memory as it lies in the cache
//
// A group begins the scores of the next positions and the sums of the last ones together, and has
// the softmax of the new scores to do while the sums are on their way. The two groups take turns at
// beginning (barriers kTurn), so that one multiplies while the other computes weights: 128 x 128
// exponentials take a multiprocessor 1024 cycles, the two products of heads of 128 take 2048, of
// heads of 64 take 1024.
//
// Barriers by tile: a buffer of keys or values is full when the copies of 128 threads are there,
// and empty when eight warps have multiplied by it.
//
// What a tile's line sees, masks, factors and rounding are those of attention_prefill.cu, and so
// are the sums but for their order within a product.
//
// By count, on one H200: a layer of 8K rows, 32 heads of 128, causal, is 0.55 TFLOP, 0.7 ms at 790
// TFLOP/s, where attention_prefill.cu takes 1.78. FlashAttention-3 is reported to reach 62 to 66 %
// of an H100's 989 TFLOP/s with this tile, causal, at 8K to 16K positions, where blocks go from
// tile to tile; here a block begins with what it looks up and with 64 KB of q, 3 us of some 60.
// Expected: 1.0 to 1.1 ms. Measured: 1.12 ms, 61 % of the matrix rate, where attention_prefill.cu
// took 1.83 in the same run; 32 heads of 64 0.77 ms, 44 %, and 1.00.
#include "kernels/cuda/device/barriers.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/prefill_lines.cuh"
#include "kernels/cuda/device/tile_products.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace hopper {  // with a name: where an architecture has no warp groups most of it is not used

inline constexpr int kGroups = 2;  // of warps that multiply
inline constexpr int kGroupLines = 64;
inline constexpr int kLines = kGroups * kGroupLines;
inline constexpr int kMultiplying = kGroups * kGroupThreads;  // threads, the first of the block
inline constexpr int kCopying = kGroupThreads;
inline constexpr int kThreads = kMultiplying + kCopying;
inline constexpr int kPositions = 128;  // of a tile
inline constexpr int kStages = 2;

// Barriers by number.
inline constexpr int kQueriesAreThere = 1;
inline constexpr int kTurn = 2;  // and the one after it: of each group

// Tile i of a part goes through buffer i % kStages, the i / kStages-th time.
struct Buffer {
  int stage, parity;  // of the phase that it is filled in
  __device__ __forceinline__ explicit Buffer(int tile)
      : stage(tile % kStages), parity(tile / kStages & 1) {}
};

// Barriers of a buffer.
struct Handing {
  PhaseBarrier full, empty;

  __device__ __forceinline__ void wait_for(int tile) {
    wait_for_phase(&full, Buffer(tile).parity);
    seen_by_products();
  }
  __device__ __forceinline__ void give_back() {
    if (lane_of_warp() == 0) arrive(&empty);
  }
};

// Shared memory: q, the stages of keys and of values, all in panels; factors of lines; barriers.
template <class T, int D>
struct Layout {
  static constexpr int kQuery = kLines * D;       // numbers
  static constexpr int kBuffer = kPositions * D;  // of keys, or of values
  static constexpr size_t kBytes = kPanelAlignment + (kQuery + 2 * kStages * kBuffer) * sizeof(T) +
                                   kLines * sizeof(float) + 2 * kStages * sizeof(Handing);
  T* queries;
  T *keys, *values;  // [kStages]
  float* factors;
  Handing *of_keys, *of_values;  // [kStages]

  __device__ __forceinline__ Layout() {
    queries = reinterpret_cast<T*>(panels_from(shared<unsigned char>()));
    keys = queries + kQuery;
    values = keys + kStages * kBuffer;
    factors = reinterpret_cast<float*>(values + kStages * kBuffer);
    of_keys = reinterpret_cast<Handing*>(factors + kLines);
    of_values = of_keys + kStages;
  }
};

// A warp's 32 rows of a tile of keys or values. mine: where this lane's position lies, null where
// it is not to be read; offset: from there to what is wanted.
template <class T, int D>
__device__ __forceinline__ void copy_rows(unsigned long long mine, int64_t offset, const void* any,
                                          T* to) {
  constexpr int kWord = 16 / sizeof(T), kAcross = 8 * (D / kPanel), kDown = kWarpSize / kAcross;
  static_assert(8 % kDown == 0);
  const int lane = lane_of_warp(), row = lane / kAcross, col = lane % kAcross * kWord;
#pragma unroll
  for (int first = 0; first < 8; first += kDown) {
    T* place = to + panel_at(first + row, col, kPositions);
#pragma unroll
    for (int p = first; p < kWarpSize; p += 8, place += 8 * kPanel) {  // rows of one pattern
      const auto* key = reinterpret_cast<const T*>(__shfl_sync(kWholeWarp, mine, p + row));
      const bool seen = key != nullptr;
      copy_16_bytes(place, seen ? key + offset + col : static_cast<const T*>(any), seen);
    }
  }
}

// Keys and values of all tiles of a share, in the order in which they are wanted: the scores are
// one tile ahead of the sums.
template <class T, int D>
__device__ __forceinline__ void copy_tiles(const TileKeys<T>& source, const Share& share, int tiles,
                                           const Layout<T, D>& at) {
  const int row = (warp_of_block() - kMultiplying / kWarpSize) * kWarpSize;
  const auto position_of = [&](int i) {
    return reinterpret_cast<unsigned long long>(
        source.key(share.begin + i * kPositions + row + lane_of_warp()));
  };
  const auto copy = [&](Handing* of, T* buffers, int i, unsigned long long mine, int64_t offset) {
    const Buffer buffer(i);
    wait_for_phase(&of[buffer.stage].empty, buffer.parity ^ 1);
    copy_rows<T, D>(mine, offset, source.cache.blocks,
                    buffers + buffer.stage * Layout<T, D>::kBuffer + row * kPanel);
    arrive_when_copied(&of[buffer.stage].full);
  };
  unsigned long long last = position_of(0);
  copy(at.of_keys, at.keys, 0, last, 0);
#pragma unroll 1
  for (int i = 0; i < tiles; ++i) {
    const unsigned long long next = i + 1 < tiles ? position_of(i + 1) : 0;
    if (i + 1 < tiles) copy(at.of_keys, at.keys, i + 1, next, 0);
    copy(at.of_values, at.values, i, last, source.cache.value_offset());
    last = next;
  }
  copies_commit();
  copies_wait<0>();  // no warp ends before what it has begun
}

// One of the groups that multiply: its 64 lines, a warp 16 of them.
template <class T, int D>
struct Multiplying {
  const Layout<T, D>& at;
  int group;
  LineSums<D, 1>& lines;
  FragmentC s[1][kPositions / 8];  // scores, then weights
  FragmentA p[kPositions / 16];    // weights in the cache's format

  __device__ __forceinline__ void begin_scores(int i) {
    const T* queries = at.queries + group * kGroupLines * kPanel;
    const T* keys = at.keys + Buffer(i).stage * Layout<T, D>::kBuffer;
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      const int panel = k * 16 / kPanel, col = k * 16 % kPanel;
      group_multiply<T, kPositions>(described_along(queries + panel * kLines * kPanel + col),
                                    described_along(keys + panel * kPositions * kPanel + col),
                                    k > 0, s[0]);
    }
    group_commit();
  }
  __device__ __forceinline__ void begin_sums(int i) {
    const T* values = at.values + Buffer(i).stage * Layout<T, D>::kBuffer;
#pragma unroll
    for (int k = 0; k < kPositions / 16; ++k) {
      group_multiply_add<T, D>(p[k],
                               described_down(values + k * 16 * kPanel,
                                              kPositions * kPanel * static_cast<int>(sizeof(T))),
                               lines.sum[0]);
    }
    group_commit();
  }
  __device__ __forceinline__ void round_weights() {
#pragma unroll
    for (int k = 0; k < kPositions / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &s[0][2 * k + i / 2].at[i % 2 * 2];
        p[k].at[i] = pack<T>(pair[0], pair[1]);
      }
    }
  }
};

template <class T, int D>
__device__ __forceinline__ void multiply_tiles(const AttendArgs& args, const LineTile& tile,
                                               const Share& share, int tiles,
                                               const Layout<T, D>& at, LineSums<D, 1>& lines) {
  const int group = warp_of_block() / (kGroupThreads / kWarpSize);
  const int warp_line = warp_of_block() * 16;
  Multiplying<T, D> m{at, group, lines, {}, {}};
  const auto weigh_tile = [&](int i) {
    const int32_t first = share.begin + i * kPositions;
    if (needs_mask(args, tile, first, kPositions, share.end))
      mask_scores(args, tile, warp_line, first, share.end, m.s);
    return weigh<T>(at.factors + warp_line, m.s, lines);
  };

  // Before a wait for products: what was computed since they began, the compiler leaves before this
  // loop; it would put the wait first otherwise.
  const auto wait_for_keys = [&](int i) {
    if (i < tiles) at.of_keys[Buffer(i).stage].wait_for(i);
  };

  wait_for_keys(0);
  group_begin();
  m.begin_scores(0);
  group_wait<0>();
  settled(m.s[0]);
  at.of_keys[0].give_back();
  weigh_tile(0);  // there are no sums yet that could shrink
  m.round_weights();
  wait_for_keys(1);
  if (group != 0 && tiles > 1) named_arrive(kTurn, kMultiplying);  // the first group begins
#pragma unroll 1
  for (int i = 1; i < tiles; ++i) {
    named_wait(kTurn + group, kMultiplying);
    at.of_values[Buffer(i - 1).stage].wait_for(i - 1);
    group_begin();
    m.begin_scores(i);
    m.begin_sums(i - 1);
    if (group == 0 || i + 1 < tiles) named_arrive(kTurn + (group ^ 1), kMultiplying);
    group_wait<1>();
    settled(m.s[0]);
    at.of_keys[Buffer(i).stage].give_back();
    const Shrinking<1> shrinking = weigh_tile(i);
    settled(m.s[0]);
    wait_for_keys(i + 1);
    group_wait<0>();
    settled(lines.sum[0]);
    settled(m.p);
    at.of_values[Buffer(i - 1).stage].give_back();
    shrink_sums(shrinking, lines);
    m.round_weights();
  }
  at.of_values[Buffer(tiles - 1).stage].wait_for(tiles - 1);
  group_begin();
  m.begin_sums(tiles - 1);
  group_wait<0>();
  settled(lines.sum[0]);
}

template <class T, int D>
__device__ __forceinline__ void attend_tile(const AttendArgs& args, const Tiling& tiling,
                                            const Partials& partials) {
  // Of 65,536 that a multiprocessor has; at first each of 384 threads has 168.
  constexpr int kMultiplyingRegisters = 216, kCopyingRegisters = 72;
  next_may_start();
  LineTile tile;
  Share share;
  if (!find_work(args, tiling, static_cast<int32_t>(gridDim.x - 1 - blockIdx.x), tile, share))
    return nothing_to_do();
  const int kv_head = static_cast<int>(blockIdx.y);
  const Layout<T, D> at;
  if (threadIdx.x < unsigned{2 * kStages}) {
    make_barrier(&at.of_keys[threadIdx.x].full, kCopying);
    make_barrier(&at.of_keys[threadIdx.x].empty, kMultiplying / kWarpSize);
  }
  __syncthreads();
  previous_done();
  const int tiles = quotient(share.end - share.begin + kPositions - 1, kPositions);
  if (threadIdx.x >= unsigned{kMultiplying}) {
    give_registers_up<kCopyingRegisters>();
    copy_tiles(TileKeys<T>(args, tile, kv_head, share.end), share, tiles, at);
    return;
  }
  take_registers<kMultiplyingRegisters>();
  load_queries<T, D, 1, kLines, kLines / (kMultiplying / kWarpSize)>(
      args, tile, kMultiplying / kWarpSize, at.queries, at.factors, PlainHeads<D>{},
      QueryLines{args, tile, kv_head},
      [](int, int line, int d) { return panel_at(line, d, kLines); });
  seen_by_products();
  named_wait(kQueriesAreThere, kMultiplying);
  LineSums<D, 1> lines;
  multiply_tiles(args, tile, share, tiles, at, lines);
  put_lines<D, 1>(args, tiling, partials, tile, kv_head, share, warp_of_block() * 16, lines);
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1)
    attend_kernel(const __grid_constant__ AttendArgs args, const __grid_constant__ Tiling tiling,
                  const __grid_constant__ Partials partials) {
  if constexpr (kHasWarpGroups) {
    attend_tile<T, D>(args, tiling, partials);
  } else {
    __trap();  // Context::warp_groups() says where it may be launched
  }
}

}  // namespace hopper

namespace {

template <class T>
void attend(Context& context, const AttendArgs& args, const Tiling& tiling, Partials partials) {
  CHECK(tiling.lines == hopper::kLines);
  const auto go = [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    launch(context, "attend (prefill, Hopper)",
           Grid{tile_grid(args, tiling), dim3(hopper::kThreads), hopper::Layout<T, kDim>::kBytes,
                true},
           hopper::attend_kernel<T, kDim>, args, tiling, partials);
  };
  if (args.cache.head_dim == 128) {
    go(std::integral_constant<int, 128>{});
  } else {
    CHECK(args.cache.head_dim == 64) << "no kernel for heads of " << args.cache.head_dim;
    go(std::integral_constant<int, 64>{});
  }
}

}  // namespace

void attend_hopper(Context& context, const AttendArgs& args, const Tiling& tiling,
                   Partials partials) {
  dispatch_16_bits(args.cache.dtype,
                   [&](auto zero) { attend<decltype(zero)>(context, args, tiling, partials); });
}

}  // namespace trireme::cuda
