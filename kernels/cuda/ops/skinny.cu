// Products of 2 to 64 rows: the weights are read once, past tensor cores, and the time should be
// that of reading them.
//
// What 64 rows cost for each byte of 16-bit weights, at M = 4.2 TB/s from memory:
//   64 flops                 270 Tflop/s, of some 600 that mma.sync reaches on Hopper
//   1/2 byte of x from L2    6.4 TB/s out of L2 together with the weights: a tile has 128 rows of
//                            w. With 64 it would be 8.5 TB/s, which L2 does not have
//   4.5 bytes of shared memory: weights and x written (1 + 1/2), weights read once, x read twice
//                            (a warp multiplies it by 32 outputs): 19 TB/s of 30
// So a block has 8 warps: four groups of 32 outputs, and each group twice, for either half of the
// 64 inputs of a step. Weights and x come by asynchronous copies, three steps ahead of their use:
// 48 KB of weights on their way for a block, two blocks on a multiprocessor, where 30 KB cover the
// memory's latency.
//
// Tiles are fewer than multiprocessors, or not a multiple of them: 4096 outputs have 32. So blocks
// have equal shares of all steps of a launch (device/shares.cuh), two blocks on a multiprocessor,
// which hide each other's barriers and latencies; one pipeline of copies runs through a share, from
// tile to tile. The sums of a tile that is cut go through L2 in f32: of 64 rows, 32 KB for each
// part, as much as two steps of weights.
//
// By count: RWKV-7's r, k and v, 4096 x 4096 each, are 6144 steps, 23 or 24 for each of 264 blocks
// and 47 at most for a multiprocessor; a tile has three parts or four. Before, tiles were cut into
// two parts each, 192 blocks of 32 steps, and where two met, a multiprocessor had 64: measured on
// an H200, 45 us, and 8 for a second kernel that added the parts; their bytes take 25. Expected
// now: 33 us if a step takes a multiprocessor as long as it did, and some 3 for the joining: four
// loads of 32 KB, one after another.
//
// 128 registers are all that two blocks leave a thread, and 64 rows take 124 (nvcc 13.0, sm_90; 115
// on sm_80, where shared memory has room for one such block). So nothing is kept that can be
// computed again.
//
// The order of inputs within a product is free, as long as w and x agree: thread t of the four that
// share a row takes inputs [8 t, 8 t + 8) of 32, one word of 16 bytes, as what it contributes to
// two mma of 16 inputs. Rows in shared memory are 128 bytes; the halves of odd ones are exchanged,
// so that eight lanes, two rows, meet all banks.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/parts.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/shares.cuh"
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
constexpr int kCopiedRows = kThreads / kPieces;  // by all threads at once

// A part's sums are 8 KB for each 16 rows of x, half a step's weights, which are written and read.
// So tiles are cut for shares of so many steps at least, and not at all where a block would be
// spared no more steps than its two parts cost.
template <int kRowTiles>
constexpr int64_t kShareSteps = std::max(4, 2 * kRowTiles);
template <int kRowTiles>
constexpr int64_t kCutSteps = 2 * kRowTiles;
constexpr int64_t kTileParts = 16;  // 512 KB, of 64 rows, for one block to add up

// Rows of 16-bit numbers. Their width is in whole pieces, with zeros beyond the inputs.
struct Rows {
  const void* data;
  int32_t count, width, stride;
};
// One call, its rows in the format of the weights.
struct Skinny {
  Rows w, x;
  Call call;
  const float* scales;  // of x; may be null
};
template <int kRowTiles>
constexpr int kStage = (kTile + 16 * kRowTiles) * kStepInputs;  // numbers
struct Skinnies {
  Skinny each[kCallsMax];
  Shares shares;
  float* slots;     // of sums: [2 kRowTiles][kThreads][4] each
  unsigned* ended;  // of tiles that are cut, by their first block: how many parts are there
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

// Stores what a thread holds of 8 rows of x: fragment m, of rows [16 m, 16 m + 16) of its group.
__device__ __forceinline__ void store_fragment(const Skinny& s, int64_t tile, int first_row,
                                               const Place& at, int m, const FragmentC& sum) {
  const Call& c = s.call;
  const int64_t first = tile * kTile + at.group * kGroupRows + 16 * m + at.g;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int row = first_row + 2 * at.t + e;
    if (row >= c.rows) continue;
    const float scale = s.scales == nullptr ? 1.0f : s.scales[row];
    float* y = c.y + row * c.y_stride;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t output = first + 8 * h;
      if (output >= c.outputs) continue;
      const float bias = c.bias == nullptr ? 0.0f : c.bias[output];
      y[output] = finished(c, sum.at[2 * h + e] * scale + bias);
    }
  }
}

// Asks for a step of a matrix, kRows of its rows from `first` on: each thread for one piece of
// every kCopiedRows-th. Beyond the matrix there are zeros. Where it begins is computed again for
// each step: what would be kept for that does not fit into registers.
template <int kRows, class W>
__device__ __forceinline__ void copy_step(const Rows& rows, int first, int step, W* to) {
  const int row = static_cast<int>(threadIdx.x / kPieces);
  const int piece = static_cast<int>(threadIdx.x % kPieces);
  const int k = step * kStepInputs + piece * kPiece;
  const int left = k < rows.width ? rows.count - first - row : 0;
  const W* from = static_cast<const W*>(rows.data) + (int64_t{first + row} * rows.stride + k);
  to += piece_at(row, piece);
#pragma unroll
  for (int i = 0; i * kCopiedRows < kRows; ++i) {
    if (kCopiedRows * (i + 1) > kRows && threadIdx.x >= unsigned{kThreads / 2}) break;
    copy_16_bytes(to + i * kCopiedRows * kStepInputs, from, left > i * kCopiedRows);
    from += kCopiedRows * rows.stride;
  }
}
template <class W>
__device__ __forceinline__ void copy_weights(const Skinnies& calls, const StepPlace& at, W* stage) {
  copy_step<kTile>(calls.each[at.call].w, at.tile * kTile, at.step, stage);
}
template <int kRowTiles, class W>
__device__ __forceinline__ void copy_rows(const Skinnies& calls, const StepPlace& at, W* stage) {
  copy_step<16 * kRowTiles>(calls.each[at.call].x, 0, at.step, stage + kTile * kStepInputs);
}

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

// Puts a part away: to y if it is a whole tile, else to its slot; the last block of the tile adds
// up all slots. The halves of the inputs meet first: each of a pair of warps keeps half of the rows
// of x and gives the other half to its partner, in two turns, since the stage that the last step
// has left is not larger. `flag`: a word of shared memory.
template <int kRowTiles>
__device__ __forceinline__ void put_part(const Skinnies& calls, const StepPlace& tile,
                                         const Place& at, const FragmentC (&sums)[2 * kRowTiles][2],
                                         float* stage, int* flag) {
  constexpr int kFragment = kThreads * 4;
  constexpr int64_t kSlot = 2 * kRowTiles * kFragment;
  const Skinny& s = calls.each[tile.call];
  const TileBlocks blocks = blocks_of_tile(calls.shares, tile);
  const bool cut = blocks.parts() > 1;
  const int own = static_cast<int>(threadIdx.x) * 4;
  const int first_row = 8 * at.half * kRowTiles;
  float* slot = calls.slots + blocks.slot(static_cast<int32_t>(blockIdx.x)) * kSlot + own;
  float* given = stage + own;
  float* taken = stage + (own ^ kThreads / 2 * 4);
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    __syncthreads();  // nobody reads the stage any more
#pragma unroll
    for (int j = 0; j < kRowTiles; ++j) {
      Pack<float, 4> give;
#pragma unroll
      for (int e = 0; e < 4; ++e)
        give.at[e] = at.half == 0 ? sums[kRowTiles + j][m].at[e] : sums[j][m].at[e];
      store<4>(given + j * kFragment, give);
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kRowTiles; ++j) {
      Pack<float, 4> both = load<4>(taken + j * kFragment);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        both.at[e] += at.half == 0 ? sums[j][m].at[e] : sums[kRowTiles + j][m].at[e];
      store<4>(cut ? slot + (2 * j + m) * kFragment : taken + j * kFragment, both);
    }
    if (cut) continue;
#pragma unroll 1
    for (int j = 0; j < kRowTiles; ++j) {
      const Pack<float, 4> sum = load<4>(taken + j * kFragment);
      store_fragment(s, tile.tile, first_row + 8 * j, at, m,
                     {{sum.at[0], sum.at[1], sum.at[2], sum.at[3]}});
    }
  }
  if (!cut || !last_block(calls.ended + blocks.first, blocks.parts(), flag)) return;
  const float* slots = calls.slots + blocks.slot(blocks.first) * kSlot + own;
#pragma unroll 1
  for (int j = 0; j < kRowTiles; ++j) {
    FragmentC all[2] = {};
    add_parts(slots + 2 * j * kFragment, blocks.parts(), kSlot, kFragment, all);
#pragma unroll
    for (int m = 0; m < 2; ++m) store_fragment(s, tile.tile, first_row + 8 * j, at, m, all[m]);
  }
}

template <class W, int kRowTiles>
__global__ void __launch_bounds__(kThreads, 2)
    skinny_kernel(const __grid_constant__ Skinnies calls) {
  next_may_start();
  const Shares& shares = calls.shares;
  W* stages = shared<W>();
  const auto stage_of = [&](int i) { return stages + (i & (kStages - 1)) * kStage<kRowTiles>; };
  int* flag = reinterpret_cast<int*>(stages + kStages * kStage<kRowTiles>);

  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t first = first_step(shares, block);
  const int count = first_step(shares, block + 1) - first;
  StepPlace tile = place_of_step(shares, first);
  StepPlace next = tile;  // the step to be copied next
#pragma unroll 1
  for (int i = 0; i < kStages - 1 && i < count; ++i) {
    copy_weights(calls, next, stage_of(i));
    next_step(shares, next);
  }
  previous_done();
  next = tile;
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < count) {
      copy_rows<kRowTiles>(calls, next, stage_of(i));
      next_step(shares, next);
    }
    copies_commit();  // the first group has all the weights
  }
  const Place at = place_of_thread();
#pragma unroll 1
  for (int i = 0; i < count; next_tile(shares, tile)) {
    const int end = min(i + shares.tile_steps[tile.call] - tile.step, count);
    FragmentC sums[2 * kRowTiles][2] = {};
#pragma unroll 1
    for (; i < end; ++i) {
      copies_wait<kStages - 2>();
      __syncthreads();  // step i is here, and step i - 1 has been used
      if (i + kStages - 1 < count) {
        W* stage = stage_of(i + kStages - 1);
        copy_weights(calls, next, stage);
        copy_rows<kRowTiles>(calls, next, stage);
        next_step(shares, next);
      }
      copies_commit();
      multiply_step<W, kRowTiles>(stage_of(i), at, sums);
    }
    put_part<kRowTiles>(calls, tile, at, sums, reinterpret_cast<float*>(stage_of(end - 1)), flag);
  }
}

template <class W, int kRowTiles>
void skinny_calls(Context& context, DType dtype, std::span<const Call> each) {
  constexpr size_t kStageBytes = kStage<kRowTiles> * sizeof(W);
  constexpr size_t kSharedBytes = kStages * kStageBytes + sizeof(int);
  constexpr size_t kSlotBytes = size_t{2} * kRowTiles * kThreads * 4 * sizeof(float);
  static_assert(kSlotBytes / 2 <= kStageBytes);
  CallTiles tiles[kCallsMax];
  Narrow narrow[kCallsMax] = {};
  for (size_t i = 0; i < each.size(); ++i) {
    narrow[i].call = each[i];
    tiles[i] = {ceil_div(each[i].outputs, kTile),
                std::max(ceil_div(each[i].inputs, kStepInputs), int64_t{1})};
  }
  const ShareLimits limits{blocks_at_once(context, true, kSharedBytes), kShareSteps<kRowTiles>,
                           kTileParts, kCutSteps<kRowTiles>};
  Skinnies calls{};
  calls.shares = equal_shares({tiles, each.size()}, limits);
  calls.ended = context.counters(static_cast<size_t>(calls.shares.blocks));
  if (calls.ended == nullptr) return;  // the context holds the error
  std::byte* slots = narrow_rows(context, dtype, {narrow, each.size()},
                                 static_cast<size_t>(slots_of(calls.shares)) * kSlotBytes);
  if (slots == nullptr) return;
  calls.slots = reinterpret_cast<float*>(slots);
  for (size_t i = 0; i < each.size(); ++i) {
    const Call& c = each[i];
    const auto width = static_cast<int32_t>(c.w_stride);
    calls.each[i] = {{c.w, static_cast<int32_t>(c.outputs), width, width},
                     {narrow[i].rows, static_cast<int32_t>(c.rows), width,
                      static_cast<int32_t>(narrow[i].stride)},
                     c,
                     narrow[i].scales};
  }
  const Grid grid{dim3(static_cast<unsigned>(calls.shares.blocks)), dim3(kThreads), kSharedBytes,
                  true};
  launch(context, "linear", grid, skinny_kernel<W, kRowTiles>, calls);
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
