// Products of 2 to 64 rows: the weights are read once, past tensor cores, and the time should be
// that of reading them.
//
// What 64 rows cost for each byte of 16-bit weights, at M = 4.2 TB/s from memory:
//   64 flops                 270 Tflop/s, of some 600 that mma.sync reaches on Hopper
//   1/2 byte of x from L2    6.4 TB/s out of L2 together with the weights: a block takes 128 rows
//                            of w past x. With 64 it would be 8.5 TB/s, which L2 does not have
//   4.5 bytes of shared memory: weights and x written (1 + 1/2), weights read once, x read twice
//                            (a warp multiplies it by 32 outputs): 19 TB/s of 30
// So a block has 8 warps: four groups of 32 outputs, and each group twice, for either half of the
// 64 inputs of a step. Weights and x come by asynchronous copies, three steps ahead of their use:
// 48 KB of weights on their way for a block, two blocks on a multiprocessor, where 30 KB cover the
// memory's latency.
//
// Blocks must be as many as multiprocessors, and 4096 outputs have 32 tiles: the inputs are split
// into parts, one for each block, whose sums in f32 go through L2 (32 KB for each block, as much as
// two steps of weights) to a kernel that adds them in their order. A part has at least 16 steps,
// fewer only where multiprocessors would be idle.
//
// Measured on an H200, 64 rows, RWKV-7 7.2B, with ends of tiles that waited for each bias and each
// part by itself (none has been measured since): the products of a layer's mixed rows 34 us and 4
// for their parts, where the bytes take 27; those of low rank 11 and 4. Ruled out by measuring:
// equal shares of steps for all blocks (device/shares.cuh): 42 us for the former, whose last blocks
// add up parts, and 36 for the latter, of which few blocks do many tiles; a step took 7.4 ms
// instead of 6.6.
//
// The order of inputs within a product is free, as long as w and x agree: thread t of the four that
// share a row takes inputs [8 t, 8 t + 8) of 32, one word of 16 bytes, as what it contributes to
// two mma of 16 inputs. Rows in shared memory are 128 bytes; the halves of odd ones are exchanged,
// so that eight lanes, two rows, meet all banks.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/parts.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kGroups = 4;      // of warps, by outputs
constexpr int kGroupRows = 32;  // rows of w of each: two fragments of 16
constexpr int kTile = kGroups * kGroupRows;
constexpr int kThreads = 2 * kGroups * kWarpSize;
constexpr int kStepInputs = 64;
constexpr int kStages = 4;  // a power of two
constexpr int kPiece = 8;   // inputs in 16 bytes
constexpr int kPieces = kStepInputs / kPiece;
constexpr int64_t kPartSteps = 16, kPartStepsLeast = 4;

// One call, its rows in the format of the weights, and its share of the grid.
struct Skinny {
  Call call;
  const void* rows;
  int64_t rows_stride;
  const float* scales;  // may be null
  LeftOut left;         // outputs in bf16
  int32_t parts;        // of the inputs; one: the sums are finished at once
  int32_t first_block;  // block `parts * tile + part` of the call
  int32_t first_tile;   // of the tiles that finish_parts_kernel finishes
};
struct Skinnies {
  Skinny each[kCallsMax];
  int32_t count;
  float* partials;  // of each block: [2 kRowTiles][kThreads][4]
};

// Where a thread stands in its block's tile.
struct Place {
  int group, half;  // of the outputs, of the inputs of a step
  int g, t;         // see mma.cuh
};
__device__ __forceinline__ Place place_of_thread() {
  const int warp = warp_of_block(), lane = lane_of_warp();
  return {warp % kGroups, warp / kGroups, lane / 4, lane % 4};
}

// Where piece `piece` of row `row` lies in the tile of a step, in numbers.
__device__ __forceinline__ int piece_at(int row, int piece) {
  return row * kStepInputs + (piece ^ (row & 1) << 2) * kPiece;
}

// The outputs whose sums a thread holds, rows g + 8 h of fragments m of its group.
struct Outputs {
  int64_t first;  // the others: + 16 m + 8 h
  float bias[2][2];

  __device__ __forceinline__ Outputs(const Call& c, int64_t tile, const Place& at)
      : first(tile * kTile + at.group * kGroupRows + at.g) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) bias[m][h] = bias_of(c, first + 16 * m + 8 * h);
    }
  }
};

// Stores what a thread holds of 8 rows of x.
__device__ __forceinline__ void store_fragments(const Skinny& s, const Outputs& outputs,
                                                int first_row, const Place& at,
                                                const FragmentC (&sums)[2]) {
  const Call& c = s.call;
  const auto last_row = static_cast<int>(c.rows) - 1;
  const int row = first_row + 2 * at.t;
  float scale[2] = {1.0f, 1.0f};
  if (s.scales != nullptr) {
#pragma unroll
    for (int e = 0; e < 2; ++e) scale[e] = s.scales[min(row + e, last_row)];
  }
  float values[8];  // [2 m + h][e]
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int m = i / 4, h = i / 2 % 2, e = i % 2;
    values[i] = sums[m].at[2 * h + e] * scale[e] + outputs.bias[m][h];
  }
  finish(c, values);
  float* y = c.y + row * c.y_stride + outputs.first;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int m = i / 4, h = i / 2 % 2, e = i % 2;
    const int64_t output = outputs.first + 16 * m + 8 * h;
    if (row + e > last_row || output >= c.outputs) continue;
    y[e * c.y_stride + 16 * m + 8 * h] = values[i];
    leave<1>(s.left, row + e, output, Pack<float, 1>{{values[i]}});
  }
}

// What a thread copies of each step: four pieces of w, and up to two of x.
template <class W, int kRowTiles>
struct Copies {
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr int kStage = (kTile + kRows) * kStepInputs;  // numbers

  const W *w, *x;      // the next step's piece of the first of its rows
  int w_next, x_next;  // to the others
  int w_rows, x_rows;  // how many of them there are
  int whole;           // steps that have the piece; beyond them, zeros
  int at;              // of the first row's piece in the tile of a step

  __device__ __forceinline__ Copies(const Skinny& s, int64_t tile, int64_t step) {
    const Call& c = s.call;
    const int row = static_cast<int>(threadIdx.x / kPieces);
    const int piece = static_cast<int>(threadIdx.x % kPieces);
    const int64_t k = step * kStepInputs + piece * kPiece;
    const int64_t output = tile * kTile + row;
    w = static_cast<const W*>(c.w) + output * c.w_stride + k;
    w_next = static_cast<int>(32 * c.w_stride);
    w_rows = rows_of(c.outputs - output);
    x = static_cast<const W*>(s.rows) + row * s.rows_stride + k;
    x_next = static_cast<int>(32 * s.rows_stride);
    x_rows = rows_of(c.rows - row);
    whole = static_cast<int>(ceil_div(c.w_stride - k, kStepInputs));
    at = piece_at(row, piece);
  }

  // How many of 0, 32, 64, ... are below `rows`; of those that a tile can have.
  static __device__ __forceinline__ int rows_of(int64_t rows) {
    return rows <= 0 ? 0 : (static_cast<int>(rows < kTile ? rows : kTile) + 31) / 32;
  }

  __device__ __forceinline__ void weights(W* stage, int step) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      copy_16_bytes(stage + at + i * 32 * kStepInputs, w + int64_t{i} * w_next,
                    step < whole && i < w_rows);
    }
    w += kStepInputs;
  }

  __device__ __forceinline__ void rows(W* stage, int step) {
#pragma unroll
    for (int i = 0; 32 * i < kRows; ++i) {
      if (32 * (i + 1) > kRows && threadIdx.x >= unsigned{kThreads / 2}) break;
      copy_16_bytes(stage + (kTile + i * 32) * kStepInputs + at, x + int64_t{i} * x_next,
                    step < whole && i < x_rows);
    }
    x += kStepInputs;
  }
};

// sums += the thread's part of a step.
template <class W, int kRowTiles>
__device__ __forceinline__ void multiply_step(const W* stage, const Place& at,
                                              FragmentC (&sums)[2 * kRowTiles][2]) {
  const int own = piece_at(at.g, at.half * 4 + at.t);  // the same for all rows g + 8 i
  const W* w = stage + at.group * kGroupRows * kStepInputs + own;
  const W* x = stage + kTile * kStepInputs + own;
  Pack<unsigned, 4> rows[2][2];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
      rows[m][h] = load<4>(reinterpret_cast<const unsigned*>(w + (16 * m + 8 * h) * kStepInputs));
  }
#pragma unroll
  for (int n = 0; n < 2 * kRowTiles; ++n) {
    const Pack<unsigned, 4> b = load<4>(reinterpret_cast<const unsigned*>(x + 8 * n * kStepInputs));
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        multiply_add<W>(
            {{rows[m][0].at[i], rows[m][1].at[i], rows[m][0].at[i + 1], rows[m][1].at[i + 1]}},
            {{b.at[i], b.at[i + 1]}}, sums[n][m]);
      }
    }
  }
}

// Writes sums[first + j][m] down at (2 j + m) 4 kThreads.
template <int kRowTiles>
__device__ __forceinline__ void give(const FragmentC (&sums)[2 * kRowTiles][2], int first,
                                     float* to) {
#pragma unroll
  for (int j = 0; j < kRowTiles; ++j) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const float(&from)[4] = sums[first + j][m].at;
      store<4>(to + (2 * j + m) * kThreads * 4,
               Pack<float, 4>{{from[0], from[1], from[2], from[3]}});
    }
  }
}
// Adds them to what stands there.
template <int kRowTiles>
__device__ __forceinline__ void take(const FragmentC (&sums)[2 * kRowTiles][2], int first,
                                     float* to) {
#pragma unroll
  for (int j = 0; j < kRowTiles; ++j) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      Pack<float, 4> pack = load<4>(to + (2 * j + m) * kThreads * 4);
#pragma unroll
      for (int e = 0; e < 4; ++e) pack.at[e] += sums[first + j][m].at[e];
      store<4>(to + (2 * j + m) * kThreads * 4, pack);
    }
  }
}

template <class W, int kRowTiles>
__global__ void __launch_bounds__(kThreads, 1)
    skinny_kernel(const __grid_constant__ Skinnies calls) {
  next_may_start();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.each[i].first_block; });
  const Skinny& s = calls.each[index];
  const int32_t block = static_cast<int32_t>(blockIdx.x) - s.first_block;
  const int32_t tile = quotient(block, s.parts), part = block - tile * s.parts;
  const int64_t steps = ceil_div(s.call.inputs, kStepInputs);
  const int64_t first = steps * part / s.parts;
  const int count = static_cast<int>(steps * (part + 1) / s.parts - first);

  using Copied = Copies<W, kRowTiles>;
  W* stages = shared<W>();
  Copied copies(s, tile, first);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < count) copies.weights(stages + i * Copied::kStage, i);
  }
  previous_done();
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < count) copies.rows(stages + i * Copied::kStage, i);
    copies_commit();  // the first group has all the weights
  }
  const Place at = place_of_thread();
  FragmentC sums[2 * kRowTiles][2] = {};
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    copies_wait<kStages - 2>();
    __syncthreads();  // step i is here, and step i - 1 has been used
    const int ahead = i + kStages - 1;
    if (ahead < count) {
      W* stage = stages + (ahead & (kStages - 1)) * Copied::kStage;
      copies.weights(stage, ahead);
      copies.rows(stage, ahead);
    }
    copies_commit();
    multiply_step<W, kRowTiles>(stages + (i & (kStages - 1)) * Copied::kStage, at, sums);
  }

  // The two halves of the inputs: a warp gives half of its rows of x to its partner.
  copies_wait<0>();
  const Outputs outputs(s.call, tile, at);
  __syncthreads();
  float* given = shared<float>() + static_cast<int>(threadIdx.x) * 4;
  float* taken = shared<float>() + static_cast<int>(threadIdx.x ^ unsigned{kThreads / 2}) * 4;
  if (at.half == 0) {
    give<kRowTiles>(sums, kRowTiles, given);
  } else {
    give<kRowTiles>(sums, 0, given);
  }
  __syncthreads();
  if (at.half == 0) {
    take<kRowTiles>(sums, 0, taken);
  } else {
    take<kRowTiles>(sums, kRowTiles, taken);
  }
  float* partial = calls.partials + int64_t{blockIdx.x} * (2 * kRowTiles * kThreads * 4);
#pragma unroll 1
  for (int j = 0; j < kRowTiles; ++j) {
    FragmentC both[2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const Pack<float, 4> pack = load<4>(taken + (2 * j + m) * kThreads * 4);
#pragma unroll
      for (int e = 0; e < 4; ++e) both[m].at[e] = pack.at[e];
      if (s.parts > 1)
        store<4>(partial + ((2 * j + m) * kThreads + static_cast<int>(threadIdx.x)) * 4, pack);
    }
    if (s.parts == 1) store_fragments(s, outputs, 8 * (at.half * kRowTiles + j), at, both);
  }
}

// Adds the parts of 16 rows of x of a tile, in their order.
template <int kRowTiles>
__global__ void __launch_bounds__(kThreads)
    finish_parts_kernel(const __grid_constant__ Skinnies calls) {
  next_may_start();
  const int index = call_of_block(static_cast<int>(blockIdx.x), calls.count,
                                  [&](int i) { return calls.each[i].first_tile; });
  const Skinny& s = calls.each[index];
  const int32_t tile = static_cast<int32_t>(blockIdx.x) - s.first_tile;
  const int j = static_cast<int>(blockIdx.y);
  constexpr int64_t kBlock = 2 * kRowTiles * kThreads * 4;
  const float* partial = calls.partials + (s.first_block + int64_t{tile} * s.parts) * kBlock +
                         (2 * j * kThreads + static_cast<int>(threadIdx.x)) * 4;
  const Place at = place_of_thread();
  const Outputs outputs(s.call, tile, at);
  previous_done();
  FragmentC sums[2] = {};
  add_parts(partial, s.parts, kBlock, kThreads * 4, sums);
  store_fragments(s, outputs, 8 * (at.half * kRowTiles + j), at, sums);
}

// Into how many parts a call's inputs go, each of at least so many steps.
int64_t parts_of(const Call& c, int64_t part_steps) {
  const int64_t parts = ceil_div(c.inputs, kStepInputs) / part_steps;
  return parts > 1 ? parts : 1;
}

template <class W, int kRowTiles>
void skinny_calls(Context& context, DType dtype, std::span<const Call> each) {
  int64_t steps = 0;
  for (const Call& c : each) steps += ceil_div(c.outputs, kTile) * ceil_div(c.inputs, kStepInputs);
  const int64_t blocks_best = context.multiprocessors();
  const int64_t part_steps = std::max({ceil_div(steps, 2 * blocks_best), kPartStepsLeast,
                                       std::min(kPartSteps, ceil_div(steps, blocks_best))});
  Skinnies calls{};
  calls.count = static_cast<int32_t>(each.size());
  int64_t blocks = 0, split_tiles = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    Skinny& s = calls.each[i];
    const int64_t tiles = ceil_div(each[i].outputs, kTile);
    s.call = each[i];
    s.parts = static_cast<int32_t>(parts_of(s.call, part_steps));
    s.first_block = static_cast<int32_t>(blocks);
    s.first_tile = static_cast<int32_t>(split_tiles);
    blocks += tiles * s.parts;
    if (s.parts > 1) split_tiles += tiles;
  }
  constexpr size_t kPartialBytes = size_t{2} * kRowTiles * kThreads * 4 * sizeof(float);
  const LeftRows left = room_for_low_rank(context, each);
  Narrow narrow[kCallsMax] = {};
  for (size_t i = 0; i < each.size(); ++i) narrow[i].call = each[i];
  std::byte* partials = narrow_rows(context, dtype, {narrow, each.size()},
                                    split_tiles > 0 ? blocks * kPartialBytes : 0);
  if (partials == nullptr) return;  // the context holds the error
  for (size_t i = 0; i < each.size(); ++i) {
    calls.each[i].rows = narrow[i].rows;
    calls.each[i].rows_stride = narrow[i].stride;
    calls.each[i].scales = narrow[i].scales;
    calls.each[i].left = left.find(each[i].y, each[i].y_stride, each[i].rows, each[i].outputs);
  }
  calls.partials = reinterpret_cast<float*>(partials);
  const Grid grid{dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
                  kStages * Copies<W, kRowTiles>::kStage * sizeof(W), true};
  launch(context, "linear", grid, skinny_kernel<W, kRowTiles>, calls);
  const Grid finish{dim3(static_cast<unsigned>(split_tiles), kRowTiles), dim3(kThreads), 0, true};
  launch(context, "linear", finish, finish_parts_kernel<kRowTiles>, calls);
  context.leave(left);
}

template <class W>
void skinny_rows(Context& context, DType dtype, std::span<const Call> each) {
  switch (ceil_div(each.front().rows, 16)) {
    case 1:
      return skinny_calls<W, 1>(context, dtype, each);
    case 2:
      return skinny_calls<W, 2>(context, dtype, each);
    case 3:
      return skinny_calls<W, 3>(context, dtype, each);
    default:
      return skinny_calls<W, 4>(context, dtype, each);
  }
}

}  // namespace

void skinny_products(Context& context, DType dtype, std::span<const Call> calls) {
  dispatch_16_bits(dtype, [&](auto zero) { skinny_rows<decltype(zero)>(context, dtype, calls); });
}

}  // namespace trireme::cuda
