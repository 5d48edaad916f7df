// What a warp does in few_rows.cuh: its share of the work, its copies, its products.
#pragma once

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/quantized.cuh"
#include "kernels/cuda/device/shares.cuh"

namespace trireme::cuda::few_rows {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kWarpRows = 32;  // of w: two fragments of 16
// Of the ring, a power of two: the more, where a block may have the memory.
constexpr int kStagesMost = 4, kStagesLeast = 2;
// What each block writes down for itself: at most so many rows, and numbers of f16.
constexpr int64_t kWholeRows = 2, kWholeNumbers = 16384;

// One call.
struct Few {
  Call call;               // w: codes, w_stride: in bytes
  const unsigned* scales;  // [groups][w_rows]
  int32_t w_rows, groups, chunks;
  int32_t shift;            // input >> shift is its group
  const F16* rows;          // of x, written down; null: each block does it
  int64_t rows_stride;      //
  const float* row_powers;  // what products with them are multiplied by
};
struct Fews {
  Few each[kCallsMax];
  Shares shares;
  int32_t stages;        // of the ring
  int32_t whole_stride;  // of x's rows in shared memory
  bool wide;             // x is read four numbers at a time
  float* slots;          // of sums: [kColumns][kTiles][2][kLanes][4] each
  unsigned* ended;       // of tiles that are cut, by their first block: how many parts are there
  bool normed;           // all calls have the norm of the same row, which each block writes down
  NormOfRow norm;        // wide: its gain, too, is read four numbers at a time
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
  // Of one or two rows of x, only the lanes with t = 0 have sums.
  static constexpr int kLanes = kWhole ? kWarpSize / 4 : kWarpSize;
  static constexpr int kPartialFloats = kColumns * kTiles * 2 * kLanes * 4;
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

// Those whose sums a thread holds: rows g + 8 h of fragments m of its warp.
struct Outputs {
  int64_t first;  // the others: + step m + 8 h
  int step;
  float bias[2][2];
  float before[2][2];  // what a product of one row is added to, if it is

  __device__ __forceinline__ Outputs(const Call& c, int64_t tile, int columns, const Place& at)
      : first(output_of(c, tile, columns, at.column, 0, at.g)), step(gated(c) ? 0 : 16) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        bias[m][h] = bias_of(c, first + 8 * h + m * (gated(c) ? c.outputs : 16));
        const int64_t output = first + m * step + 8 * h;
        before[m][h] = *(c.adds && output < c.outputs ? c.y + output : &kNothing);
      }
    }
  }
};

// Stores what a thread holds of 8 rows of x, tile_x.
__device__ __forceinline__ void store_fragments(const Call& c, const Outputs& outputs, int tile_x,
                                                const Place& at, const FragmentC (&sums)[2]) {
  float values[2][4];  // of fragment m: [2 h + e]
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[m][i] = sums[m].at[i] + outputs.bias[m][i / 2];
  }
  if (gated(c)) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[1][i] = swiglu(values[0][i], values[1][i]);
  } else {
    finish(c, values[0]);
    finish(c, values[1]);
  }
  const int row = 8 * tile_x + 2 * at.t;
  float* y = c.y + row * c.y_stride + outputs.first;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    if (m == 0 && gated(c)) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int h = i / 2, e = i % 2;
      if (row + e < c.rows && outputs.first + m * outputs.step + 8 * h < c.outputs)
        y[e * c.y_stride + m * outputs.step + 8 * h] =
            c.adds ? outputs.before[m][h] + values[m][i] : values[m][i];
    }
  }
}

// What a thread copies of a step. Rows that w or x does not have are other rows again: nobody looks
// at their sums.
template <class S>
struct Copies {
  static constexpr int kPieces = S::kStepInputs / 8;      // of 16 bytes of a row of x
  static constexpr int kRowsAtOnce = kThreads / kPieces;  // of x
  static constexpr int kTimes = S::kWhole ? 0 : 8 * S::kTiles / kRowsAtOnce;
  static_assert(kThreads % kPieces == 0);

  StepPlace step;
  const std::byte* codes;  // of its chunk of the step, in row 0
  int piece_of_row[4];     // rows 2 m + h of its fragments, from there, in 16 bytes
  int scale_row;           // whose scales it fetches

  __device__ __forceinline__ Copies(const Fews& calls, const Place& at, const StepPlace& first)
      : step(first) {
    begin_tile(calls, at);
  }

  __device__ __forceinline__ void begin_tile(const Fews& calls, const Place& at) {
    const Call& c = calls.each[step.call].call;
    const auto row_of = [&](int m, int r) {
      const int64_t output = output_of(c, step.tile, S::kColumns, at.column, m, r);
      const int64_t inside = output < c.outputs ? output : c.outputs - 1;
      return static_cast<int>(inside + (gated(c) ? m * c.outputs : 0));
    };
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      piece_of_row[i] = row_of(i / 2, at.g + i % 2 * 8) * static_cast<int>(c.w_stride / 16) + at.t;
    }
    scale_row = row_of(lane_of_warp() / 16, lane_of_warp() % 16);
    const int chunk = step.step * S::kSlices + at.slice;
    codes = static_cast<const std::byte*>(c.w) + int64_t{chunk} * kChunkBytes;
  }

  // To the next step. REQUIRES: there is one.
  __device__ __forceinline__ void advance(const Fews& calls, const Place& at) {
    codes += S::kSlices * kChunkBytes;
    next_step(calls.shares, step);
    if (step.step == 0) begin_tile(calls, at);
  }

  __device__ __forceinline__ void weights(const Fews& calls, const Place& at,
                                          std::byte* stage) const {
    const Few& f = calls.each[step.call];
    const int chunk = step.step * S::kSlices + at.slice;
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
  }

  __device__ __forceinline__ void rows(const Fews& calls, std::byte* stage) const {
    const Few& f = calls.each[step.call];
    const int row = static_cast<int>(threadIdx.x / kPieces);
    const int piece = static_cast<int>(threadIdx.x % kPieces);
    const int k = step.step * S::kStepInputs + piece * 8;
    const int last = static_cast<int>(f.call.rows) - 1;
    F16* to =
        reinterpret_cast<F16*>(stage + kWarps * S::kWarpBytes) + row * S::kRowStride + piece * 8;
#pragma unroll
    for (int i = 0; i < kTimes; ++i) {
      const int from = min(row + i * kRowsAtOnce, last) * static_cast<int>(f.rows_stride) + k;
      copy_16_bytes(to + i * kRowsAtOnce * S::kRowStride, f.rows + from, k < f.rows_stride);
    }
  }
};

// Whether two calls multiply the same numbers.
__device__ __forceinline__ bool same_rows(const Call& a, const Call& b) {
  return a.x == b.x && a.x_stride == b.x_stride && a.inputs == b.inputs;
}

// Numbers [i, i + 4) of a row, zeros beyond the last of `inside`.
__device__ __forceinline__ Pack<float, 4> four_of_row(const float* row, int i, int inside) {
  Pack<float, 4> four;
#pragma unroll
  for (int j = 0; j < 4; ++j) four.at[j] = i + j < inside ? row[i + j] : 0.0f;
  return four;
}

// Calls f(i, numbers [i, i + 4) of x times those of `gain`) for the thread's share of the block's
// `count` numbers; beyond the first `inside` of them are zeros. gain may be null: ones. Four times
// four are asked for at once, where `wide` in words of four.
template <class F>
__device__ __forceinline__ void each_four(const float* x, const float* gain, int inside, int count,
                                          bool wide, F f) {
  constexpr int kNext = kThreads * 4, kAtOnce = 4;
  const int whole = wide ? inside / 4 * 4 : 0;  // of those that come in words
#pragma unroll 1
  for (int at = static_cast<int>(threadIdx.x) * 4; at < count; at += kAtOnce * kNext) {
    Pack<float, 4> fours[kAtOnce] = {}, gains[kAtOnce] = {};
    if (whole > 0) {
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) fours[n] = load<4>(x + min(at + n * kNext, whole - 4));
      if (gain != nullptr) {
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) gains[n] = load<4>(gain + min(at + n * kNext, whole - 4));
      }
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int i = at + n * kNext;
      if (i >= count) break;
      if (i >= whole) {
        fours[n] = four_of_row(x, i, inside);
        if (gain != nullptr) gains[n] = four_of_row(gain, i, inside);
      }
      if (gain != nullptr) {
#pragma unroll
        for (int j = 0; j < 4; ++j) fours[n].at[j] *= gains[n].at[j];
      }
      f(i, fours[n]);
    }
  }
}

// What a norm multiplies a row by, its gain aside. `partial`: a float for each warp.
__device__ __forceinline__ float norm_factor(const Call& c, const NormOfRow& norm, bool wide,
                                             float* partial) {
  const auto inputs = static_cast<int>(c.inputs);
  float squares = 0.0f;
  each_four(c.x, nullptr, inputs, inputs, wide, [&](int, const Pack<float, 4>& four) {
#pragma unroll
    for (int j = 0; j < 4; ++j) squares = fmaf(four.at[j], four.at[j], squares);
  });
  return 1.0f / sqrtf(block_sum(squares, partial) / static_cast<float>(inputs) + norm.epsilon);
}

// Writes rows of x, inputs [first, first + count), or the norm of one, to shared memory as f16, and
// what products with them are to be multiplied by. `partial`: a float for each warp.
__device__ __forceinline__ void write_rows_down(const Fews& calls, const Call& c, int first,
                                                int count, F16* to, float* powers, float* partial) {
  float factor = 1.0f;
  const float* gain = nullptr;
  if (calls.normed) {
    factor = norm_factor(c, calls.norm, calls.wide, partial);
    if (calls.norm.gain != nullptr) gain = calls.norm.gain + first;
  }
  const int inside = static_cast<int>(c.inputs) - first;
  for (int row = 0; row < c.rows; ++row) {
    const float* x = c.x + row * c.x_stride + first;
    F16* out = to + row * calls.whole_stride;
    const auto write = [&](float scale) {
      float largest = 0.0f;
      each_four(x, gain, inside, count, calls.wide, [&](int i, Pack<float, 4> four) {
#pragma unroll
        for (float& number : four.at) {
          number *= factor;
          largest = fmaxf(largest, fabsf(number));
        }
        store<2>(reinterpret_cast<unsigned*>(out + i),
                 Pack<unsigned, 2>{{pack<F16>(four.at[0] * scale, four.at[1] * scale),
                                    pack<F16>(four.at[2] * scale, four.at[3] * scale)}});
      });
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

// Where fragment m of 8 rows of x, `n`, of a column lies among a part's sums. REQUIRES: the lane
// has some of them.
template <class S>
__device__ __forceinline__ bool has_sums(const Place& at) {
  return !S::kWhole || at.t == 0;
}
template <class S>
__device__ __forceinline__ int fragment_at(int column, int n, int m) {
  const int lane = S::kWhole ? lane_of_warp() / 4 : lane_of_warp();
  return (((column * S::kTiles + n) * 2 + m) * S::kLanes + lane) * 4;
}
template <class S>
__device__ __forceinline__ void store_sums(const FragmentC (&sums)[2], int column, int n,
                                           float* to) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const float(&from)[4] = sums[m].at;
    store<4>(to + fragment_at<S>(column, n, m),
             Pack<float, 4>{{from[0], from[1], from[2], from[3]}});
  }
}

}  // namespace trireme::cuda::few_rows
