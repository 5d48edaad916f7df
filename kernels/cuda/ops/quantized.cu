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
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/parts.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/quantized.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kWarpRows = 32;  // of w: two fragments of 16
constexpr int kStages = 4;     // a power of two
constexpr int64_t kPartInputsLeast = 256;
// What each block writes down for itself: at most so many rows, and numbers of f16.
constexpr int64_t kWholeRows = 2, kWholeNumbers = 16384;

// One call and its share of the grid.
struct Few {
  Call call;               // w: codes, w_stride: in bytes
  const unsigned* scales;  // [groups][w_rows]
  int32_t w_rows, groups, chunks;
  int32_t shift;            // input >> shift is its group
  const F16* rows;          // of x, written down; null: each block does it
  int64_t rows_stride;      //
  const float* row_powers;  // what products with them are multiplied by
  int32_t parts;            // of the inputs; one: the sums are finished at once
  int32_t first_block;      // block `parts * tile + part` of the call
  int32_t first_tile;       // of the tiles that the second kernel finishes
};
struct Fews {
  Few each[kCallsMax];
  int32_t count;
  int32_t whole_stride;  // of x's rows in shared memory
  bool wide;             // x is read four numbers at a time
  float* partials;       // of each block: [kColumns][kTiles][2][kWarpSize][4]
};

// kTiles: of 8 rows of x. kSlices: of the inputs, among the warps of a block. kSpan: inputs between
// two looks at scales. kWhole: each block writes x down.
template <class Q, int kTiles_, int kSlices_, int kSpan_, bool kWhole_>
struct Shape {
  using Codes = Q;
  static constexpr int kTiles = kTiles_, kSlices = kSlices_, kSpan = kSpan_;
  static constexpr bool kWhole = kWhole_;
  static constexpr int kColumns = kWarps / kSlices;
  static constexpr int kTile = kColumns * kWarpRows;            // rows of w of a block
  static constexpr int kStageInputs = Q::kUnits * kUnitInputs;  // of a warp
  static constexpr int kStepInputs = kSlices * kStageInputs;    // of a block
  static constexpr int kSpans = kStageInputs / kSpan;
  static constexpr int kCodeBytes = kWarpRows * kChunkBytes;
  static constexpr int kWarpBytes = kCodeBytes + kSpans * kWarpRows * 4;
  static constexpr int kRowPad = 16;                        // numbers
  static constexpr int kRowStride = kStepInputs + kRowPad;  // of x in the ring, in numbers
  static constexpr int kRowsBytes = kWhole ? 0 : 8 * kTiles * kRowStride * 2;
  static constexpr int kStageBytes = kWarps * kWarpBytes + kRowsBytes;
  static constexpr int kRingBytes = kStages * kStageBytes;
  static constexpr int kPartialFloats = kColumns * kTiles * 2 * kWarpSize * 4;
};

// Where a thread stands in its block.
struct Place {
  int column, slice;
  int g, t;  // see mma.cuh
};
template <int kColumns>
__device__ __forceinline__ Place place_of_thread() {
  const int warp = warp_of_block(), lane = lane_of_warp();
  return {warp % kColumns, warp / kColumns, lane / 4, lane % 4};
}

// The outputs of a fragment's rows: of both fragments of a warp where a gate and its value meet.
__device__ __forceinline__ bool gated(const Call& c) { return c.epilogue == Epilogue::kSwiglu; }
__device__ __forceinline__ int64_t output_of(const Call& c, int64_t tile, int columns, int column,
                                             int m, int r) {
  const int64_t warp = tile * columns + column;
  return gated(c) ? warp * 16 + r : warp * kWarpRows + 16 * m + r;
}

// Stores what a thread holds of 8 rows of x.
__device__ __forceinline__ void store_fragments(const Call& c, int64_t tile, int columns,
                                                int tile_x, const Place& at,
                                                const FragmentC (&sums)[2]) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int row = 8 * tile_x + 2 * at.t + e;
    if (row >= c.rows) continue;
    float* y = c.y + row * c.y_stride;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float values[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const int64_t output = output_of(c, tile, columns, at.column, m, at.g + 8 * h);
        values[m] = sums[m].at[2 * h + e];
        if (output >= c.outputs) continue;
        if (c.bias != nullptr) values[m] += c.bias[output + (gated(c) ? m * c.outputs : 0)];
        if (!gated(c)) {
          y[output] = finished(c, values[m]);
        } else if (m == 1) {
          y[output] = swiglu(values[0], values[1]);
        }
      }
    }
  }
}

// What a thread copies of each step. Rows that w or x does not have are other rows again: nobody
// looks at their sums.
template <class S>
struct Copies {
  static constexpr int kPieces = S::kStepInputs / 8;      // of 16 bytes of a row of x
  static constexpr int kRowsAtOnce = kThreads / kPieces;  // of x
  static constexpr int kTimes = S::kWhole ? 0 : 8 * S::kTiles / kRowsAtOnce;
  static_assert(kThreads % kPieces == 0);

  const std::byte* codes;              // of the next chunk, in row 0
  int piece_of_row[4];                 // rows 2 m + h of its fragments, from there, in 16 bytes
  int scale_row;                       // whose scales it fetches
  int chunk;                           // the next
  const F16* x;                        // of the next step, in row 0
  int k;                               // its input
  int x_row[kTimes > 0 ? kTimes : 1];  // from there, in numbers

  __device__ __forceinline__ Copies(const Few& f, const Place& at, int64_t tile, int64_t step) {
    const Call& c = f.call;
    const auto row_of = [&](int m, int r) {
      const int64_t output = output_of(c, tile, S::kColumns, at.column, m, r);
      const int64_t inside = output < c.outputs ? output : c.outputs - 1;
      return static_cast<int>(inside + (gated(c) ? m * c.outputs : 0));
    };
    chunk = static_cast<int>(step) * S::kSlices + at.slice;
    codes = static_cast<const std::byte*>(c.w) + int64_t{chunk} * kChunkBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      piece_of_row[i] = row_of(i / 2, at.g + i % 2 * 8) * static_cast<int>(c.w_stride / 16) + at.t;
    }
    scale_row = row_of(lane_of_warp() / 16, lane_of_warp() % 16);
    k = static_cast<int>(step) * S::kStepInputs + static_cast<int>(threadIdx.x % kPieces) * 8;
    x = S::kWhole ? nullptr : f.rows + k;
#pragma unroll
    for (int i = 0; i < kTimes; ++i) {
      const int row = i * kRowsAtOnce + static_cast<int>(threadIdx.x / kPieces);
      const int last = static_cast<int>(c.rows) - 1;
      x_row[i] = (row < last ? row : last) * static_cast<int>(f.rows_stride);
    }
  }

  __device__ __forceinline__ void weights(const Few& f, std::byte* stage) {
    if (chunk >= f.chunks) return;  // nor does anybody multiply by it
    std::byte* to = stage + warp_of_block() * S::kWarpBytes + lane_of_warp() * 16;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      copy_16_bytes_ahead(to + i * kWarpSize * 16, codes + int64_t{piece_of_row[i]} * 16);
    to = stage + warp_of_block() * S::kWarpBytes + S::kCodeBytes + lane_of_warp() * 4;
#pragma unroll
    for (int q = 0; q < S::kSpans; ++q) {
      // A chunk's last inputs may be beyond the last group, where x is 0.
      const int group = min((chunk * S::kStageInputs + q * S::kSpan) >> f.shift, f.groups - 1);
      copy_4_bytes(to + q * kWarpRows * 4, f.scales + (int64_t{group} * f.w_rows + scale_row));
    }
    codes += S::kSlices * kChunkBytes;
    chunk += S::kSlices;
  }

  __device__ __forceinline__ void rows(const Few& f, std::byte* stage) {
    F16* to = reinterpret_cast<F16*>(stage + kWarps * S::kWarpBytes) +
              static_cast<int>(threadIdx.x / kPieces) * S::kRowStride +
              static_cast<int>(threadIdx.x % kPieces) * 8;
#pragma unroll
    for (int i = 0; i < kTimes; ++i)
      copy_16_bytes(to + i * kRowsAtOnce * S::kRowStride, x + x_row[i], k < f.rows_stride);
    x += S::kStepInputs;
    k += S::kStepInputs;
  }
};

// Writes rows of x, inputs [first, first + count), to shared memory as f16, and what products with
// them are to be multiplied by. `partial`: a float for each warp.
__device__ __forceinline__ void write_rows_down(const Call& c, bool wide, int64_t first, int count,
                                                F16* to, int stride, float* powers,
                                                float* partial) {
  for (int row = 0; row < c.rows; ++row) {
    const float* x = c.x + row * c.x_stride + first;
    const int64_t inside = c.inputs - first;
    const auto write = [&](float scale) {
      float largest = 0.0f;
      for (int i = static_cast<int>(threadIdx.x) * 4; i < count; i += kThreads * 4) {
        Pack<float, 4> four;
        if (wide && i + 4 <= inside) {
          four = load<4>(x + i);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) four.at[j] = i + j < inside ? x[i + j] : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) largest = fmaxf(largest, fabsf(four.at[j]));
        store<2>(reinterpret_cast<unsigned*>(to + row * stride + i),
                 Pack<unsigned, 2>{{pack<F16>(four.at[0] * scale, four.at[1] * scale),
                                    pack<F16>(four.at[2] * scale, four.at[3] * scale)}});
      }
      return largest;
    };
    const float scale = scale_for_f16(block_max(write(1.0f), partial));
    if (scale != 1.0f) write(scale);
    if (threadIdx.x == 0) powers[row] = 1.0f / scale;
  }
}

// sums[n][m] += a warp's chunk of w times its inputs of x, scaled. `x`: the thread's own first.
template <class S>
__device__ __forceinline__ void multiply_stage(const std::byte* warp_stage, const F16* x,
                                               const Place& at, FragmentC (&sums)[S::kTiles][2]) {
  using Q = typename S::Codes;
  constexpr int kProducts = S::kSpan / 16;  // between two looks at scales
  constexpr int kUnitSpans = kUnitInputs / S::kSpan;
  // More would not fit into registers.
  constexpr int kUnrolled = S::kTiles * kUnitSpans <= 2 || S::kTiles == 1 ? S::kSpans : 1;
  const auto* own = reinterpret_cast<const unsigned*>(warp_stage) + lane_of_warp() * 4;
  const auto* words = reinterpret_cast<const unsigned*>(warp_stage + S::kCodeBytes) + at.g;
#pragma unroll kUnrolled
  for (int q = 0; q < S::kSpans; ++q, words += kWarpRows, x += S::kSpan) {
    FragmentA a[kProducts][2];
    float scales[2][2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const unsigned word = words[16 * m + 8 * h];
        const Zeros zeros = zeros_of<Q>(word);
        scales[m][h] = scale_of_word(word);
        const Pack<unsigned, kProducts> codes =
            load<kProducts>(own + (2 * m + h) * kWarpSize * 4 + q % kUnitSpans * kProducts);
#pragma unroll
        for (int p = 0; p < kProducts; ++p) {
          const int unit = q / kUnitSpans;
          const Four four = kUnrolled > 1 ? four_of<Q>(codes.at[p], unit, zeros)
                                          : four_of<Q>(codes.at[p] >> 4 * unit, 0, zeros);
          a[p][m].at[h] = four.first;
          a[p][m].at[2 + h] = four.last;
        }
      }
    }
#pragma unroll
    for (int n = 0; n < S::kTiles; ++n) {
      FragmentC sum[2] = {};
#pragma unroll
      for (int p = 0; p < kProducts; ++p) {
        const Pack<unsigned, 2> b =
            load<2>(reinterpret_cast<const unsigned*>(x + 8 * n * S::kRowStride + 16 * p));
#pragma unroll
        for (int m = 0; m < 2; ++m) multiply_add<F16>(a[p][m], {{b.at[0], b.at[1]}}, sum[m]);
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sums[n][m].at[e] = fmaf(sum[m].at[e], scales[m][e / 2], sums[n][m].at[e]);
      }
    }
  }
}

// Where fragment m of 8 rows of x, `n`, of a column lies among a block's sums.
template <class S>
__device__ __forceinline__ int fragment_at(int column, int n, int m) {
  return (((column * S::kTiles + n) * 2 + m) * kWarpSize + lane_of_warp()) * 4;
}

template <class S>
__global__ void __launch_bounds__(kThreads, S::kTiles <= 4 ? 2 : 1)
    few_rows_kernel(const __grid_constant__ Fews calls) {
  next_may_start();
  int index = 0;
  while (index + 1 < calls.count &&
         static_cast<int>(blockIdx.x) >= calls.each[index + 1].first_block)
    ++index;
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
  F16* whole = reinterpret_cast<F16*>(ring + S::kRingBytes);
  float* powers = reinterpret_cast<float*>(whole + kWholeRows * calls.whole_stride);
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
    finish_few_rows_kernel(const __grid_constant__ Fews calls) {
  next_may_start();
  previous_done();
  int index = 0;
  while (index + 1 < calls.count &&
         static_cast<int>(blockIdx.x) >= calls.each[index + 1].first_tile)
    ++index;
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
void few_rows_calls(Context& context, WeightFormat format, std::span<const Call> each) {
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
  size_t shared_bytes = S::kRingBytes;
  if constexpr (S::kWhole) {
    calls.partials = static_cast<float*>(context.scratch(std::max(partial_bytes, size_t{1})));
    calls.whole_stride = static_cast<int32_t>(steps_most) * S::kStepInputs + S::kRowPad;
    shared_bytes +=
        kWholeRows * (calls.whole_stride * sizeof(F16) + sizeof(float)) + kWarps * sizeof(float);
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
         few_rows_kernel<S>, calls);
  launch(
      context, "linear",
      {dim3(static_cast<unsigned>(split_tiles), S::kTiles), dim3(S::kColumns * kWarpSize), 0, true},
      finish_few_rows_kernel<S>, calls);
}

template <class Q, int kSpan>
void few_rows(Context& context, WeightFormat format, std::span<const Call> each) {
  const int64_t rows = each.front().rows;
  bool whole = rows <= kWholeRows;
  for (const Call& c : each)
    whole = whole && rows * c.inputs <= kWholeNumbers && c.prologue == Prologue::kNone;
  if (whole) return few_rows_calls<Shape<Q, 1, 8, kSpan, true>>(context, format, each);
  if (rows <= 8) return few_rows_calls<Shape<Q, 1, 4, kSpan, false>>(context, format, each);
  if (rows <= 16) return few_rows_calls<Shape<Q, 2, 2, kSpan, false>>(context, format, each);
  if (rows <= 32) return few_rows_calls<Shape<Q, 4, 1, kSpan, false>>(context, format, each);
  few_rows_calls<Shape<Q, 8, 1, kSpan, false>>(context, format, each);
}

}  // namespace

void quantized_products(Context& context, WeightFormat format, std::span<const Call> calls) {
  const int64_t rows = calls.front().rows;
  for (int64_t first = 0; first < rows; first += kFewRows) {
    Call pass[kCallsMax];
    for (size_t i = 0; i < calls.size(); ++i) {
      pass[i] = calls[i];
      pass[i].rows = std::min(kFewRows, rows - first);
      pass[i].x += first * pass[i].x_stride;
      pass[i].y += first * pass[i].y_stride;
    }
    dispatch_quantized(format.type, [&](auto type) {
      using Q = decltype(type);
      if (format.group == 32) return few_rows<Q, 32>(context, format, {pass, calls.size()});
      few_rows<Q, 64>(context, format, {pass, calls.size()});
    });
  }
}

}  // namespace trireme::cuda
