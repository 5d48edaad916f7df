// Attention of one tile of lines over one tile of positions on tensor cores, by one warp: what
// decode and prefill share. A warp holds kM times 16 lines; scores and sums stay in its registers.
//
//   S = Q K^T              scores(): positions are columns
//   P = 2^(S f - largest)  weigh(): online softmax in base 2, f a number of each line; O shrinks
//                          where `largest` has grown, shrink_sums()
//   O = O + P V            add_values()
//
// kParts: q and weights are the sum of so many numbers of the cache's format. One rounds them, to
// 2^-9 of them (bf16) or 2^-12 (f16); two keep 2^-17 or 2^-23, for twice the products.
//
// Rows of shared memory have 16 bytes more than they need: an odd number of 16-byte words, so that
// the eight rows of a matrix load lie in different banks.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/heads.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/tiles.cuh"

namespace trireme::cuda {

template <int D>
inline constexpr int kRowStride = D + 8;  // elements

// Weights are relative to a score that the largest one may pass by this much before sums shrink to
// the new one: after the first tiles that is rare, and shrinking costs as many instructions as
// there are sums.
inline constexpr float kSlack = 8.0f;

// And they are multiplied by 2^this, which cancels in the end: f16 ends at 2^16, and begins at
// 2^-24, where a hundred thousand small weights may not all become nothing.
template <class T>
inline constexpr float kWeightShift = 0.0f;
template <>
inline constexpr float kWeightShift<F16> = 7.0f;

// A power of two that brings the elements of a line to [1, 2): f16 could not hold every q.
struct LineScale {
  float up, down;
};
__device__ __forceinline__ LineScale line_scale(float largest) {
  const unsigned exponent = __float_as_uint(largest) >> 23 & 0xffu;
  if (exponent == 0 || exponent >= 254) return {1.0f, 1.0f};
  return {__uint_as_float((254u - exponent) << 23), __uint_as_float(exponent << 23)};
}

// Where the lines of a tile lie.
struct QueryLines {
  const AttendArgs& args;
  const LineTile& tile;
  int kv_head;
  __device__ __forceinline__ const float* operator()(int line) const {
    return args.q + tile.row(line, args.group) * args.q_stride +
           int64_t{tile.head(line, args.group, kv_head)} * args.cache.head_dim;
  }
};

// The lines of a tile, line_at(line), times scale, as kParts rows of T each, by the block's first
// `warps` warps, which take turns: element d of a line, as heads.take() gives it, goes to
// to[at(part, line, d)]. factors: what makes scores of base two of their products. Lines beyond the
// last are zeros. A warp asks for kAtOnce lines before it looks at the first, since nothing else
// hides the latency.
template <class T, int D, int kParts, int kLines, int kAtOnce, class Heads, class Line, class Place>
__device__ __forceinline__ void load_queries(const AttendArgs& args, const LineTile& tile,
                                             int warps, T* to, float* factors, const Heads& heads,
                                             const Line& line_at, const Place& at) {
  const int lane = lane_of_warp();
  if (warp_of_block() >= warps) return;
#pragma unroll 1
  for (int first = warp_of_block(); first < kLines; first += warps * kAtOnce) {
    typename Heads::Held held[kAtOnce];
#pragma unroll
    for (int l = 0; l < kAtOnce; ++l)
      held[l] = heads.ask(line_at(min(first + l * warps, tile.lines - 1)));
#pragma unroll
    for (int l = 0; l < kAtOnce; ++l) {
      const int line = first + l * warps;
      float x[kLaneElements<D>] = {};
      LineScale scale{0.0f, 0.0f};
      if (line < tile.lines) {
        heads.take(held[l], x);
        float largest = 0.0f;
#pragma unroll
        for (int i = 0; i < kLaneElements<D>; ++i) {
          x[i] *= args.scale;
          largest = fmaxf(largest, fabsf(x[i]));
        }
        scale = line_scale(warp_max(largest));
      }
      if (lane == 0) factors[line] = scale.down * kLogTwoE;
#pragma unroll
      for (int i = 0; i < kLaneElements<D>; ++i) {
        if (!lane_has<D>(i)) break;
        float rest = x[i] * scale.up;
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const T rounded = from_float<T>(rest);
          to[at(part, line, lane + i * kWarpSize)] = rounded;
          rest -= to_float(rounded);
        }
      }
    }
  }
}

// load_queries() into [kParts][kLines][stride].
template <class T, int D, int kParts, int kLines, class Heads, class Line>
__device__ __forceinline__ void load_queries(const AttendArgs& args, const LineTile& tile,
                                             int warps, T* to, float* factors, const Heads& heads,
                                             const Line& line_at) {
  load_queries<T, D, kParts, kLines, 4>(
      args, tile, warps, to, factors, heads, line_at,
      [](int part, int line, int d) { return (part * kLines + line) * kRowStride<D> + d; });
}

// Begins to copy the keys and values of kCount positions from `first` on into rows of shared
// memory, by one warp. Positions that no line sees become zeros: a weight of zero times what lies
// there could be NaN. A lane looks up one position and tells the others.
template <class T, int D, int kCount>
__device__ __forceinline__ void copy_positions(const TileKeys<T>& source, int32_t first, T* keys,
                                               T* values) {
  // A turn of the warp is kAcross words of 16 bytes of kDown positions.
  constexpr int kWord = 16 / sizeof(T), kWords = D / kWord;
  constexpr int kAcross = kWords & -kWords, kDown = kWarpSize / kAcross;
  static_assert(kAcross <= kWarpSize && kCount % kDown == 0);
  const int lane = lane_of_warp();
  const auto mine = reinterpret_cast<unsigned long long>(source.key(first + lane % kCount));
  const int64_t to_value = source.cache.value_offset();
  const int offset = lane / kAcross * kRowStride<D> + lane % kAcross * kWord;
#pragma unroll
  for (int p = 0; p < kCount; p += kDown) {
    const auto* key = reinterpret_cast<const T*>(__shfl_sync(kWholeWarp, mine, p + lane / kAcross));
    const bool seen = key != nullptr;
    if (!seen) key = reinterpret_cast<const T*>(source.cache.blocks);  // which is not read
    const T* value = seen ? key + to_value : key;
#pragma unroll
    for (int d = 0; d < D; d += kAcross * kWord) {
      const int from = d + lane % kAcross * kWord, to = offset + p * kRowStride<D> + d;
      copy_16_bytes(keys + to, key + from, seen);
      copy_16_bytes(values + to, value + from, seen);
    }
  }
}

// Where lane i's row lies of four matrices that make a 16 x 16 operand: A, or values as B.
template <int D>
__device__ __forceinline__ int operand_row(int lane) {
  return lane % 16 * kRowStride<D> + lane / 16 * 8;
}
// The same of keys as B, which lie as its columns.
template <int D>
__device__ __forceinline__ int key_row(int lane) {
  return (lane % 8 + lane / 16 * 8) * kRowStride<D> + lane / 8 % 2 * 8;
}

// What a warp holds of its lines: lane (g, t) has lines g and g + 8 of each 16.
template <int D, int kM>
struct LineSums {
  FragmentC sum[kM][D / 8] = {};
  float largest[kM][2];
  float total[kM][2] = {};  // of this lane's columns
  __device__ LineSums() {
#pragma unroll
    for (int m = 0; m < kM; ++m) largest[m][0] = largest[m][1] = kNoScore;
  }
};

// queries: this warp's first line, part 0; the parts lie part_stride elements apart. Products that
// add to the same sums wait for each other: each part has sums of its own, where there are
// registers for them.
template <class T, int D, int kM, int kN, int kParts>
__device__ __forceinline__ void scores(const T* queries, int part_stride, const T* keys,
                                       FragmentC (&s)[kM][kN]) {
  constexpr int kSums = D <= 128 ? kParts : 1;
  const int lane = lane_of_warp();
  FragmentC sums[kSums][kM][kN] = {};
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    FragmentA a[kM][kParts];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        load_matrices(
            queries + part * part_stride + m * 16 * kRowStride<D> + k * 16 + operand_row<D>(lane),
            a[m][part].at);
      }
    }
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      unsigned b[4];
      load_matrices(keys + n * 8 * kRowStride<D> + k * 16 + key_row<D>(lane), b);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          FragmentC* to = sums[part % kSums][m] + n;
          multiply_add<T>(a[m][part], {{b[0], b[1]}}, to[0]);
          multiply_add<T>(a[m][part], {{b[2], b[3]}}, to[1]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[m][n].at[i] = sums[0][m][n].at[i];
#pragma unroll
        for (int part = 1; part < kSums; ++part) s[m][n].at[i] += sums[part][m][n].at[i];
      }
    }
  }
}

// True where some line of the tile does not see all of `count` positions from `first` on, or its
// part ends at `end` before they do.
__device__ __forceinline__ bool needs_mask(const AttendArgs& args, const LineTile& tile,
                                           int32_t first, int count, int32_t end) {
  const int32_t window = args.cache.window_tokens;
  return first + count - 1 > min(tile.first_position, end - 1) ||
         (window > 0 && first <= tile.last_position - window);
}

// Scores of positions from `first` on that a line does not see, or that are not in its part, become
// -INFINITY. What the lines see is looked up again each time: few tiles need it, and registers are
// short in all the others.
template <int kM, int kN>
__device__ __forceinline__ void mask_scores(const AttendArgs& args, const LineTile& tile,
                                            int warp_line, int32_t first, int32_t end,
                                            FragmentC (&s)[kM][kN]) {
  const int lane = lane_of_warp();
  const int32_t column = first + lane % 4 * 2, window = args.cache.window_tokens;
#pragma unroll
  for (int i = 0; i < 2 * kM; ++i) {
    const int m = i / 2, half = i % 2 * 2;
    const int32_t line = min(warp_line + lane / 4 + i * 8, tile.lines - 1);
    const int32_t position = args.rows.positions[tile.row(line, args.group)];
    const int32_t low = (window > 0 ? position - window + 1 : 0) - column;
    const int32_t high = min(position, end - 1) - column;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (n * 8 + j < low || n * 8 + j > high) s[m][n].at[half + j] = -INFINITY;
      }
    }
  }
}

// The largest score of this lane's line in half `half` of m, the four lanes that share it together.
template <int kN>
__device__ __forceinline__ float largest_score(const FragmentC (&s)[kN], int half) {
  float largest = s[0].at[half * 2];
#pragma unroll
  for (int n = 0; n < kN; ++n)
    largest = fmaxf(largest, fmaxf(s[n].at[half * 2], s[n].at[half * 2 + 1]));
  largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
  return fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
}

// What a tile of scores does to the lines' sums.
template <int kM>
struct Shrinking {
  float factor[kM][2];  // of scores
  float shrink[kM][2];  // of sums that were there before
  bool any;             // of the warp's lines shrinks
};

// Scores become weights, and their totals are added up; where a score is far larger than any before
// it in its line, the line's sums are to shrink. factors: of the warp's first line, in shared
// memory.
template <class T, int D, int kM, int kN>
__device__ __forceinline__ Shrinking<kM> weigh(const float* factors, FragmentC (&s)[kM][kN],
                                               LineSums<D, kM>& lines) {
  const int g = lane_of_warp() / 4;
  Shrinking<kM> shrinking;
  bool grown = false;
#pragma unroll
  for (int i = 0; i < 2 * kM; ++i) {
    const int m = i / 2, half = i % 2;
    shrinking.factor[m][half] = factors[i * 8 + g];
    const float before = lines.largest[m][half];
    const float largest = largest_score(s[m], half) * shrinking.factor[m][half];
    const bool grows = largest > before + kSlack;
    if (grows) lines.largest[m][half] = largest;
    shrinking.shrink[m][half] = grows ? exp2_fast(before - largest) : 1.0f;
    grown = grown || grows;
  }
  shrinking.any = __any_sync(kWholeWarp, grown) != 0;
#pragma unroll
  for (int i = 0; i < 2 * kM; ++i) {
    const int m = i / 2, half = i % 2;
    const float from = kWeightShift<T> - lines.largest[m][half];
    lines.total[m][half] *= shrinking.shrink[m][half];
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = half * 2; j < half * 2 + 2; ++j) {
        s[m][n].at[j] = exp2_fast(fmaf(s[m][n].at[j], shrinking.factor[m][half], from));
        lines.total[m][half] += s[m][n].at[j];
      }
    }
  }
  return shrinking;
}

template <int D, int kM>
__device__ __forceinline__ void shrink_sums(const Shrinking<kM>& shrinking,
                                            LineSums<D, kM>& lines) {
  if (!shrinking.any) return;
#pragma unroll
  for (int i = 0; i < 2 * kM; ++i) {
    const int m = i / 2, half = i % 2;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      lines.sum[m][d].at[half * 2] *= shrinking.shrink[m][half];
      lines.sum[m][d].at[half * 2 + 1] *= shrinking.shrink[m][half];
    }
  }
}

// Part `part` of two numbers; what is left of them stays for the next part.
template <class T>
__device__ __forceinline__ unsigned take_part(float& low, float& high) {
  const unsigned bits = pack<T>(low, high);
  low -= to_float(T{static_cast<uint16_t>(bits & 0xffffu)});
  high -= to_float(T{static_cast<uint16_t>(bits >> 16)});
  return bits;
}

template <class T, int D, int kM, int kN, int kParts>
__device__ __forceinline__ void add_values(const T* values, FragmentC (&p)[kM][kN],
                                           LineSums<D, kM>& lines) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int k = 0; k < kN / 2; ++k) {
    FragmentA a[kM][kParts];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float* pair = &p[m][2 * k + i / 2].at[i % 2 * 2];
          a[m][part].at[i] = take_part<T>(pair[0], pair[1]);
        }
      }
    }
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      unsigned b[4];
      load_matrices_transposed(values + k * 16 * kRowStride<D> + d * 8 + operand_row<D>(lane), b);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          multiply_add<T>(a[m][part], {{b[0], b[1]}}, lines.sum[m][d]);
          multiply_add<T>(a[m][part], {{b[2], b[3]}}, lines.sum[m][d + 1]);
        }
      }
    }
  }
}

}  // namespace trireme::cuda
