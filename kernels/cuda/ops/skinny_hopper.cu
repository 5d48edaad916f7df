// Products of 2 to 64 rows by warp groups: the weights are read once, and tensor cores take them
// and x from shared memory, where copies have put them. No warp loads what it multiplies.
//
// What 64 rows cost for each byte of 16-bit weights, at 4.2 TB/s from memory (skinny.cu counts the
// same for mma.sync):
//   64 flops       270 Tflop/s, of some 900; there, of 600
//   x from L2      1/2 byte with tiles of 128 outputs, 1/4 with 256: 6.3 or 5.3 TB/s out of L2
//                  together with the weights, where some 6 are to be had
//   shared memory  weights and x, written and read: 3.5 or 3.25 bytes, 15 TB/s of 30; there 19
// A step, 64 inputs of a tile, takes a multiprocessor 870 clocks to come, or 1740, of which its
// products take 130, or 260. What is left to lose is the ends of tiles and of launches.
//
// A block has two or four warp groups, 64 rows of w each: a tile. All threads copy, 16 bytes of
// rows of w and of x, into a ring of panels (wgmma.cuh), 64 to 96 KB of weights ahead; then the
// groups begin their products, which the next copies are queued beside.
//
// Blocks have equal shares of all steps (device/shares.cuh), one block on each multiprocessor: it
// has more than half of its shared memory, for the reason that stream.cu gives. The ring runs on
// from tile to tile; a tile's end is in registers: biases are asked for while the last step is
// multiplied, no sums cross shared memory. Of a tile that is cut, a block that finds all other
// parts in memory two steps before its end goes on with them at once; else it writes its own down,
// and the last block to be ready reads the others', two parts at a time. Its own it has.
//
// With a gated pair of matrices, eight rows of gates and eight of values alternate in a tile: then
// a thread's sums are gate and value of the same output.
//
// In decode of 64 rows that makes a feed-forward net two launches: the first writes what the second
// reads, in bf16.
//
// No GPU has run it. It is reckoned to read weights at 85 to 90 % of the memory's speed, where the
// library had some 79 % of it in a step of 8B parameters and 64 rows, skinny.cu 64 to 75, and it
// saves a feed-forward net a launch. CudaOptions::skinny_groups asks for it.
//
// nvcc 13.0, sm_90a, 16 / 32 / 48 / 64 rows: 72 / 114 / 138 / 168 registers of two groups, 70 / 89
// / 127 / 128 of four, no spills, and nothing touches sums between products and the wait for them.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/shares.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace skinny_hopper {

constexpr int kStepInputs = kPanel;
constexpr int kPiece = 8;  // inputs in 16 bytes
constexpr int kPieces = kStepInputs / kPiece;
constexpr int kRingBytes = 120 << 10, kLargeRingBytes = 160 << 10;  // of two groups, of four
constexpr size_t kMoreThanHalf = size_t{114} << 10;  // of a multiprocessor's shared memory
// Cuts cost the writing and reading of sums, and a wait: see ShareLimits. One block reads the sums
// of six parts, 192 KB with 64 rows, in 2 us.
constexpr int64_t kShareSteps = 8, kCutSteps = 4, kTileParts = 6;

// One call, its rows in the format of the weights, and where its outputs go.
struct Skinny {
  Call call;  // y: may be null
  const void* rows;
  int64_t rows_stride;
  const float* scales;  // may be null
  LeftOut rounded;      // y in bf16; may be nowhere
};
struct Skinnies {
  Skinny each[kCallsMax];
  Shares shares;
  float* slots;     // of parts' sums: [kRows / 8][kThreads][4] each
  unsigned* ended;  // of tiles that are cut, by their first block: how many parts are there
};

template <class W_, int kRows_, int kGroups_>
struct Shape {
  using W = W_;
  static constexpr int kRows = kRows_;      // of x
  static constexpr int kGroups = kGroups_;  // of four warps, 64 rows of w each
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kTile = kGroups * 64;
  static constexpr int kStage = (kTile + kRows) * kStepInputs;  // numbers: w, then x
  static constexpr int kStages =
      (kGroups == 2 ? kRingBytes : kLargeRingBytes) / (kStage * static_cast<int>(sizeof(W)));
  static constexpr int kSums = kRows / 8;  // fragments of a thread
  static constexpr int kPartFloats = kSums * kThreads * 4;
  static constexpr size_t kSharedBytes =
      std::max(kPanelAlignment + size_t{kStages} * kStage * sizeof(W) + sizeof(int), kMoreThanHalf);
  static_assert(kStages >= 4);
};

__device__ __forceinline__ bool gated(const Call& c) { return c.epilogue == Epilogue::kSwiglu; }

// What a thread copies of each step: one piece of four rows of w, and of up to two of x.
template <class S>
struct Copies {
  using W = typename S::W;
  static constexpr int kDown = S::kThreads / kPieces;  // rows that the block copies at a time
  static_assert(S::kTile == 4 * kDown);

  StepPlace step;
  const W *w, *x;      // the step's piece of the first of its rows
  int w_next, x_next;  // to the others, in numbers
  int w_rows, x_rows;  // how many of them there are
  int steps_whole;     // steps that have the piece; beyond them, zeros

  __device__ __forceinline__ Copies(const Skinnies& calls, const StepPlace& first) : step(first) {
    begin_tile(calls);
  }

  static __device__ __forceinline__ int row() { return static_cast<int>(threadIdx.x) / kPieces; }
  static __device__ __forceinline__ int piece() { return static_cast<int>(threadIdx.x) % kPieces; }

  __device__ __forceinline__ void begin_tile(const Skinnies& calls) {
    const Skinny& s = calls.each[step.call];
    const Call& c = s.call;
    const int r = row();
    const int k = step.step * kStepInputs + piece() * kPiece;
    // Of gates and values: eight rows of each in turn.
    const int64_t output = gated(c) ? int64_t{step.tile} * (S::kTile / 2) + r / 16 * 8 + r % 8
                                    : int64_t{step.tile} * S::kTile + r;
    const int next = gated(c) ? kDown / 2 : kDown;
    const bool value = gated(c) && r % 16 >= 8;
    w = static_cast<const W*>(c.w) + (output + (value ? c.outputs : 0)) * c.w_stride + k;
    w_next = static_cast<int>(next * c.w_stride);
    const int64_t left = c.outputs - output;
    w_rows = left <= 0 ? 0 : static_cast<int>(min(left, int64_t{S::kTile}) + next - 1) / next;
    x = static_cast<const W*>(s.rows) + r * s.rows_stride + k;
    x_next = static_cast<int>(kDown * s.rows_stride);
    const int rows = static_cast<int>(c.rows);
    x_rows = (rows - r + kDown - 1) / kDown;  // r < kDown
    steps_whole = static_cast<int>(ceil_div(c.w_stride - piece() * kPiece, kStepInputs));
  }

  // To the next step. REQUIRES: there is one.
  __device__ __forceinline__ void advance(const Skinnies& calls) {
    w += kStepInputs;
    x += kStepInputs;
    next_step(calls.shares, step);
    if (step.step == 0) begin_tile(calls);
  }

  __device__ __forceinline__ void weights(W* stage) const {
    W* to = stage + panel_at(row(), piece() * kPiece, S::kTile);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      copy_16_bytes_ahead(to + i * kDown * kPanel, w + int64_t{i} * w_next,
                          step.step < steps_whole && i < w_rows);
    }
  }

  // Of x: how many times, whether the i-th is the thread's at all, where from and whether it is
  // there, where to.
  static constexpr int kTimes = (S::kRows + kDown - 1) / kDown;
  static __device__ __forceinline__ bool copies_row(int i) {
    return (i + 1) * kDown <= S::kRows || row() + i * kDown < S::kRows;
  }
  __device__ __forceinline__ const W* row_from(int i) const { return x + int64_t{i} * x_next; }
  __device__ __forceinline__ bool has_row(int i) const {
    return step.step < steps_whole && i < x_rows;
  }
  static __device__ __forceinline__ W* row_to(W* stage, int i) {
    return stage + (S::kTile + i * kDown) * kPanel + panel_at(row(), piece() * kPiece, S::kRows);
  }
  __device__ __forceinline__ void rows(W* stage) const {
#pragma unroll
    for (int i = 0; i < kTimes; ++i) {
      if (copies_row(i)) copy_16_bytes(row_to(stage, i), row_from(i), has_row(i));
    }
  }
};

// The outputs whose sums a thread holds: h of two rows of w, g + 8 h of its warp's 16; with gates
// and values one output.
template <class S>
struct Outputs {
  int64_t first;
  float bias[2];

  __device__ __forceinline__ Outputs(const Call& c, int32_t tile) {
    const int warp = warp_of_block(), g = lane_of_warp() / 4;
    first = gated(c) ? int64_t{tile} * (S::kTile / 2) + warp * 8 + g
                     : int64_t{tile} * S::kTile + warp * 16 + g;
#pragma unroll
    for (int h = 0; h < 2; ++h) bias[h] = bias_of(c, first + h * (gated(c) ? c.outputs : 8));
  }
};

// Stores what a thread holds of a tile.
template <class S>
__device__ __forceinline__ void store_sums(const Skinny& s, const Outputs<S>& outputs,
                                           const FragmentC (&sums)[S::kSums]) {
  const Call& c = s.call;
  const auto rows = static_cast<int>(c.rows);
  const int first_row = lane_of_warp() % 4 * 2;
  float scales[S::kSums][2];
  if (s.scales != nullptr) {
#pragma unroll
    for (int n = 0; n < S::kSums; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) scales[n][e] = s.scales[min(8 * n + first_row + e, rows - 1)];
    }
  } else {
#pragma unroll
    for (int n = 0; n < S::kSums; ++n) scales[n][0] = scales[n][1] = 1.0f;
  }
  float values[S::kSums * 4];  // [n][2 h + e]
#pragma unroll
  for (int i = 0; i < S::kSums * 4; ++i)
    values[i] = sums[i / 4].at[i % 4] * scales[i / 4][i % 2] + outputs.bias[i / 2 % 2];
  if (gated(c)) {
#pragma unroll
    for (int i = 0; i < S::kSums * 4; i += 4) {
#pragma unroll
      for (int e = 0; e < 2; ++e) values[i + e] = swiglu(values[i + e], values[i + 2 + e]);
    }
  } else {
    finish(c, values);
  }
  const bool there[2] = {outputs.first < c.outputs, !gated(c) && outputs.first + 8 < c.outputs};
#pragma unroll
  for (int i = 0; i < S::kSums * 4; ++i) {
    const int row = first_row + i / 4 * 8 + i % 2, h = i / 2 % 2;
    if (!there[h] || row >= rows) continue;
    const int64_t output = outputs.first + 8 * h;
    if (c.y != nullptr) c.y[row * c.y_stride + output] = values[i];
    leave<1>(s.rounded, row, output, Pack<float, 1>{{values[i]}});
  }
}

// sums: of part `own` of a tile; becomes that of all parts, added in their order.
template <class S>
__device__ __forceinline__ void add_other_parts(const float* slots, int parts, int own,
                                                FragmentC (&sums)[S::kSums]) {
  constexpr int kAtOnce = S::kGroups == 2 ? 2 : 1;  // parts; of four groups, registers are few
  const float* from = slots + static_cast<int>(threadIdx.x) * 4;
  FragmentC all[S::kSums] = {};
#pragma unroll 1
  for (int part = 0; part < parts; part += kAtOnce) {
    Pack<float, 4> packs[kAtOnce][S::kSums];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int p = min(part + i, parts - 1);
      // In the slot of the own part may be anything: then it is read, and not looked at.
#pragma unroll
      for (int n = 0; n < S::kSums; ++n)
        packs[i][n] = load<4>(from + p * S::kPartFloats + n * S::kThreads * 4);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool mine = part + i == own, there = part + i < parts;
#pragma unroll
      for (int n = 0; n < S::kSums; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float sum = all[n].at[e] + (mine ? sums[n].at[e] : packs[i][n].at[e]);
          all[n].at[e] = there ? sum : all[n].at[e];
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < S::kSums; ++n) sums[n] = all[n];
}

// sums += the warp group's part of a step. Goes on when this returns.
template <class S>
__device__ __forceinline__ void begin_step(const typename S::W* stage, bool adds,
                                           FragmentC (&sums)[S::kSums]) {
  const auto* w = stage + warp_of_block() / 4 * (64 * kPanel);
  const auto* x = stage + S::kTile * kPanel;
  group_begin();
#pragma unroll
  for (int k = 0; k < kStepInputs; k += 16) {
    group_multiply<typename S::W, S::kRows>(described_along(w + k), described_along(x + k),
                                            adds || k > 0, sums);
  }
  group_commit();
}

// x of the steps whose weights are on their way: by way of registers, for copies arrive in order,
// and the first step would wait for the last one's weights. `copies` goes on to the last of the
// steps.
template <class S>
__device__ __forceinline__ void bring_first_rows(const Skinnies& calls, Copies<S>& copies,
                                                 int count, typename S::W* ring) {
  using Piece = Pack<unsigned, 4>;
  Piece pieces[S::kStages - 1][Copies<S>::kTimes] = {};
#pragma unroll
  for (int step = 0; step < S::kStages - 1; ++step) {
    if (step >= count) break;
    if (step > 0) copies.advance(calls);
#pragma unroll
    for (int i = 0; i < Copies<S>::kTimes; ++i) {
      if (copies.copies_row(i) && copies.has_row(i))
        pieces[step][i] = load<4>(reinterpret_cast<const unsigned*>(copies.row_from(i)));
    }
  }
#pragma unroll
  for (int step = 0; step < S::kStages - 1; ++step) {
#pragma unroll
    for (int i = 0; i < Copies<S>::kTimes; ++i) {
      if (copies.copies_row(i)) {
        store<4>(reinterpret_cast<unsigned*>(copies.row_to(ring + step * S::kStage, i)),
                 pieces[step][i]);
      }
    }
  }
}

template <class S>
__device__ __forceinline__ void multiply_share(const Skinnies& calls) {
  using W = typename S::W;
  next_may_start();
  const Shares& shares = calls.shares;
  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t first = first_step(shares, block);
  const int count = first_step(shares, block + 1) - first;
  StepPlace tile = place_of_step(shares, first);
  W* ring = reinterpret_cast<W*>(panels_from(shared<unsigned char>()));
  int* flag = reinterpret_cast<int*>(ring + S::kStages * S::kStage);

  Copies<S> copies(calls, tile);
#pragma unroll 1
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (i > 0 && i < count) copies.advance(calls);
    if (i < count) copies.weights(ring + i * S::kStage);
    copies_commit();
  }
  previous_done();
  copies = Copies<S>(calls, tile);
  bring_first_rows(calls, copies, count, ring);

  int stage = 0, free = S::kStages - 1;  // of the ring: the next step's, and the one used before
#pragma unroll 1
  for (int i = 0; i < count; next_tile(shares, tile)) {
    const Skinny& s = calls.each[tile.call];
    const TileBlocks blocks = blocks_of_tile(shares, tile);
    const int parts = blocks.parts(), own = block - blocks.first;
    unsigned* counter = calls.ended + blocks.first;
    const int begin = i, end = min(i + shares.tile_steps[tile.call] - tile.step, count);
    FragmentC sums[S::kSums] = {};
#pragma unroll 1
    for (; i < end; ++i) {
      copies_wait<S::kStages - 2>();
      seen_by_products();
      group_wait<0>();
      __syncthreads();  // step i is here, and step i - 1 has been used
      begin_step<S>(ring + stage * S::kStage, i > begin, sums);
      if (i + S::kStages - 1 < count) {
        copies.advance(calls);
        copies.weights(ring + free * S::kStage);
        copies.rows(ring + free * S::kStage);
      }
      copies_commit();
      free = stage;
      stage = stage + 1 < S::kStages ? stage + 1 : 0;
      // Looked at after the next barrier.
      if (i + 2 == end && parts > 1 && threadIdx.x == 0)
        *flag = blocks_come(counter) == static_cast<unsigned>(parts - 1) ? 1 : 0;
    }
    const Outputs<S> outputs(s.call, tile.tile);
    group_wait<0>();
    settled(sums);
    if (parts > 1) {
      const float* slots = calls.slots + int64_t{blocks.slot(blocks.first)} * S::kPartFloats;
      if (end - begin >= 2 && *flag != 0) {
        if (threadIdx.x == 0) *counter = 0;  // for the next launch that counts in it
      } else {
        float* to = calls.slots + int64_t{blocks.slot(block)} * S::kPartFloats +
                    static_cast<int>(threadIdx.x) * 4;
#pragma unroll
        for (int n = 0; n < S::kSums; ++n) {
          const float(&at)[4] = sums[n].at;
          store<4>(to + n * S::kThreads * 4, Pack<float, 4>{{at[0], at[1], at[2], at[3]}});
        }
        if (!last_block(counter, parts, flag)) continue;
      }
      add_other_parts<S>(slots, parts, own, sums);
    }
    store_sums<S>(s, outputs, sums);
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    products_kernel(const __grid_constant__ Skinnies calls) {
  if constexpr (kHasWarpGroups) {
    multiply_share<S>(calls);
  } else {
    __trap();  // Context::warp_groups() says where it may be launched
  }
}

inline Shares shares_of(const Context& context, std::span<const Skinny> each, int tile) {
  CallTiles tiles[kCallsMax];
  for (size_t i = 0; i < each.size(); ++i) {
    const Call& c = each[i].call;
    tiles[i] = {ceil_div(c.outputs * (c.epilogue == Epilogue::kSwiglu ? 2 : 1), tile),
                std::max(ceil_div(c.inputs, int64_t{kStepInputs}), int64_t{1})};
  }
  return equal_shares({tiles, each.size()},
                      {context.multiprocessors(), kShareSteps, kTileParts, kCutSteps});
}

// Tiles of four groups read x half as often, and their sums are twice as much: for all blocks that
// there may be, and where tiles are cut into few parts. Reckoned, not measured.
inline bool large(const Context& context, const Shares& shares, size_t count) {
  const int32_t longest = *std::max_element(shares.tile_steps, shares.tile_steps + count);
  return shares.blocks == context.multiprocessors() && longest <= 3 * shares.each;
}

template <class S>
void launch_calls(Context& context, std::span<const Skinny> each, const Shares& shares,
                  float* slots) {
  Skinnies calls{};
  std::copy(each.begin(), each.end(), calls.each);
  calls.shares = shares;
  calls.slots = slots;
  calls.ended = context.counters(static_cast<size_t>(shares.blocks));
  if (calls.ended == nullptr) return;  // the context holds the error
  launch(context, "linear",
         {dim3(static_cast<unsigned>(shares.blocks)), dim3(S::kThreads), S::kSharedBytes, true},
         products_kernel<S>, calls);
}

constexpr int64_t row_tiles(int64_t rows) { return ceil_div(rows, 16); }

// Queues all calls; before them, what writes their rows down, unless they are given.
inline void queue(Context& context, DType dtype, std::span<Skinny> each,
                  const LeftRows& left = {}) {
  Shares shares = shares_of(context, each, 256);
  const int asked = context.skinny_tile_groups();
  const bool four = asked == 0 ? large(context, shares, each.size()) : asked == 4;
  if (!four) shares = shares_of(context, each, 128);
  const int64_t rows = each.front().call.rows;
  const size_t slot_bytes =
      static_cast<size_t>(slots_of(shares) * row_tiles(rows) * 16 * (four ? 256 : 128)) *
      sizeof(float);
  const bool given = each.front().rows != nullptr;
  Narrow narrow[kCallsMax] = {};
  for (size_t i = 0; i < each.size(); ++i) narrow[i].call = each[i].call;
  std::byte* more = given ? static_cast<std::byte*>(context.scratch(slot_bytes))
                          : narrow_rows(context, dtype, {narrow, each.size()}, slot_bytes);
  if (more == nullptr) return;  // the context holds the error
  for (size_t i = 0; !given && i < each.size(); ++i) {
    each[i].rows = narrow[i].rows;
    each[i].rows_stride = narrow[i].stride;
    each[i].scales = narrow[i].scales;
  }
  const auto of_rows = [&](auto zero, auto groups) {
    using W = decltype(zero);
    constexpr int kGroups = decltype(groups)::value;
    auto* slots = reinterpret_cast<float*>(more);
    switch (row_tiles(rows)) {
      case 1:
        return launch_calls<Shape<W, 16, kGroups>>(context, each, shares, slots);
      case 2:
        return launch_calls<Shape<W, 32, kGroups>>(context, each, shares, slots);
      case 3:
        return launch_calls<Shape<W, 48, kGroups>>(context, each, shares, slots);
      default:
        return launch_calls<Shape<W, 64, kGroups>>(context, each, shares, slots);
    }
  };
  dispatch_16_bits(dtype, [&](auto zero) {
    if (four) return of_rows(zero, std::integral_constant<int, 4>{});
    of_rows(zero, std::integral_constant<int, 2>{});
  });
  context.leave(left);
}

}  // namespace skinny_hopper

void skinny_hopper_products(Context& context, DType dtype, std::span<const Call> calls) {
  using namespace skinny_hopper;
  const LeftRows left = room_for_low_rank(context, calls);
  Skinny each[kCallsMax] = {};
  for (size_t i = 0; i < calls.size(); ++i) {
    each[i].call = calls[i];
    each[i].rounded = left.find(calls[i].y, calls[i].y_stride, calls[i].rows, calls[i].outputs);
  }
  queue(context, dtype, {each, calls.size()}, left);
}

bool skinny_hopper_feed_forward(Context& context, const Call& up, const Call& down) {
  using namespace skinny_hopper;
  // As in library_feed_forward.cu: the memory of `inner` has 4 bytes for each number.
  if (!aligned4(up.y, up.y_stride) || down.inputs % kPiece != 0) return false;
  Skinny first{}, second{};
  first.call = up;
  first.call.y = nullptr;
  first.rounded = {reinterpret_cast<Bf16*>(up.y), 2 * up.y_stride};
  queue(context, DType::kBF16, {&first, 1});
  second.call = down;
  second.rows = first.rounded.data;
  second.rows_stride = first.rounded.stride;
  queue(context, DType::kBF16, {&second, 1});
  return true;
}

}  // namespace trireme::cuda
