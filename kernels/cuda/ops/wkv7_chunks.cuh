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
// chunk are as in device/recurrence_chunks.cuh, by 2 warps with the state, 4 that form the chunk's
// rows, and one that solves. A state warp has 16 values and all keys, as results of tensor cores
// lie: 32 numbers a lane. Its products are tensor cores' in f32 (device/tf32.cuh): the result of
// one is the operand of the next as it is, so that no sum over keys is a shuffle.
//
// Story. The state warps were 4, with 4 keys of 4 values a lane. Measured on an H200, 8192 rows of
// 64 heads took 1716 us, 3000 clocks a chunk, where 700 us had been reckoned. Counted at 32 words a
// clock of shared memory, the state warps' loads and shuffles of a chunk are 1200 clocks and those
// that form and solve 670; a warp alone on its scheduler waits for each. Blocks of 16 values, two a
// multiprocessor, would form every row once more: 670 clocks of what is short already. So the
// state's loads went: a lane now loads 36 times 16 bytes and shuffles nothing, 330 clocks for 2
// warps, 1000 with the others'. Products of tensor cores: 108 of 16 x 8 x 8 a warp and chunk, three
// for each of f32. If Hopper's take 6.5 clocks each, 5/8 of the 256 multiply-adds a clock that a
// quarter of a multiprocessor has, they are 700 clocks, and waiting for u is 100 more. So 1000
// clocks a chunk, 0.55 ms: reckoned, not measured. Bytes (6 x 134 MB + out: 0.94 GB, 0.22 ms) hide
// behind it.
//
// nvcc 13.0: 158 registers (sm_80: 150), no spills, 86,016 bytes of shared memory: one block on a
// multiprocessor (for two, 128 registers spill 3).
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

using Four = Pack<float, 4>;

inline constexpr int kDim = 64;
inline constexpr int kTiles = kDim / 8;  // of 8 keys
inline constexpr int kWarpValues = 16;
inline constexpr int kBlockValues = 2 * kWarpValues;
// The warps of a block, in this order: state, rows, system.
inline constexpr int kValueWarps = kBlockValues / kWarpValues;
inline constexpr int kFormWarps = kChunk * kPrepareLanes / kWarpSize;
inline constexpr int kThreads = (kValueWarps + kFormWarps + 1) * kWarpSize;
inline constexpr int kAhead = 3;  // chunks from loading to the state

// Right operands of products, split (tf32.cuh): of two rows that follow each other on the inner
// index, high parts and low parts, 16 bytes. Pitches let 8 lanes that load them meet all banks.
inline constexpr int kRowPitch = 2 * kDim + 16;       // rows of a P, r P: pairs of keys
inline constexpr int kPairPitch = 4 * kDim + 8;       // pairs of rows of B, K: keys
inline constexpr int kSolvedPitch = 8 * kChunk + 16;  // rows of T, W, Q, Z: pairs of rows each
inline constexpr int kValuePitch = kBlockValues + 4;

struct Rows {  // as they come
  float r[kChunk][kDim], w[kChunk][kDim], k[kChunk][kDim], a[kChunk][kDim], b[kChunk][kDim];
};
struct Form {
  float a[kChunk][kRowPitch], r[kChunk][kRowPitch];            // a_t P_{t-1}, r_t P_t
  float b[kChunk / 2][kPairPitch], k[kChunk / 2][kPairPitch];  // B_s, K_s
  float decay[kDim];                                           // P_8
};
struct Shared {
  Rows rows[2];                           // written at step n, read at n + 1
  Form forms[3];                          // written at n + 1, read at n + 3
  float v[4][kChunk][kValuePitch];        // written at n, read at n + 3
  float products[2][4][kChunk][kChunk];   // ab, ak, rb, rk; written at n + 1, read at n + 2
  float solved[2][kChunk][kSolvedPitch];  // rows of T, W, Q, Z; written at n + 2, read at n + 3
};

__device__ __forceinline__ float dot(const Four& x, const Four& y) {
  float sum = 0.0f;
#pragma unroll
  for (int e = 0; e < 4; ++e) sum = fmaf(x.at[e], y.at[e], sum);
  return sum;
}
__device__ __forceinline__ Four times(const Four& x, const Four& y) {
  Four z;
#pragma unroll
  for (int e = 0; e < 4; ++e) z.at[e] = x.at[e] * y.at[e];
  return z;
}

// ---- the rows of a chunk ----

// What a thread that forms rows has loaded: 4 keys of a row, and for some 4 values.
struct Loaded {
  Four r, w, k, a, b, v;
};

// A row that is not there changes nothing: no decay, and zeros.
__device__ __forceinline__ Loaded load_row(const Wkv7& p, const ChunkGrid& grid, int32_t chunk,
                                           int i, int64_t key, int64_t value, bool has_value) {
  Loaded x{};
#pragma unroll
  for (int e = 0; e < 4; ++e) x.w.at[e] = 1.0f;
  if (!grid.has(chunk, i)) return x;
  const int64_t row = grid.row(chunk, i);
  x.r = load<4>(p.r.row(row) + key);
  x.w = load<4>(p.w.row(row) + key);
  x.k = load<4>(p.k.row(row) + key);
  x.a = load<4>(p.a.row(row) + key);
  x.b = load<4>(p.b.row(row) + key);
  if (has_value) x.v = load<4>(p.v.row(row) + value);
  return x;
}

// 4 keys of a row, as two pairs.
__device__ __forceinline__ void put_row(float* to, const Four& x) {
  store<4>(to, split(x.at[0], x.at[1]));
  store<4>(to + 4, split(x.at[2], x.at[3]));
}

// 4 keys of two rows that follow each other. The upper half of a warp has the second row: halves
// exchange two keys, so that each has both rows for the other two.
__device__ __forceinline__ void put_pair(float* to, bool upper, const Four& x) {
  const float got0 = __shfl_xor_sync(kWholeWarp, upper ? x.at[0] : x.at[2], kPrepareLanes);
  const float got1 = __shfl_xor_sync(kWholeWarp, upper ? x.at[1] : x.at[3], kPrepareLanes);
  to += upper ? 8 : 0;
  store<4>(to, upper ? split(got0, x.at[2]) : split(x.at[0], got0));
  store<4>(to + 4, upper ? split(got1, x.at[3]) : split(x.at[1], got1));
}

// 16 lanes take row s, the others of their warp the one before or after it: its form, and its
// column of the products.
__device__ __forceinline__ void form_rows(const Rows& rows, int s, int lane, Form& form,
                                          float (*products)[kChunk][kChunk]) {
  const bool upper = lane >= kPrepareLanes;
  const int first_row_of_warp = s - (upper ? 1 : 0);
  const int key = 4 * (lane % kPrepareLanes);
  Four before{{1.0f, 1.0f, 1.0f, 1.0f}};  // P_{s-1}
  Four b = load<4>(&rows.b[s][key]), k = load<4>(&rows.k[s][key]);
  float sums[4 * kChunk];  // [t][ab, ak, rb, rk]
#pragma unroll
  for (int i = 0; i < 4 * kChunk; ++i) sums[i] = 0.0f;
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    const Four w = load<4>(&rows.w[t][key]);
    if (t < s) before = times(before, w);
    if (t < first_row_of_warp) continue;
    const Four a = load<4>(&rows.a[t][key]), r = load<4>(&rows.r[t][key]);
    if (t == s) {
      const Four through = times(before, w);
      put_row(&form.a[s][2 * key], times(a, before));
      put_row(&form.r[s][2 * key], times(r, through));
      if (s == kChunk - 1) store<4>(&form.decay[key], through);
    }
    if (t > s) {
      sums[4 * t] = dot(a, b);
      sums[4 * t + 1] = dot(a, k);
      b = times(b, w);
      k = times(k, w);
    }
    if (t >= s) {
      sums[4 * t + 2] = dot(r, b);
      sums[4 * t + 3] = dot(r, k);
    }
  }
  put_pair(&form.b[s / 2][4 * key], upper, b);
  put_pair(&form.k[s / 2][4 * key], upper, k);
  fold_sums<kPrepareLanes, 4 * kChunk>(sums, lane);
  const int held = lane % kPrepareLanes;  // lane l holds numbers 2 l and 2 l + 1
  products[held % 2 * 2][held / 2][s] = sums[0];
  products[held % 2 * 2 + 1][held / 2][s] = sums[1];
}

// The warps that load and form, from chunk to chunk.
struct Forming {
  int s, lane;
  int32_t first_key, first_value;  // columns
  Loaded next;

  __device__ Forming(const Wkv7& p, const ChunkGrid& grid, int thread, int64_t first_key_column,
                     int64_t first_value_column)
      : s(thread / kPrepareLanes),
        lane(thread % kWarpSize),
        first_key(static_cast<int32_t>(first_key_column)),
        first_value(static_cast<int32_t>(first_value_column)) {
    load(p, grid, 0);
  }

  __device__ int quad() const { return 4 * (lane % kPrepareLanes); }
  __device__ void load(const Wkv7& p, const ChunkGrid& grid, int32_t chunk) {
    next = load_row(p, grid, chunk, s, first_key + quad(), first_value + quad(),
                    quad() < kBlockValues);
  }

  __device__ void step(const Wkv7& p, const ChunkGrid& grid, int32_t n, Shared& shared) {
    const int32_t chunks = grid.chunks(), formed = n - 1;
    if (n < chunks) {
      Rows& rows = shared.rows[n % 2];
      const int quad = this->quad();
      store<4>(&rows.r[s][quad], next.r);
      store<4>(&rows.w[s][quad], next.w);
      store<4>(&rows.k[s][quad], next.k);
      store<4>(&rows.a[s][quad], next.a);
      store<4>(&rows.b[s][quad], next.b);
      if (quad < kBlockValues) store<4>(&shared.v[n % 4][s][quad], next.v);
      load(p, grid, n + 1);
    }
    if (formed >= 0 && formed < chunks) {
      form_rows(shared.rows[formed % 2], s, lane, shared.forms[formed % 3],
                shared.products[formed % 2]);
    }
  }
};

// ---- the system for u ----

// Lane c < 8 solves for column c of T and its Q, lane 8 + c for column c of W and its Z: forward
// substitution with the columns of the unit matrix and of ak.
__device__ __forceinline__ void solve(const float (*products)[kChunk][kChunk], int lane,
                                      float (*solved)[kSolvedPitch]) {
  const auto& ab = products[0];
  const auto& ak = products[1];
  const auto& rb = products[2];
  const auto& rk = products[3];
  const int c = lane % kChunk;
  const bool of_v = lane >= kChunk;
  const auto put = [&](int t, int matrix, float x) {
    float* to = &solved[t][2 * kChunk * matrix + c / 2 * 4 + c % 2];
    const float high = tf32_high(x);
    to[0] = high;
    to[2] = x - high;
  };
  float x[kChunk];
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    x[t] = of_v ? ak[t][c] : t == c ? 1.0f : 0.0f;
#pragma unroll
    for (int s = 0; s < t; ++s) x[t] = fmaf(ab[t][s], x[s], x[t]);
    put(t, of_v ? 1 : 0, x[t]);
  }
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    float y = of_v ? rk[t][c] : 0.0f;
#pragma unroll
    for (int s = 0; s <= t; ++s) y = fmaf(rb[t][s], x[s], y);
    put(t, of_v ? 3 : 2, y);
  }
}

// ---- the state ----

// change += x (B or K), half of the keys at a time: as many products as hide each other's latency.
__device__ __forceinline__ void add_rows(const SplitA& x, const float* rows,
                                         FragmentC (&change)[kTiles]) {
  constexpr int kHalf = kTiles / 2;
#pragma unroll
  for (int first = 0; first < kTiles; first += kHalf) {
    SplitB right[kHalf];
#pragma unroll
    for (int j = 0; j < kHalf; ++j) right[j] = load_split(rows + 4 * 8 * (first + j));
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
  add_rows(values, form.k[t] + 4 * g, change);
  const SplitA from_state = split(x.total());
  u.add_product(from_state, load_split(mine));
  y.add_product(from_state, load_split(mine + 4 * kChunk));
  add_rows(split(u.total()), form.b[t] + 4 * g, change);
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
  const int warp = warp_of_block(), lane = lane_of_warp();
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
    Forming forming(p, grid, static_cast<int>(threadIdx.x) - kValueWarps * kWarpSize, first_key,
                    first_value);
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
