// Products of up to 64 rows with quantized weights: codes become exact f16 numbers in registers
// (device/quantized.cuh), tensor cores multiply them by rows of x in f16, and the sum of each
// group, in f32, is multiplied by its scale and added.
//
// What it costs, reckoned for an H200; nothing of it is measured. 4.2 TB/s are 18 bytes a clock of
// each multiprocessor, 36 weights of 4 bits. Plain multiply-adds would take 36 of 128 a clock for
// each row, and as many instructions again to make f32 numbers of codes: one row would wait for
// arithmetic. A product of a warp, m16n8k16, has 256 weights and up to 8 rows. Counted in machine
// code for sm_90, for each 2 KB of codes, which take 114 clocks to come, of a multiprocessor's 4
// instructions a clock:
//             int4 in groups of 64    int8           fp8
//   1 row     300, 2.6 a clock        175, 1.5       213, 1.9
//   16 rows   383, 3.4                223, 2.0       263, 2.3
// With 64 rows, 4 bits are 1070 Tflop/s at that speed and 8 bits 540, of some 600 that mma.sync
// reaches: 4 bits wait for tensor cores, for 1.8 times as long as their reading takes.
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
// and come through the ring too. Bytes of x from L2 for each byte of codes, of 4 bits: 1 row 1/4
// (it is read as f32), 8 rows of tiles of 64 outputs 1/2, 16 rows of 128 1/2, 32 and 64 rows of 256
// 1/2 and 1. A row is padded by 32 bytes, so that four rows of 32 bytes, half a warp's load, meet
// all banks.
//
// Where tiles are fewer than multiprocessors, inputs are split into parts, whose sums another
// kernel adds in their order, as in skinny.cu.
//
// Registers (sm_90, none spilled): 70 to 128 up to 32 rows, of 128 with which two blocks fit; 190
// to 210 beyond. Ruled out: codes straight to registers, of which 64 rows leave too few; predicates
// for rows that are not there, which took a third of the instructions for one row.
#pragma once

#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/parts.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/few_rows.h"
#include "kernels/cuda/ops/few_rows_warp.cuh"

namespace trireme::cuda::few_rows {

template <class S>
__global__ void __launch_bounds__(kThreads, S::kTiles <= 4 ? 2 : 1)
    products_kernel(const __grid_constant__ Fews calls) {
  next_may_start();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.each[i].first_block; });
  const Few& f = calls.each[index];
  const Call& c = f.call;
  const int32_t block = static_cast<int32_t>(blockIdx.x) - f.first_block;
  const int32_t tile = quotient(block, f.parts), part = block - tile * f.parts;
  const int64_t steps = ceil_div(c.inputs, S::kStepInputs);
  const int64_t first = steps * part / f.parts;
  const int count = static_cast<int>(steps * (part + 1) / f.parts - first);

  std::byte* ring = shared<std::byte>();
  const Place at = place_of_thread<S::kColumns>();
  Copies<S> copies(f, at, tile, first);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < count) copies.weights(f, ring + i * S::kStageBytes);
    if (S::kWhole) copies_commit();
  }
  previous_done();
  F16* whole = reinterpret_cast<F16*>(ring + kStages * S::kStageBytes);
  float* powers = reinterpret_cast<float*>(whole + c.rows * calls.whole_stride);
  if constexpr (S::kWhole) {
    write_rows_down(c, calls.wide, first * S::kStepInputs, count * S::kStepInputs, whole,
                    calls.whole_stride, powers, powers + kWholeRows);
    __syncthreads();
  } else {
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (i < count) copies.rows(f, ring + i * S::kStageBytes);
      copies_commit();  // the first group has all the weights
    }
  }

  // Rows that are not there are the last one again: nobody looks at their sums.
  const int last = static_cast<int>(c.rows) - 1;
  const int own_x = at.slice * S::kStageInputs + 4 * at.t +
                    (S::kWhole ? min(at.g, last) * calls.whole_stride : at.g * S::kRowStride);
  FragmentC sums[S::kTiles][2] = {};
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    copies_wait<kStages - 2>();
    // Step i is here, and step i - 1 has been used: by the warp, which has its own weights and
    // shares their scales, or by all.
    if constexpr (S::kWhole) {
      __syncwarp();
    } else {
      __syncthreads();
    }
    if (i + kStages - 1 < count) {
      std::byte* stage = ring + ((i + kStages - 1) & (kStages - 1)) * S::kStageBytes;
      copies.weights(f, stage);
      if (!S::kWhole) copies.rows(f, stage);
    }
    copies_commit();
    if ((static_cast<int>(first) + i) * S::kSlices + at.slice >= f.chunks) continue;
    const std::byte* stage = ring + (i & (kStages - 1)) * S::kStageBytes;
    const F16* x = S::kWhole ? whole + i * S::kStepInputs
                             : reinterpret_cast<const F16*>(stage + kWarps * S::kWarpBytes);
    multiply_stage<S>(stage + warp_of_block() * S::kWarpBytes, x + own_x, at, sums);
  }

  if constexpr (S::kSlices > 1) {
    copies_wait<0>();
    __syncthreads();
    float* slices = shared<float>();
#pragma unroll
    for (int n = 0; n < S::kTiles; ++n) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float(&from)[4] = sums[n][m].at;
        store<4>(slices + at.slice * S::kPartialFloats + fragment_at<S>(at.column, n, m),
                 Pack<float, 4>{{from[0], from[1], from[2], from[3]}});
      }
    }
    __syncthreads();
  }
  // Slice s of the warps finishes every kSlices-th 8 rows of x.
#pragma unroll
  for (int n = 0; n < S::kTiles; ++n) {
    if (S::kSlices > 1 && n % S::kSlices != at.slice) continue;
    FragmentC all[2] = {};
    if constexpr (S::kSlices > 1) {
      add_parts(shared<float>() + fragment_at<S>(at.column, n, 0), S::kSlices, S::kPartialFloats,
                kWarpSize * 4, all);
    } else {
      all[0] = sums[n][0];
      all[1] = sums[n][1];
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = 8 * n + 2 * at.t + e;
      float power = S::Codes::kUnit;
      if (row < c.rows) power *= S::kWhole ? powers[row] : f.row_powers[row];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        all[m].at[e] *= power;
        all[m].at[2 + e] *= power;
      }
    }
    if (f.parts == 1) {
      store_fragments(c, tile, S::kColumns, n, at, all);
      continue;
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const float(&from)[4] = all[m].at;
      store<4>(calls.partials + int64_t{blockIdx.x} * S::kPartialFloats +
                   fragment_at<S>(at.column, n, m),
               Pack<float, 4>{{from[0], from[1], from[2], from[3]}});
    }
  }
}

// Adds the parts of 8 rows of x of a tile, in their order.
template <class S>
__global__ void __launch_bounds__(S::kColumns* kWarpSize)
    finish_kernel(const __grid_constant__ Fews calls) {
  next_may_start();
  previous_done();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.each[i].first_tile; });
  const Few& f = calls.each[index];
  const int32_t tile = static_cast<int32_t>(blockIdx.x) - f.first_tile;
  const Place at = place_of_thread<S::kColumns>();
  const int n = static_cast<int>(blockIdx.y);
  FragmentC sums[2] = {};
  add_parts(calls.partials + (f.first_block + int64_t{tile} * f.parts) * S::kPartialFloats +
                fragment_at<S>(at.column, n, 0),
            f.parts, S::kPartialFloats, kWarpSize * 4, sums);
  store_fragments(f.call, tile, S::kColumns, n, at, sums);
}

template <class S>
void launch_calls(Context& context, WeightFormat format, std::span<const Call> each) {
  const auto tiles_of = [](const Call& c) {
    const bool two = c.epilogue == Epilogue::kSwiglu;
    return ceil_div(two ? 2 * c.outputs : c.outputs, S::kTile);
  };
  int64_t tiles = 0;
  for (const Call& c : each) tiles += tiles_of(c);
  Fews calls{};
  calls.count = static_cast<int32_t>(each.size());
  calls.wide = true;
  Narrow narrow[kCallsMax] = {};
  int64_t blocks = 0, split_tiles = 0, steps_most = 0;
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
    const int64_t parts =
        std::min(context.multiprocessors() / tiles, each[i].inputs / kPartInputsLeast);
    const int64_t steps = std::max(ceil_div(each[i].inputs, S::kStepInputs), int64_t{1});
    f.parts = static_cast<int32_t>(std::clamp(parts, int64_t{1}, steps));
    steps_most = std::max(steps_most, ceil_div(steps, f.parts));
    f.first_block = static_cast<int32_t>(blocks);
    f.first_tile = static_cast<int32_t>(split_tiles);
    blocks += tiles_of(each[i]) * f.parts;
    if (f.parts > 1) split_tiles += tiles_of(each[i]);
    calls.wide = calls.wide && aligned4(each[i].x, each[i].x_stride);
  }
  const size_t partial_bytes =
      split_tiles > 0 ? static_cast<size_t>(blocks) * S::kPartialFloats * sizeof(float) : 0;
  size_t shared_bytes = static_cast<size_t>(stages_of(context.capability())) * S::kStageBytes;
  if constexpr (S::kWhole) {
    calls.partials = static_cast<float*>(context.scratch(std::max(partial_bytes, size_t{1})));
    calls.whole_stride = static_cast<int32_t>(steps_most) * S::kStepInputs + S::kRowPad;
    shared_bytes += static_cast<size_t>(each.front().rows * calls.whole_stride) * sizeof(F16) +
                    (kWholeRows + kWarps) * sizeof(float);
  } else {
    calls.partials = reinterpret_cast<float*>(
        narrow_rows(context, DType::kF16, {narrow, each.size()}, partial_bytes));
  }
  if (calls.partials == nullptr) return;  // the context holds the error
  for (size_t i = 0; i < each.size(); ++i) {
    calls.each[i].rows = static_cast<const F16*>(narrow[i].rows);
    calls.each[i].rows_stride = narrow[i].stride;
    calls.each[i].row_powers = narrow[i].scales;
  }
  launch(context, "linear",
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), shared_bytes, true},
         products_kernel<S>, calls);
  launch(
      context, "linear",
      {dim3(static_cast<unsigned>(split_tiles), S::kTiles), dim3(S::kColumns * kWarpSize), 0, true},
      finish_kernel<S>, calls);
}

template <class Q, int kSpan>
void choose(Context& context, WeightFormat format, std::span<const Call> each) {
  const int64_t rows = each.front().rows;
  bool whole = rows <= kWholeRows;
  for (const Call& c : each)
    whole = whole && rows * c.inputs <= kWholeNumbers && c.prologue == Prologue::kNone;
  if (whole) return launch_calls<Shape<Q, 1, 8, kSpan, true>>(context, format, each);
  if (rows <= 8) return launch_calls<Shape<Q, 1, 4, kSpan, false>>(context, format, each);
  if (rows <= 16) return launch_calls<Shape<Q, 2, 2, kSpan, false>>(context, format, each);
  if (rows <= 32) return launch_calls<Shape<Q, 4, 1, kSpan, false>>(context, format, each);
  launch_calls<Shape<Q, 8, 1, kSpan, false>>(context, format, each);
}

template <class Q>
void products(Context& context, WeightFormat format, std::span<const Call> calls) {
  if (format.group == 32) return choose<Q, 32>(context, format, calls);
  choose<Q, 64>(context, format, calls);
}

}  // namespace trireme::cuda::few_rows
