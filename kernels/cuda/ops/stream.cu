// Products of one row: the weights are read once, straight into fused multiply-adds, and the time
// is that of reading them.
//
// Each multiprocessor has one block, and each block reads whole rows of one call. What such a
// product loses is its ends: memory idles while the last kernels' results are added up, while
// blocks begin, while x is waited for. So a block asks for its first 112 KB of weights as soon as
// it is there, which may be several kernels early (device/overlap.cuh): 3.6 us of reading.
//
// That is more than half of a multiprocessor's shared memory, so that no two blocks meet on one
// while another has none: with rings of 96 KB they did, as attention left no room here and there,
// and a step of 8B parameters took 5.8 ms where it takes 4.8 otherwise (on an H200, 192 tokens of
// context). Decode attention of heads of 128 has room beside a block.
//
// Within a block, threads stand beside each other on inputs, 16 bytes of each row a piece: a thread
// keeps its inputs of x in registers for all rows, copies its own pieces into a ring in shared
// memory and multiplies them itself, so that nobody waits for anybody. Its pieces of four rows are
// a bundle. Sums of a warp go to shared memory, where a unit's are added in the order of the warps.
//
// Which block computes a unit of rows is decided as they go (`take_unit`): of equal shares the last
// block is done 13 of 60 us after the first, and blocks that found their multiprocessor taken by
// another kernel's begin late. The bits do not depend on it.
//
// Measured on one H200, of 4.24 TB/s to copy, with equal shares and rings of 96 KB, alone: 14336 x
// 4096 in bf16 29.0 us, 96 %; 4096 x 14336 29.6 us, 94 %; 4096 x 4096 9.5 us, 83 %.
//
// Ruled out by measuring: weights read into registers (64 of them, four blocks of 8 warps on a
// multiprocessor, two rows a warp): 86, 73 and 65 %; asking L2 for weights ahead, as a block begins
// (0.1 ms a step longer for each 12 MB) or as it has asked for all of its own (12 MB: nothing; 24
// MB: 3 % longer; 36 MB: 10 %); rings of 64 KB (4.88 ms a step of 8B, 4.72 with 96); two rows at
// once (5.7 ms a step, where tensor cores take 4.7). And all products from one attention to the
// next as stages of one launch, which meet at a barrier of the grid, with the norms made by each
// block and weights asked for across stages: 4.43 ms a step of 8B parameters and 4.41 of RWKV-7
// 7.2B, where launches took 4.36 and 4.07 (1.1B: 0.95 and 0.99). What follows a barrier, a row's
// way from L2, its norm and the first bundles, took 5 to 8 us; rings of 192 KB and L2 asked for
// more changed nothing, units of half the size were slower.
//
// Products that do not wait for each other go in one launch, each with its share of the blocks.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kTogether = 4;  // rows of w of a bundle
constexpr int kBundles = 7;
constexpr int kUnitGroupsMost = kBundles;
constexpr int64_t kWideBytes = 2048;  // of a row: half of the threads have a piece of it

template <class W>
constexpr int kWide = 16 / static_cast<int>(sizeof(W));  // numbers of a piece
template <class W>
constexpr int kChunk = kThreads* kWide<W>;  // inputs of a piece of each thread

struct Calls {
  Call each[kCallsMax];
  int32_t first_block[kCallsMax + 1];  // of each, and of all together
  int32_t unit_groups[kCallsMax];
  int32_t count;
  bool aligned;       // rows of x, to 16 bytes
  unsigned* tickets;  // of each call: how many units were handed out beyond the first two of blocks
};

// What a block has of a call: some of its units, of unit_groups groups of kTogether rows of w. With
// kSwiglu gate and value of an output follow each other. Block b begins with units b and b +
// blocks; further ones are handed out.
struct Share {
  int block, blocks;
  int rows;         // of w
  int unit_groups;  // the last unit may have fewer
  int groups, units;
  int64_t odd;   // numbers from an even row to the next
  int64_t pair;  // from an even row to the next even one

  __device__ __forceinline__ int groups_of(int unit) const {
    return min(unit_groups, groups - unit * unit_groups);
  }
};

__device__ __forceinline__ Share share_of_block(const Call& c, int unit_groups, int block,
                                                int blocks) {
  const bool gated = c.epilogue == Epilogue::kSwiglu;
  Share s;
  s.block = block;
  s.blocks = blocks;
  s.rows = static_cast<int>(gated ? 2 * c.outputs : c.outputs);
  s.odd = gated ? c.outputs * c.w_stride : c.w_stride;
  s.pair = gated ? c.w_stride : 2 * c.w_stride;
  s.unit_groups = unit_groups;
  s.groups = (s.rows + kTogether - 1) / kTogether;
  s.units = quotient(s.groups + unit_groups - 1, unit_groups);
  return s;
}

// Where a thread is in its pieces: of a unit, slab after slab of the inputs, all groups of each.
template <class W, int kChunks>
struct Place {
  const W* w;   // the thread's first piece of the matrix
  const W* at;  // of the bundle
  int stride;   // of w, less where the thread begins: pieces at or beyond it do not exist
  int unit;
  int slab = 0;               // its first input
  int group = 0, groups = 0;  // of the unit
  int chunk = 0;

  __device__ __forceinline__ int chunks() const {
    const int left = (stride - slab + kChunk<W> - 1) / kChunk<W>;
    return left < kChunks ? left : kChunks;
  }
  __device__ __forceinline__ void begin(const Share& share, int next) {
    unit = next;
    slab = group = chunk = 0;
    groups = stride > 0 && unit < share.units ? share.groups_of(unit) : 0;
    at = w + int64_t{kTogether / 2} * share.unit_groups * unit * share.pair;
  }
  // To the next bundle of the unit; `group` is `groups` after the last.
  __device__ __forceinline__ void advance(const Share& share) {
    at += kChunk<W>;
    if (++chunk < chunks()) return;
    at += kTogether / 2 * share.pair - chunk * kChunk<W>;
    chunk = 0;
    if (++group < groups || slab + kChunks * kChunk<W> >= stride) return;
    slab += kChunks * kChunk<W>;
    at += kChunks * kChunk<W> - int64_t{kTogether / 2} * groups * share.pair;
    group = 0;
  }
};

// Asks for the thread's pieces of a bundle, if there is one; after those of its unit come those of
// unit `upcoming`. Where the matrix ends within a group, for the group's first row again.
template <class W, int kChunks>
__device__ __forceinline__ void ask(Place<W, kChunks>& place, const Share& share, int upcoming,
                                    W* slot) {
  if (place.group >= place.groups && place.unit != upcoming) place.begin(share, upcoming);
  if (place.group < place.groups) {
    const int left = share.rows - (place.unit * share.unit_groups + place.group) * kTogether;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int64_t to_row = i < left ? i / 2 * share.pair + i % 2 * share.odd : 0;
      copy_16_bytes_once(slot + i * kChunk<W>, place.at + to_row);
    }
    place.advance(share);
  }
  copies_commit();
}

// A unit beyond the first two of each block; units or more where there is none any more. A block
// that has a second unit asks until that is the answer, so all together ask units - blocks times:
// the last to ask leaves the ticket as it was. REQUIRES: kernels before this one have ended.
__device__ __forceinline__ int take_unit(unsigned* ticket, const Share& share) {
  const int first = 2 * share.blocks;
  if (share.units <= first) return share.units;
  const auto taken = static_cast<int>(atomicAdd(ticket, 1u));
  if (taken == share.units - share.blocks - 1) *ticket = 0;
  return first + taken;
}

// Stores the outputs of a unit. partial: [rows of w of the unit][kWarps].
__device__ __forceinline__ void finish_unit(const Call& c, const Share& share, int unit,
                                            const float* partial) {
  const bool gated = c.epilogue == Epilogue::kSwiglu;
  const int each = gated ? 2 : 1;  // rows of w of an output
  const int outputs = share.groups_of(unit) * kTogether / each;
  for (int o = static_cast<int>(threadIdx.x); o < outputs; o += kThreads) {
    const int64_t output = int64_t{unit} * share.unit_groups * (kTogether / each) + o;
    if (output >= c.outputs) continue;
    float sums[2] = {};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (e == each) break;
#pragma unroll
      for (int k = 0; k < kWarps; k += 4) {
        const Pack<float, 4> four = load<4>(partial + (o * each + e) * kWarps + k);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[e] += four.at[j];
      }
      if (c.bias != nullptr) sums[e] += c.bias[output + e * c.outputs];
    }
    c.y[output] = gated ? swiglu(sums[0], sums[1]) : finished(c, sums[0]);
  }
}

// How many sums a unit leaves at most.
constexpr int kPartials = kUnitGroupsMost * kTogether * kWarps;
constexpr size_t kSharedBytes =
    size_t{kBundles} * kTogether * kThreads * 16 + 2 * kPartials * sizeof(float) + 2 * sizeof(int);

template <class W, int kChunks>
__global__ void __launch_bounds__(kThreads, 2) stream_kernel(const __grid_constant__ Calls calls) {
  next_may_start();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.first_block[i]; });
  const Call& c = calls.each[index];
  const int first_block = calls.first_block[index];
  const Share share =
      share_of_block(c, calls.unit_groups[index], static_cast<int>(blockIdx.x) - first_block,
                     calls.first_block[index + 1] - first_block);
  const int warp = warp_of_block(), lane = lane_of_warp();
  const int own = static_cast<int>(threadIdx.x) * kWide<W>;
  const int stride = static_cast<int>(c.w_stride);
  W* ring = shared<W>() + own;
  float* partials = reinterpret_cast<float*>(shared<W>() + kBundles * kTogether * kChunk<W>);
  int* mail = reinterpret_cast<int*>(partials + 2 * kPartials);  // [2]

  int unit = share.block, upcoming = share.block + share.blocks;
  Place<W, kChunks> next;
  next.w = static_cast<const W*>(c.w) + own;
  next.stride = stride - own;
  next.begin(share, unit);
#pragma unroll 1
  for (int i = 0; i < kBundles; ++i) ask(next, share, upcoming, ring + i * kTogether * kChunk<W>);
  previous_done();

  float x[kChunks][kWide<W>];
  const auto load_slab = [&](int slab) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) inputs_at(c, slab + own + i * kChunk<W>, calls.aligned, x[i]);
  };
  constexpr int kSlab = kChunks * kChunk<W>;
  load_slab(0);
  int slot = 0;
#pragma unroll 1
  for (int parity = 0; unit < share.units; parity ^= 1) {
    int further = share.units;
    if (threadIdx.x == 0 && upcoming < share.units)
      further = take_unit(calls.tickets + index, share);
    float* partial = partials + parity * kPartials;
    const int groups = share.groups_of(unit);
#pragma unroll 1
    for (int slab = 0; slab < stride; slab += kSlab) {
      if (stride > kSlab) load_slab(slab);
#pragma unroll 1
      for (int group = 0; group < groups; ++group) {
        float sums[kTogether] = {};
#pragma unroll
        for (int i = 0; i < kChunks; ++i) {
          if (slab + own + i * kChunk<W> >= stride) break;
          copies_wait<kBundles - 1>();
          W* bundle = ring + slot * kTogether * kChunk<W>;
          Pack<W, kWide<W>> packs[kTogether];
#pragma unroll
          for (int t = 0; t < kTogether; ++t) packs[t] = load<kWide<W>>(bundle + t * kChunk<W>);
#pragma unroll
          for (int t = 0; t < kTogether; ++t) {
            float numbers[kWide<W>];
            to_floats(packs[t], numbers);
#pragma unroll
            for (int j = 0; j < kWide<W>; ++j) sums[t] = fmaf(numbers[j], x[i][j], sums[t]);
          }
          ask(next, share, upcoming, bundle);
          slot = slot + 1 < kBundles ? slot + 1 : 0;
        }
        fold_sums<kWarpSize, kTogether>(sums, lane);  // eight lanes have each
        if (lane % 8 == 0) {
          float* at = partial + (group * kTogether + lane / 8) * kWarps + warp;
          *at = slab == 0 ? sums[0] : *at + sums[0];
        }
      }
    }
    if (threadIdx.x == 0) mail[parity] = further;
    __syncthreads();
    finish_unit(c, share, unit, partial);
    unit = upcoming;
    upcoming = mail[parity];
  }
}

int64_t rows_of(const Call& c) {
  return c.epilogue == Epilogue::kSwiglu ? 2 * c.outputs : c.outputs;
}

// A unit's groups: as few as keep the ring busy with one unit, so that what comes after the next
// is not asked for before it is known. A thread has a bundle of each group for each of its chunks.
template <class W>
int unit_groups_of(const Call& c) {
  const int64_t chunks = std::max(c.w_stride / kChunk<W>, int64_t{1});
  return static_cast<int>(ceil_div(kBundles, chunks));
}

template <class W, int kChunks>
void launch_calls(Context& context, std::span<const Call> each) {
  Calls calls{};
  calls.count = static_cast<int32_t>(each.size());
  calls.aligned = true;
  calls.tickets = context.counters(kCallsMax);
  if (calls.tickets == nullptr) return;  // the context holds the error
  int64_t numbers = 0;
  for (const Call& c : each) {
    numbers += rows_of(c) * c.w_stride;
    calls.aligned = calls.aligned && aligned4(c.x, c.x_stride);
  }
  int64_t blocks = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    const Call& c = calls.each[i] = each[i];
    calls.unit_groups[i] = unit_groups_of<W>(c);
    const int64_t units = ceil_div(ceil_div(rows_of(c), kTogether), calls.unit_groups[i]);
    blocks += std::clamp(context.multiprocessors() * rows_of(c) * c.w_stride / numbers, int64_t{1},
                         units);
    calls.first_block[i + 1] = static_cast<int32_t>(blocks);
  }
  launch(context, "linear",
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), kSharedBytes, true},
         stream_kernel<W, kChunks>, calls);
}

// With as many registers for x as its inputs need: a slab is all of them up to 16384 of 16 bits.
template <class W>
void choose_width(Context& context, std::span<const Call> calls) {
  int64_t inputs = 0;
  for (const Call& c : calls) inputs = std::max(inputs, c.w_stride);
  if (inputs <= 2 * kChunk<W>) return launch_calls<W, 2>(context, calls);
  if (inputs <= 4 * kChunk<W>) return launch_calls<W, 4>(context, calls);
  launch_calls<W, 8>(context, calls);
}

}  // namespace

void stream_products(Context& context, DType dtype, std::span<const Call> calls) {
  // Rows that leave most of a block without a piece go another way; all do on GPUs that have less
  // shared memory (sm_86, sm_89).
  Call wide[kCallsMax], narrow[kCallsMax];
  size_t wide_count = 0, narrow_count = 0;
  for (const Call& c : calls) {
    const bool is_wide = c.w_stride * static_cast<int64_t>(dtype_bytes(dtype)) >= kWideBytes &&
                         context.shared_bytes_max() >= kSharedBytes;
    (is_wide ? wide[wide_count++] : narrow[narrow_count++]) = c;
  }
  if (narrow_count > 0) stream_short_rows(context, dtype, {narrow, narrow_count});
  if (wide_count == 0) return;
  dispatch_floats(dtype, [&](auto zero) {
    choose_width<decltype(zero)>(context, {wide, wide_count});
  });
}

}  // namespace trireme::cuda
