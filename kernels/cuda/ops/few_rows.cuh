// Products of up to 64 rows with quantized weights: codes become exact f16 numbers in registers
// (device/quantized.cuh), tensor cores multiply them by rows of x in f16, and the sum of each
// group, in f32, is multiplied by its scale and added.
//
// What it costs, by count for an H200. 4.2 TB/s are 18 bytes a clock of each multiprocessor, 36
// weights of 4 bits. Plain multiply-adds would take 36 of 128 a clock for each row, and as many
// instructions again to make f32 numbers of codes: one row would wait for arithmetic. A product of
// a warp, m16n8k16, has 256 weights and up to 8 rows. Counted in machine code for sm_90, for each 2
// KB of codes, which take 114 clocks to come, of a multiprocessor's 4 instructions a clock:
//             int4 in groups of 64    int8           fp8
//   1 row     330, 2.9 a clock        205, 1.8       243, 2.1
//   16 rows   400, 3.5                247, 2.2       287, 2.5
// and some 65 more where a tile begins. With 64 rows, 4 bits are 1070 Tflop/s at that speed and 8
// bits 540, of some 600 that mma.sync reaches: 4 bits wait for tensor cores, for 1.8 times as long
// as their reading takes.
//
// A warp has 32 rows of w, and takes 64 bytes of each at a time, by asynchronous copies of its own
// lanes into a ring of its own: each lane copies the 16 bytes of four rows that are its part of the
// fragments (quantized_layout.h), so nobody waits for anybody. 8 warps with three stages of 2 KB
// under way are 48 KB for a block, where 30 KB of a multiprocessor cover the memory's latency.
// Warps of a block stand beside each other on outputs, or behind each other on inputs (`kSlices`),
// and then add their sums in order.
//
// x comes in one of two ways. One or two rows are written to shared memory by each block as it
// begins, while its first weights come: no kernel goes before. More rows would be too much for L2,
// where x is read again for every tile of outputs; they are written down as f16 once (narrow_rows),
// and come through the ring too. Bytes of x from L2 for each byte of codes, of 4 bits: 1 row 1/14
// (f32, once for each block), 8 rows of tiles of 64 outputs 1/2, 16 rows of 128 1/2, 32 and 64 rows
// of 256 1/2 and 1. A row is padded by 32 bytes, so that four rows of 32 bytes, half a warp's load,
// meet all banks.
//
// Blocks have equal shares of a launch's steps (device/shares.cuh), two on a multiprocessor where
// registers allow it, and one ring that runs from tile to tile. A step is all slices' chunks, so no
// group's sum is cut in between two looks at its scale. Blocks that write x down keep all inputs of
// it, and write again where they go on to a call with other rows.
//
// By count, one row of 28672 x 4096: 896 tiles, of 4 steps or, of 8 bits, 8; 104 of 264 blocks have
// four tiles and the others three, so that a multiprocessor has 7 where 6.8 would be even. Before,
// each tile was a block, which began with an empty ring and wrote x down, 3.4 of them one after
// another: measured on an H200, int4 56 % of the memory's speed, int8 77, fp8 80, which is 2 to 4
// us lost for each. Expected with one beginning instead of 3.4: int4 80 %, int8 and fp8 90; not
// measured.
//
// Registers (nvcc 13.0, sm_90 and sm_80, none spilled): 95 to 128 up to 32 rows, of 128 with which
// two blocks fit; 189 to 205 beyond. Ruled out: codes straight to registers, of which 64 rows leave
// too few; predicates for rows that are not there, which took a third of the instructions for one
// row.
#pragma once

#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/parts.cuh"
#include "kernels/cuda/device/shares.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/few_rows.h"
#include "kernels/cuda/ops/few_rows_warp.cuh"

namespace trireme::cuda::few_rows {

// A part's sums cost being written and read, and two blocks a wait for each other: tiles are cut
// for shares of so many steps at least, and only where a block is spared more than that.
template <class S>
constexpr int64_t kShareSteps = 2 + S::kPartialFloats / 2048;
template <class S>
constexpr int64_t kCutSteps = 4 + S::kPartialFloats / 2048;
constexpr int64_t kTileParts = 16;

// Two blocks on a multiprocessor, where registers allow it.
template <class S>
constexpr bool kTwo = S::kTiles <= 4;

// What lies in shared memory beyond the ring. x and its powers: kWhole only.
template <class S>
struct Room {
  float* slices;  // [2][kSlices] sums of a part, of kWhole; others use the stage that is free
  F16* x;         // [rows][whole_stride]
  float* powers;  // what products with each row are multiplied by, and a float for each warp
  int* flag;

  static constexpr int kSliceFloats = S::kWhole ? S::kSlices * S::kPartialFloats : 0;
  static size_t bytes(int64_t rows, int64_t whole_stride) {
    size_t more = 2 * kSliceFloats * sizeof(float) + sizeof(int);
    if (S::kWhole)
      more += static_cast<size_t>(rows * whole_stride) * sizeof(F16) +
              (kWholeRows + kWarps) * sizeof(float);
    return more;
  }
  __device__ __forceinline__ Room(std::byte* at, int rows, int whole_stride) {
    slices = reinterpret_cast<float*>(at);
    x = reinterpret_cast<F16*>(slices + 2 * kSliceFloats);
    powers = reinterpret_cast<float*>(x + (S::kWhole ? rows * whole_stride : 0));
    flag = reinterpret_cast<int*>(powers + (S::kWhole ? kWholeRows + kWarps : 0));
  }
};

// Which slice of the warps finishes 8 rows of x of a tile: they take turns.
template <class S>
__device__ __forceinline__ bool finishes(const Place& at, const StepPlace& tile, int n) {
  return S::kSlices == 1 || ((n + tile.tile) & (S::kSlices - 1)) == at.slice;
}

// Puts a part away: to y if it is a whole tile, else to its slot; the last block of the tile adds
// up all slots. `slices`: where the slices of the inputs meet.
template <class S>
__device__ __forceinline__ void put_part(const Fews& calls, const StepPlace& tile, const Place& at,
                                         const FragmentC (&sums)[S::kTiles][2], float* slices,
                                         const Room<S>& room) {
  const Few& f = calls.each[tile.call];
  const TileBlocks blocks = blocks_of_tile(calls.shares, tile);
  const bool cut = blocks.parts() > 1;
  const Outputs outputs(f.call, tile.tile, S::kColumns, at);
  float powers[S::kTiles][2];
  const auto last_row = static_cast<int>(f.call.rows) - 1;
#pragma unroll
  for (int n = 0; n < S::kTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = min(8 * n + 2 * at.t + e, last_row);
      powers[n][e] = S::Codes::kUnit * (S::kWhole ? room.powers[row] : f.row_powers[row]);
    }
  }
  if constexpr (S::kSlices > 1) {
    if (!S::kWhole) __syncthreads();  // nobody reads the stage any more
#pragma unroll
    for (int n = 0; n < S::kTiles; ++n) {
      if (has_sums<S>(at))
        store_sums<S>(sums[n], at.column, n, slices + at.slice * S::kPartialFloats);
    }
    __syncthreads();
  }
  float* slots = calls.slots + int64_t{blocks.slot(blocks.first)} * S::kPartialFloats;
  const int part = static_cast<int>(blockIdx.x) - blocks.first;
#pragma unroll
  for (int n = 0; n < S::kTiles; ++n) {
    if (!finishes<S>(at, tile, n)) continue;
    FragmentC all[2] = {};
    if constexpr (S::kSlices > 1) {
      if (has_sums<S>(at))
        add_parts(slices + fragment_at<S>(at.column, n, 0), S::kSlices, S::kPartialFloats,
                  S::kLanes * 4, all);
    } else {
      all[0] = sums[n][0];
      all[1] = sums[n][1];
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        all[m].at[e] *= powers[n][e];
        all[m].at[2 + e] *= powers[n][e];
      }
    }
    if (!cut) {
      store_fragments(f.call, outputs, n, at, all);
    } else if (has_sums<S>(at)) {
      store_sums<S>(all, at.column, n, slots + int64_t{part} * S::kPartialFloats);
    }
  }
  if (!cut || !last_block(calls.ended + blocks.first, blocks.parts(), room.flag)) return;
#pragma unroll 1
  for (int n = 0; n < S::kTiles; ++n) {
    if (!finishes<S>(at, tile, n)) continue;
    FragmentC all[2] = {};
    if (has_sums<S>(at))
      add_parts(slots + fragment_at<S>(at.column, n, 0), blocks.parts(), S::kPartialFloats,
                S::kLanes * 4, all);
    store_fragments(f.call, outputs, n, at, all);
  }
}

template <class S>
__global__ void __launch_bounds__(kThreads, kTwo<S> ? 2 : 1)
    products_kernel(const __grid_constant__ Fews calls) {
  next_may_start();
  const Shares& shares = calls.shares;
  const int rows = static_cast<int>(calls.each[0].call.rows);
  std::byte* ring = shared<std::byte>();
  const int stages = calls.stages;
  const auto stage_of = [&](int i) { return ring + (i & (stages - 1)) * S::kStageBytes; };
  const Room<S> room(ring + stages * S::kStageBytes, rows, calls.whole_stride);
  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t first = first_step(shares, block);
  const int count = first_step(shares, block + 1) - first;
  const Place at = place_of_thread<S::kColumns>();
  StepPlace tile = place_of_step(shares, first);

  Copies<S> copies(calls, at, tile);
#pragma unroll 1
  for (int i = 0; i < stages - 1; ++i) {
    if (i > 0 && i < count) copies.advance(calls, at);
    if (i < count) copies.weights(calls, at, stage_of(i));
    if (S::kWhole) copies_commit();
  }
  previous_done();
  if constexpr (!S::kWhole) {
    copies = Copies<S>(calls, at, tile);
#pragma unroll 1
    for (int i = 0; i < stages - 1; ++i) {
      if (i > 0 && i < count) copies.advance(calls, at);
      if (i < count) copies.rows(calls, stage_of(i));
      copies_commit();  // the first group has all the weights
    }
  }

  // Rows that are not there are the last one again: nobody looks at their sums.
  const int own_x = at.slice * S::kStageInputs + 4 * at.t +
                    (S::kWhole ? min(at.g, rows - 1) * calls.whole_stride : at.g * S::kRowStride);
  int written = -1;      // the call whose rows of x lie in shared memory,
  int written_step = 0;  // from which step on
#pragma unroll 1
  for (int i = 0, parity = 0; i < count; next_tile(shares, tile), parity ^= 1) {
    const Few& f = calls.each[tile.call];
    const int tile_steps = shares.tile_steps[tile.call];
    const int end = min(i + tile_steps - tile.step, count);
    if (S::kWhole && written != tile.call &&
        (written < 0 || !same_rows(calls.each[written].call, f.call))) {
      // All of them, or what the block needs if that is within a tile.
      const bool within = i == 0 && end == count;
      written = tile.call;
      written_step = within ? tile.step : 0;
      // Nobody reads those of the last call any more, after the barrier of put_part; nor its
      // powers, after the one within.
      write_rows_down(calls, f.call, written_step * S::kStepInputs,
                      (within ? count : tile_steps) * S::kStepInputs, room.x, room.powers,
                      room.powers + kWholeRows);
      __syncthreads();
    }
    FragmentC sums[S::kTiles][2] = {};
    int step = tile.step;
#pragma unroll 1
    for (; i < end; ++i, ++step) {
      if (stages == kStagesMost) {
        copies_wait<kStagesMost - 2>();
      } else {
        copies_wait<kStagesLeast - 2>();
      }
      // Step i is here, and step i - 1 has been used: by the warp, which has its own weights and
      // shares their scales, or by all.
      if constexpr (S::kWhole) {
        __syncwarp();
      } else {
        __syncthreads();
      }
      if (i + stages - 1 < count) {
        std::byte* stage = stage_of(i + stages - 1);
        copies.advance(calls, at);
        copies.weights(calls, at, stage);
        if (!S::kWhole) copies.rows(calls, stage);
      }
      copies_commit();
      if (step * S::kSlices + at.slice >= f.chunks) continue;
      const std::byte* stage = stage_of(i);
      const F16* x = S::kWhole ? room.x + (step - written_step) * S::kStepInputs
                               : reinterpret_cast<const F16*>(stage + kWarps * S::kWarpBytes);
      multiply_stage<S>(stage + warp_of_block() * S::kWarpBytes, x + own_x, at, sums);
    }
    float* slices = S::kWhole ? room.slices + parity * Room<S>::kSliceFloats
                              : reinterpret_cast<float*>(stage_of(end - 1));
    put_part<S>(calls, tile, at, sums, slices, room);
  }
}

template <class S>
void launch_calls(Context& context, WeightFormat format, std::span<const Call> each,
                  const NormOfRow* norm = nullptr) {
  static_assert(S::kWhole || S::kSlices == 1 ||
                S::kSlices * S::kPartialFloats * sizeof(float) <= S::kStageBytes);
  Fews calls{};
  calls.wide = true;
  if (norm != nullptr) {
    calls.normed = true;
    calls.norm = *norm;
    calls.wide = aligned4(norm->gain, 0);
  }
  Narrow narrow[kCallsMax] = {};
  CallTiles tiles[kCallsMax];
  int64_t steps_most = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    Few& f = calls.each[i];
    narrow[i].call = f.call = each[i];
    const QuantizedLayout layout{
        format, each[i].outputs * (each[i].epilogue == Epilogue::kSwiglu ? 2 : 1), each[i].inputs};
    f.call.w_stride = layout.stride();
    f.scales = reinterpret_cast<const unsigned*>(static_cast<const std::byte*>(each[i].w) +
                                                 layout.scales_at());
    f.w_rows = static_cast<int32_t>(layout.rows);
    f.groups = static_cast<int32_t>(layout.groups());
    f.chunks = static_cast<int32_t>(layout.stride() / kChunkBytes);
    f.shift = group_shift(format);
    tiles[i] = {ceil_div(layout.rows, S::kTile),
                std::max(ceil_div(each[i].inputs, S::kStepInputs), int64_t{1})};
    steps_most = std::max(steps_most, tiles[i].steps);
    calls.wide = calls.wide && aligned4(each[i].x, each[i].x_stride);
  }
  calls.whole_stride = static_cast<int32_t>(steps_most) * S::kStepInputs + S::kRowPad;
  const size_t room_bytes = Room<S>::bytes(each.front().rows, calls.whole_stride);
  const bool most = kStagesMost * S::kStageBytes + room_bytes <= context.shared_bytes_max();
  calls.stages = most ? kStagesMost : kStagesLeast;
  const size_t shared_bytes = static_cast<size_t>(calls.stages) * S::kStageBytes + room_bytes;
  calls.shares = equal_shares({tiles, each.size()}, {blocks_at_once(context, kTwo<S>, shared_bytes),
                                                     kShareSteps<S>, kTileParts, kCutSteps<S>});
  calls.ended = context.counters(static_cast<size_t>(calls.shares.blocks));
  if (calls.ended == nullptr) return;  // the context holds the error
  const size_t slot_bytes =
      static_cast<size_t>(slots_of(calls.shares)) * S::kPartialFloats * sizeof(float);
  if constexpr (S::kWhole) {
    calls.slots = static_cast<float*>(context.scratch(slot_bytes));
  } else {
    calls.slots = reinterpret_cast<float*>(
        narrow_rows(context, DType::kF16, {narrow, each.size()}, slot_bytes));
  }
  if (calls.slots == nullptr) return;
  for (size_t i = 0; i < each.size(); ++i) {
    calls.each[i].rows = static_cast<const F16*>(narrow[i].rows);
    calls.each[i].rows_stride = narrow[i].stride;
    calls.each[i].row_powers = narrow[i].scales;
  }
  launch(context, "linear",
         {dim3(static_cast<unsigned>(calls.shares.blocks)), dim3(kThreads), shared_bytes, true},
         products_kernel<S>, calls);
}

inline bool is_whole(std::span<const Call> each) {
  const int64_t rows = each.front().rows;
  bool whole = rows <= kWholeRows;
  for (const Call& c : each)
    whole = whole && rows * c.inputs <= kWholeNumbers && c.prologue == Prologue::kNone;
  return whole;
}

template <class Q, int kSpan>
void choose(Context& context, WeightFormat format, std::span<const Call> each,
            const NormOfRow* norm) {
  const int64_t rows = each.front().rows;
  if (is_whole(each)) return launch_calls<Shape<Q, 1, 8, kSpan, true>>(context, format, each, norm);
  if (rows <= 8) return launch_calls<Shape<Q, 1, 4, kSpan, false>>(context, format, each);
  if (rows <= 16) return launch_calls<Shape<Q, 2, 2, kSpan, false>>(context, format, each);
  if (rows <= 32) return launch_calls<Shape<Q, 4, 1, kSpan, false>>(context, format, each);
  launch_calls<Shape<Q, 8, 1, kSpan, false>>(context, format, each);
}

template <class Q>
bool products(Context& context, WeightFormat format, std::span<const Call> calls,
              const NormOfRow* norm) {
  if (norm != nullptr && !is_whole(calls)) return false;
  if (format.group == 32) {
    choose<Q, 32>(context, format, calls, norm);
  } else {
    choose<Q, 64>(context, format, calls, norm);
  }
  return true;
}

}  // namespace trireme::cuda::few_rows
