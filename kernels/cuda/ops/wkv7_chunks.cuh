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
// clocks a chunk, 0.55 ms. Bytes (6 x 134 MB + out: 0.94 GB, 0.22 ms) hide behind it.
//
// Measured: 1465 us, 2500 to 2800 clocks a chunk. What it waited for stands in the machine code, if
// one adds up its stall counts and the latencies that they leave to scoreboards: 1020 clocks a
// chunk for a state warp, 1210 for the warp that solves, but 2200, and 50 branches more, for a warp
// that forms. Which two rows were its own only a lane knew: each t was a tree of branches, whose
// sides were walked one after the other, each with its own loads to wait for. Now each of these
// warps has a program for its own rows, in which halves choose and do not branch: 940, 880, 840 and
// 780 clocks by the same count. Solving puts one number a row and lane instead of two: 700. The
// state warps are the longest again: 0.6 to 0.7 ms, reckoned in this way, not measured.
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
  const bool here = grid.has(chunk, i);
  const int64_t row = grid.row(chunk, i);
  const auto read = [&](const Matrix32& x, int64_t column, bool wanted, float otherwise) {
    if (wanted) return load<4>(x.row(row) + column);
    return Four{{otherwise, otherwise, otherwise, otherwise}};
  };
  return {read(p.r, key, here, 0.0f), read(p.w, key, here, 1.0f),
          read(p.k, key, here, 0.0f), read(p.a, key, here, 0.0f),
          read(p.b, key, here, 0.0f), read(p.v, value, here && has_value, 0.0f)};
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

__device__ __forceinline__ Four choose(bool first, const Four& x, const Four& y) {
  return {{first ? x.at[0] : y.at[0], first ? x.at[1] : y.at[1], first ? x.at[2] : y.at[2],
           first ? x.at[3] : y.at[3]}};
}

// 16 lanes take row kFirst, the others of their warp the one after it: their forms, and their
// columns of the products. The compiler knows which rows lie before and after these two, and the
// halves of a warp differ in what they choose, not in where they go.
template <int kFirst>
__device__ __forceinline__ void form_rows(const Rows& rows, int lane, Form& form,
                                          float (*products)[kChunk][kChunk]) {
  const bool upper = lane >= kPrepareLanes;
  const int s = kFirst + (upper ? 1 : 0), key = 4 * (lane % kPrepareLanes);
  Four b = load<4>(&rows.b[s][key]), k = load<4>(&rows.k[s][key]);
  Four before{{1.0f, 1.0f, 1.0f, 1.0f}};  // P_{s-1}
#pragma unroll
  for (int t = 0; t < kFirst; ++t) before = times(before, load<4>(&rows.w[t][key]));
  const Four last_decay = load<4>(&rows.w[kFirst + 1][key]);
  Four through = times(before, load<4>(&rows.w[kFirst][key]));  // P_s
  before = choose(upper, through, before);
  through = choose(upper, times(through, last_decay), through);
  put_row(&form.a[s][2 * key], times(load<4>(&rows.a[s][key]), before));
  put_row(&form.r[s][2 * key], times(load<4>(&rows.r[s][key]), through));
  if (kFirst == kChunk - 2 && upper) store<4>(&form.decay[key], through);

  float sums[4 * kChunk];  // [t][ab, ak, rb, rk]: rb and rk from row s on, ab and ak after it
#pragma unroll
  for (int i = 0; i < 4 * kFirst + 2; ++i) sums[i] = 0.0f;
  {
    constexpr int kAt = 4 * kFirst;
    const Four r = load<4>(&rows.r[kFirst][key]);
    const float rb = dot(r, b), rk = dot(r, k);
    sums[kAt + 2] = upper ? 0.0f : rb;
    sums[kAt + 3] = upper ? 0.0f : rk;
    const Four a = load<4>(&rows.a[kFirst + 1][key]);
    const float ab = dot(a, b), ak = dot(a, k);
    sums[kAt + 4] = upper ? 0.0f : ab;
    sums[kAt + 5] = upper ? 0.0f : ak;
    b = choose(upper, b, times(b, last_decay));
    k = choose(upper, k, times(k, last_decay));
    const Four next_r = load<4>(&rows.r[kFirst + 1][key]);
    sums[kAt + 6] = dot(next_r, b);
    sums[kAt + 7] = dot(next_r, k);
  }
#pragma unroll
  for (int t = kFirst + 2; t < kChunk; ++t) {
    const Four w = load<4>(&rows.w[t][key]);
    const Four a = load<4>(&rows.a[t][key]), r = load<4>(&rows.r[t][key]);
    sums[4 * t] = dot(a, b);
    sums[4 * t + 1] = dot(a, k);
    b = times(b, w);
    k = times(k, w);
    sums[4 * t + 2] = dot(r, b);
    sums[4 * t + 3] = dot(r, k);
  }
  put_pair(&form.b[kFirst / 2][4 * key], upper, b);
  put_pair(&form.k[kFirst / 2][4 * key], upper, k);
  fold_sums<kPrepareLanes, 4 * kChunk>(sums, lane);
  const int held = lane % kPrepareLanes;  // lane l holds numbers 2 l and 2 l + 1
  products[held % 2 * 2][held / 2][s] = sums[0];
  products[held % 2 * 2 + 1][held / 2][s] = sums[1];
}

// The warps that load and form, from chunk to chunk. Each has a program of its own, for its rows.
template <int kFirst>
struct Forming {
  int s, lane;
  int32_t first_key, first_value;  // columns
  Loaded next;

  __device__ Forming(const Wkv7& p, const ChunkGrid& grid, int lane_, int64_t first_key_column,
                     int64_t first_value_column)
      : s(kFirst + lane_ / kPrepareLanes),
        lane(lane_),
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
      form_rows<kFirst>(shared.rows[formed % 2], lane, shared.forms[formed % 3],
                        shared.products[formed % 2]);
    }
  }

  __device__ static void run(const Wkv7& p, const ChunkGrid& grid, int64_t first_key_column,
                             int64_t first_value_column, Shared& shared) {
    Forming forming(p, grid, lane_of_warp(), first_key_column, first_value_column);
    for (int32_t n = 0; n < grid.chunks() + kAhead; ++n) {
      forming.step(p, grid, n, shared);
      __syncthreads();
    }
  }
};

// ---- the system for u ----

// Lanes c and 16 + c, c < 8, solve for column c of T, lanes 8 + c and 24 + c for column c of W:
// forward substitution with the columns of the unit matrix and of ak. Half of the warp puts that,
// the other what follows from it, Q and Z: all lanes do the same, and choose.
__device__ __forceinline__ void solve(const float (*products)[kChunk][kChunk], int lane,
                                      float (*solved)[kSolvedPitch]) {
  const int c = lane % kChunk;
  const bool of_v = lane / kChunk % 2 != 0, of_y = lane >= 2 * kChunk;
  const auto row = [&](int matrix, int t, int half) {
    return load<4>(&products[matrix][t][half * 4]);
  };
  float x[kChunk], y[kChunk];  // y: rk's or no column to begin with
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    x[t] = of_v ? products[1][t][c] : t == c ? 1.0f : 0.0f;
    y[t] = of_v ? products[3][t][c] : 0.0f;
  }
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    const Four ab[2] = {row(0, t, 0), t > 4 ? row(0, t, 1) : Four{}};
    const Four rb[2] = {row(2, t, 0), t > 3 ? row(2, t, 1) : Four{}};
#pragma unroll
    for (int s = 0; s < t; ++s) {
      x[t] = fmaf(ab[s / 4].at[s % 4], x[s], x[t]);
      y[t] = fmaf(rb[s / 4].at[s % 4], x[s], y[t]);
    }
    y[t] = fmaf(rb[t / 4].at[t % 4], x[t], y[t]);
    const float put = of_y ? y[t] : x[t], high = tf32_high(put);
    float* to = &solved[t][2 * kChunk * ((of_y ? 2 : 0) + (of_v ? 1 : 0)) + c / 2 * 4 + c % 2];
    to[0] = high;
    to[2] = put - high;
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
      if (chunk >= 0 && chunk < chunks) solve(s.products[chunk % 2], lane, s.solved[chunk % 2]);
      __syncthreads();
    }
    return;
  }
  // The first rows of a chunk are the most work. Warps that follow each other belong to the four
  // schedulers in turn: the fourth warp has one for itself, the third's is also the last's.
  switch (warp) {
    case kValueWarps:
      return Forming<6>::run(p, grid, first_key, first_value, s);
    case kValueWarps + 1:
      return Forming<0>::run(p, grid, first_key, first_value, s);
    case kValueWarps + 2:
      return Forming<4>::run(p, grid, first_key, first_value, s);
    case kValueWarps + 3:
      return Forming<2>::run(p, grid, first_key, first_value, s);
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
