// RWKV-7's recurrence for long runs of heads of 64: chunks of 8 rows in the WY form of products of
// (diagonal + rank one) matrices. With P_t = w_1 .. w_t, elementwise, and the state S before a
// chunk, one row of which is one value:
//
//   u_t = S (a_t P_{t-1}) + sum_{s<t} ab_ts u_s + ak_ts v_s        (S_{t-1} a_t)
//   y_t = S (r_t P_t) + sum_{s<=t} rb_ts u_s + rk_ts v_s
//   S'  = S P_8 + sum_s u_s B_s^T + v_s K_s^T,    B_s = b_s w_{s+1} .. w_8, K_s likewise
//   ab_ts = a_t . (b_s w_{s+1} .. w_{t-1}),  rb_ts = r_t . (b_s w_{s+1} .. w_t),  ak, rk likewise
//
// (P/P_s as products of what lies between: nothing is divided, so that any decay in [0, 1] does.)
// The system for u has the inverse T = (1 - ab)^-1, and with X_t = S (a_t P_{t-1})
//   u = T X + W v,  y = S (r P) + Q X + Z v,   W = T ak,  Q = rb T,  Z = rk + rb W.
// T, W, Q, Z do not depend on the state: they are ready before the state warps need them.
//
// Grid (sequences, heads, 2): a block takes 32 values of a head through its run; the phases of a
// chunk are as in device/recurrence_chunks.cuh, by 2 warps with the state, 8 that form a row each,
// and one that solves. A state warp has 16 values and all keys, as results of tensor cores lie: 32
// numbers a lane. Its products are tensor cores' in f32 (device/tf32.cuh): the result of one is the
// operand of the next as it is, so that no sum over keys is a shuffle.
//
// Story. Measured on an H200, 8192 rows of 64 heads: 1716 us, 3000 clocks a chunk, with states in
// the hands of plain multiply-adds; 1470 us, 2520 clocks, once tensor cores had them. What a warp
// waits for and how long was then counted from the machine code, which has it written in each
// instruction: 980 clocks for the state, 1190 for the system, 2430 for forming, where four warps
// had two rows each and took both ways of every branch. So a row has a warp, whose branches all its
// lanes take alike: 460 to 650 instructions, some 1150 clocks; and the system is loaded whole
// before it is solved, 380 clocks instead of 1190. What the warps of a multiprocessor share is near
// its end now, too: 1260 clocks of shared memory and shuffles, 1210 of instructions a scheduler.
// Expected: 1400 to 1600 clocks a chunk, 0.8 to 0.95 ms; measured 1.35 ms, for reasons not looked
// for yet. Straight programs for each row, without branches, had been tried before: 42 KB of code,
// through which the warps ran in turns, took 3.45 ms. Bytes (6 x 134 MB + out: 0.94 GB, 0.22 ms)
// hide behind it.
//
// nvcc 13.0: 143 registers (sm_80: 132), no spills, 87,040 bytes of shared memory: one block on a
// multiprocessor.
#pragma once

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/recurrence_chunks.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/device/tf32.cuh"

namespace trireme::cuda {

struct Wkv7 {
  Matrix32 r, w, k, v, a, b;
  int32_t heads, head_dim;
};

namespace wkv7_chunks {

using Two = Pack<float, 2>;

inline constexpr int kDim = 64;
inline constexpr int kTiles = kDim / 8;  // of 8 keys
inline constexpr int kWarpValues = 16;
inline constexpr int kBlockValues = 2 * kWarpValues;
// The warps of a block, in this order: state, rows, system.
inline constexpr int kValueWarps = kBlockValues / kWarpValues;
inline constexpr int kFormWarps = kChunk;  // one for each row
inline constexpr int kThreads = (kValueWarps + kFormWarps + 1) * kWarpSize;
inline constexpr int kAhead = 3;  // chunks from loading to the state

// Right operands of products, split (tf32.cuh): of two rows that follow each other on the inner
// index, high parts and low parts, 16 bytes; of B and K, whose rows the inner index counts and
// different warps form, both parts of each number, 8 bytes. Pitches let lanes that load them
// together meet all banks.
inline constexpr int kRowPitch = 2 * kDim + 16;       // rows of a P, r P: pairs of keys
inline constexpr int kApartPitch = 2 * kDim + 4;      // rows of B, K: keys
inline constexpr int kSolvedPitch = 8 * kChunk + 16;  // rows of T, W, Q, Z: pairs of rows each
inline constexpr int kProductPitch = kChunk + 4;
inline constexpr int kValuePitch = kBlockValues + 4;

struct Rows {  // as they come
  float r[kChunk][kDim], w[kChunk][kDim], k[kChunk][kDim], a[kChunk][kDim], b[kChunk][kDim];
};
struct Form {
  float a[kChunk][kRowPitch], r[kChunk][kRowPitch];      // a_t P_{t-1}, r_t P_t
  float b[kChunk][kApartPitch], k[kChunk][kApartPitch];  // B_s, K_s
  float decay[kDim];                                     // P_8
};
using Products = float[4][kChunk][kProductPitch];  // ab, ak, rb, rk
struct Shared {
  Rows rows[2];                           // written at step n, read at n + 1
  Form forms[3];                          // written at n + 1, read at n + 3
  float v[4][kChunk][kValuePitch];        // written at n, read at n + 3
  Products products[2];                   // written at n + 1, read at n + 2
  float solved[2][kChunk][kSolvedPitch];  // rows of T, W, Q, Z; written at n + 2, read at n + 3
};

// ---- the rows of a chunk ----

// A row's warp has two keys of it a lane, and one value of the block's.
__device__ __forceinline__ float dot(const Two& x, const Two& y) {
  return fmaf(x.at[1], y.at[1], x.at[0] * y.at[0]);
}
__device__ __forceinline__ Two times(const Two& x, const Two& y) {
  return {{x.at[0] * y.at[0], x.at[1] * y.at[1]}};
}

struct Loaded {
  Two r, w, k, a, b;
  float v;
};

// A row that is not there changes nothing: no decay, and zeros.
__device__ __forceinline__ Loaded load_row(const Wkv7& p, const ChunkGrid& grid, int32_t chunk,
                                           int i, int64_t key, int64_t value) {
  Loaded x{};
  x.w = {{1.0f, 1.0f}};
  if (!grid.has(chunk, i)) return x;
  const int64_t row = grid.row(chunk, i);
  x.r = load<2>(p.r.row(row) + key);
  x.w = load<2>(p.w.row(row) + key);
  x.k = load<2>(p.k.row(row) + key);
  x.a = load<2>(p.a.row(row) + key);
  x.b = load<2>(p.b.row(row) + key);
  x.v = p.v.row(row)[value];
  return x;
}

// Both parts of two numbers, one number after the other.
__device__ __forceinline__ Pack<float, 4> apart(const Two& x) {
  const Pack<float, 4> parts = split(x.at[0], x.at[1]);
  return {{parts.at[0], parts.at[2], parts.at[1], parts.at[3]}};
}

// The form of row s and its column of the products, by one warp.
__device__ __forceinline__ void form_row(const Rows& rows, int s, int lane, Form& form,
                                         Products& products) {
  const int key = 2 * lane;
  Two before{{1.0f, 1.0f}};  // P_{s-1}
  Two b = load<2>(&rows.b[s][key]), k = load<2>(&rows.k[s][key]);
  float sums[4 * kChunk];  // [t][ab, ak, rb, rk]
#pragma unroll
  for (int i = 0; i < 4 * kChunk; ++i) sums[i] = 0.0f;
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    const Two w = load<2>(&rows.w[t][key]);
    if (t < s) {
      before = times(before, w);
      continue;
    }
    const Two a = load<2>(&rows.a[t][key]), r = load<2>(&rows.r[t][key]);
    if (t == s) {
      const Two through = times(before, w);
      const Two ap = times(a, before), rp = times(r, through);
      store<4>(&form.a[s][2 * key], split(ap.at[0], ap.at[1]));
      store<4>(&form.r[s][2 * key], split(rp.at[0], rp.at[1]));
      if (s == kChunk - 1) store<2>(&form.decay[key], through);
    } else {
      sums[4 * t] = dot(a, b);
      sums[4 * t + 1] = dot(a, k);
      b = times(b, w);
      k = times(k, w);
    }
    sums[4 * t + 2] = dot(r, b);
    sums[4 * t + 3] = dot(r, k);
  }
  store<4>(&form.b[s][2 * key], apart(b));
  store<4>(&form.k[s][2 * key], apart(k));
  fold_sums<kWarpSize, 4 * kChunk>(sums, lane);
  products[lane % 4][lane / 4][s] = sums[0];  // lane l holds number l
}

// The warps that load and form, from chunk to chunk.
struct Forming {
  int s, lane;
  int32_t first_key, first_value;  // columns
  Loaded next;

  __device__ Forming(const Wkv7& p, const ChunkGrid& grid, int row, int64_t first_key_column,
                     int64_t first_value_column)
      : s(row),
        lane(lane_of_warp()),
        first_key(static_cast<int32_t>(first_key_column)),
        first_value(static_cast<int32_t>(first_value_column)) {
    load(p, grid, 0);
  }

  __device__ void load(const Wkv7& p, const ChunkGrid& grid, int32_t chunk) {
    next = load_row(p, grid, chunk, s, first_key + 2 * lane, first_value + lane);
  }

  __device__ void step(const Wkv7& p, const ChunkGrid& grid, int32_t n, Shared& shared) {
    const int32_t chunks = grid.chunks(), formed = n - 1;
    if (n < chunks) {
      Rows& rows = shared.rows[n % 2];
      const int key = 2 * lane;
      store<2>(&rows.r[s][key], next.r);
      store<2>(&rows.w[s][key], next.w);
      store<2>(&rows.k[s][key], next.k);
      store<2>(&rows.a[s][key], next.a);
      store<2>(&rows.b[s][key], next.b);
      shared.v[n % 4][s][lane] = next.v;
      load(p, grid, n + 1);
    }
    if (formed >= 0 && formed < chunks) {
      form_row(shared.rows[formed % 2], s, lane, shared.forms[formed % 3],
               shared.products[formed % 2]);
    }
  }
};

// ---- the system for u ----

// Lane c < 8 solves for column c of T and its Q, lane 8 + c for column c of W and its Z: forward
// substitution with the columns of the unit matrix and of ak. All is loaded before anything is
// stored, since the compiler cannot know that they are not the same.
__device__ __forceinline__ void solve(const Products& products, int lane,
                                      float (*solved)[kSolvedPitch]) {
  const auto& [ab, ak, rb, rk] = products;
  const int c = lane % kChunk;
  const bool of_v = lane >= kChunk;
  float x[kChunk], y[kChunk], of_x[kChunk][kChunk], of_y[kChunk][kChunk];
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    x[t] = of_v ? ak[t][c] : t == c ? 1.0f : 0.0f;
    y[t] = of_v ? rk[t][c] : 0.0f;
#pragma unroll
    for (int s = 0; s <= t; s += 4) {
      const Pack<float, 4> b = load<4>(&ab[t][s]), r = load<4>(&rb[t][s]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        of_x[t][s + e] = b.at[e];
        of_y[t][s + e] = r.at[e];
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
#pragma unroll
    for (int s = 0; s < t; ++s) x[t] = fmaf(of_x[t][s], x[s], x[t]);
#pragma unroll
    for (int s = 0; s <= t; ++s) y[t] = fmaf(of_y[t][s], x[s], y[t]);
  }
  float* to = solved[0] + c / 2 * 4 + c % 2 + (of_v ? 2 * kChunk : 0);
#pragma unroll
  for (int t = 0; t < kChunk; ++t, to += kSolvedPitch) {
    const float high_x = tf32_high(x[t]), high_y = tf32_high(y[t]);
    to[0] = high_x;
    to[2] = x[t] - high_x;
    to[4 * kChunk] = high_y;
    to[4 * kChunk + 2] = y[t] - high_y;
  }
}

// ---- the state ----

// Of rows 2 t and 2 t + 1 of B or K.
__device__ __forceinline__ SplitB load_apart(const float* even_row) {
  const Two even = load<2>(even_row), odd = load<2>(even_row + kApartPitch);
  return {{{__float_as_uint(even.at[0]), __float_as_uint(odd.at[0])}},
          {{__float_as_uint(even.at[1]), __float_as_uint(odd.at[1])}}};
}

// change += x (B or K), half of the keys at a time: as many products as hide each other's latency.
__device__ __forceinline__ void add_rows(const SplitA& x, const float* rows,
                                         FragmentC (&change)[kTiles]) {
  constexpr int kHalf = kTiles / 2;
#pragma unroll
  for (int first = 0; first < kTiles; first += kHalf) {
    SplitB right[kHalf];
#pragma unroll
    for (int j = 0; j < kHalf; ++j) right[j] = load_apart(rows + 2 * 8 * (first + j));
    multiply_add(x, right, &change[first]);
  }
}

// The outputs of a chunk for 16 values, of which `value` is this warp's first in the block, and the
// state after it.
__device__ __forceinline__ void advance(const Form& form, const float (*v)[kValuePitch],
                                        const float (*solved)[kSolvedPitch], int value, int lane,
                                        FragmentC (&state)[kTiles], const ChunkGrid& grid,
                                        int32_t chunk, MatrixOut32 out, int64_t out_column) {
  const int g = lane / 4, t = lane % 4;
  SplitSum x, y, u;  // X = S (a P); y, u
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const SplitA s = split(state[j]);
    const int pair = 4 * (4 * j + t);
    x.add_product(s, load_split(&form.a[g][pair]));
    y.add_product(s, load_split(&form.r[g][pair]));
  }
  const SplitA values = split(FragmentC{{v[2 * t][value + g], v[2 * t + 1][value + g],
                                         v[2 * t][value + 8 + g], v[2 * t + 1][value + 8 + g]}});
  const float* mine = solved[g] + 4 * t;
  FragmentC change[kTiles]{};
  u.add_product(values, load_split(mine + 2 * kChunk));
  y.add_product(values, load_split(mine + 6 * kChunk));
  add_rows(values, form.k[2 * t] + 2 * g, change);
  const SplitA from_state = split(x.total());
  u.add_product(from_state, load_split(mine));
  y.add_product(from_state, load_split(mine + 4 * kChunk));
  add_rows(split(u.total()), form.b[2 * t] + 2 * g, change);
  // The state itself is added to outside of tensor cores, which cut off low bits: it lasts.
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const Pack<float, 2> decay = load<2>(&form.decay[8 * j + 2 * t]);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      state[j].at[i] = fmaf(state[j].at[i], decay.at[i % 2], change[j].at[i]);
  }
  const FragmentC outputs = y.total();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!grid.has(chunk, 2 * t + i)) continue;
    float* to = out.row(grid.row(chunk, 2 * t + i)) + out_column + g;
    to[0] = outputs.at[i];
    to[8] = outputs.at[2 + i];
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    wkv7_chunks_kernel(Wkv7 p, Ragged rows, StateRows states, RunLengths lengths, MatrixOut32 out) {
  next_may_start();
  previous_done();
  const int sequence = static_cast<int>(blockIdx.x);
  const Run run = run_of(rows, sequence);
  if (!lengths.hold(run)) return;
  const ChunkGrid grid(run, rows);
  const int64_t head = blockIdx.y, first_key = head * kDim;
  const int64_t first_value = first_key + int64_t{blockIdx.z} * kBlockValues;
  const int32_t chunks = grid.chunks(), steps = chunks + kAhead;
  const int warp = __shfl_sync(kWholeWarp, warp_of_block(), 0), lane = lane_of_warp();
  Shared& s = *shared<Shared>();

  if (warp == kValueWarps + kFormWarps) {
    for (int32_t n = 0; n < steps; ++n) {
      const int32_t chunk = n - 2;
      if (chunk >= 0 && chunk < chunks && lane < 2 * kChunk)
        solve(s.products[chunk % 2], lane, s.solved[chunk % 2]);
      __syncthreads();
    }
    return;
  }
  if (warp >= kValueWarps) {
    Forming forming(p, grid, warp - kValueWarps, first_key, first_value);
    for (int32_t n = 0; n < steps; ++n) {
      forming.step(p, grid, n, s);
      __syncthreads();
    }
    return;
  }
  const int value = warp * kWarpValues, g = lane / 4, t = lane % 4;
  float* bytes = state_of(states, sequence) + (first_value + value + g) * kDim + 2 * t;
  FragmentC state[kTiles];
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Pack<float, 2> x =
          run.fresh ? Pack<float, 2>{} : load<2>(bytes + half * 8 * kDim + j * 8);
      state[j].at[2 * half] = x.at[0];
      state[j].at[2 * half + 1] = x.at[1];
    }
  }
  for (int32_t n = 0; n < steps; ++n) {
    const int32_t chunk = n - kAhead;
    if (chunk >= 0) {
      advance(s.forms[chunk % 3], s.v[chunk % 4], s.solved[chunk % 2], value, lane, state, grid,
              chunk, out, first_value + value);
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store<2>(bytes + half * 8 * kDim + j * 8,
               Pack<float, 2>{{state[j].at[2 * half], state[j].at[2 * half + 1]}});
    }
  }
}

}  // namespace wkv7_chunks
}  // namespace trireme::cuda
