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
// Grid (sequences, heads, 2): a block takes 32 values of a head, 256 threads; see
// device/recurrence_chunks.cuh. A thread of the state warps has 4 keys of 4 values.
//
// Counted per 8 rows and 32 values of a head: the products with the state are 65 K multiply-adds,
// for a P, r P, u B and v K; those of rows with each other 9 K and 4 K multiplications, done by
// both blocks of a head; T, W, Q, Z and what they multiply 2 K. Row by row it would be 82 K: the
// form does not save arithmetic but time, since S a, a sum over keys that the next row waits for,
// comes once in 8 rows. Chunks of 16 make twice as many products among rows, 12 % more in all, and
// save half of the barriers; chunks of 64 are for tensor cores, whose sums of tf32 or bf16 are not
// f32's. Shared memory: for a row a state thread reads 16 floats for 64 multiply-adds, 4 of v and 4
// of the matrices, and shuffles 13.5: at 32 words a clock the 4 warps take 150 clocks a row; a
// scheduler issues about 107 instructions for a state warp and 50 for a preparing one. Expected on
// an H200 (132 multiprocessors, 1.9 GHz), one prompt of 8192 rows, 64 heads: 128 blocks at once,
// 8192 x 155 clocks = 0.7 ms, 7 % of the 9.3 ms that a layer of the 7.2B model takes at half of the
// bf16 rate. Bytes (6 x 134 MB + out: 0.94 GB, 0.22 ms) hide behind it.
//
// nvcc 13.0: 126 registers (sm_80: 128), no spills, 54,272 bytes of shared memory: two blocks fit.
#pragma once

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/recurrence_chunks.cuh"
#include "kernels/cuda/device/runs.cuh"

namespace trireme::cuda {

struct Wkv7 {
  Matrix32 r, w, k, v, a, b;
  int32_t heads, head_dim;
};

namespace wkv7_chunks {

using Four = Pack<float, 4>;

inline constexpr int kDim = 64;
inline constexpr int kKeyLanes = kDim / 4;  // of a state row, each with 4 keys
inline constexpr int kWarpValues = 2 * 4;   // two groups of kKeyLanes lanes, 4 values each
inline constexpr int kBlockValues = kStateWarps * kWarpValues;
inline constexpr int kSlices = kDim / kBlockValues;
inline constexpr int kAhead = 3;                     // chunks from loading to the state
inline constexpr int kSolvedPitch = 4 * kChunk + 4;  // lanes read rows of it at once

struct Rows {  // as they come
  float r[kChunk][kDim], w[kChunk][kDim], k[kChunk][kDim], a[kChunk][kDim], b[kChunk][kDim];
};
struct Form {
  float a[kChunk][kDim], r[kChunk][kDim];  // a_t P_{t-1}, r_t P_t
  float b[kChunk][kDim], k[kChunk][kDim];  // B_s, K_s
  float decay[kDim];                       // P_8
};
struct Shared {
  Rows rows[2];                           // written at step n, read at n + 1
  Form forms[3];                          // written at n + 1, read at n + 3
  float v[4][kChunk][kBlockValues];       // written at n, read at n + 3
  float products[2][4][kChunk][kChunk];   // ab, ak, rb, rk; written at n + 1, read at n + 2
  float solved[2][kChunk][kSolvedPitch];  // rows of T, W, Q, Z; written at n + 2, read at n + 3
};

// What a preparing thread has loaded: 4 keys of a row, and for some 4 values.
struct Loaded {
  Four r, w, k, a, b, v;
};

// A row that changes nothing: no decay, and zeros.
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

__device__ __forceinline__ float dot(const Four& x, const Four& y, float sum) {
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

// 16 lanes take row s: its form, and its column of the products.
__device__ __forceinline__ void form_rows(const Rows& rows, int s, int first_row_of_warp, int lane,
                                          Form& form, float (*products)[kChunk][kChunk]) {
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
      store<4>(&form.a[s][key], times(a, before));
      store<4>(&form.r[s][key], times(r, through));
      if (s == kChunk - 1) store<4>(&form.decay[key], through);
    }
    if (t > s) {
      sums[4 * t] = dot(a, b, 0.0f);
      sums[4 * t + 1] = dot(a, k, 0.0f);
      b = times(b, w);
      k = times(k, w);
    }
    if (t >= s) {
      sums[4 * t + 2] = dot(r, b, 0.0f);
      sums[4 * t + 3] = dot(r, k, 0.0f);
    }
  }
  store<4>(&form.b[s][key], b);
  store<4>(&form.k[s][key], k);
  fold_sums<kPrepareLanes, 4 * kChunk>(sums, lane);
  const int held = lane % kPrepareLanes;  // lane l holds numbers 2 l and 2 l + 1
  products[held % 2 * 2][held / 2][s] = sums[0];
  products[held % 2 * 2 + 1][held / 2][s] = sums[1];
}

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
  float x[kChunk];
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    x[t] = of_v ? ak[t][c] : t == c ? 1.0f : 0.0f;
#pragma unroll
    for (int s = 0; s < t; ++s) x[t] = fmaf(ab[t][s], x[s], x[t]);
    solved[t][lane] = x[t];
  }
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    float y = of_v ? rk[t][c] : 0.0f;
#pragma unroll
    for (int s = 0; s <= t; ++s) y = fmaf(rb[t][s], x[s], y);
    solved[t][2 * kChunk + lane] = y;
  }
}

// 4 values' outputs of a chunk to `out`, [8] rows of which some exist, and the state after it.
// `value`: the first value of this thread's in the block.
__device__ __forceinline__ void advance(const Form& form, const float (*v)[kBlockValues],
                                        const float (*solved)[kSolvedPitch], int value, int lane,
                                        Four (&state)[4], const ChunkGrid& grid, int32_t chunk,
                                        MatrixOut32 out, int64_t out_column) {
  const int key = 4 * (lane % kKeyLanes);
  // A lane will have one row of two values, and takes the rows in an order that begins with it.
  const int t = lane % kKeyLanes / 2, pair = lane % 2;
  float sums[kChunk * 8];  // [row][pair][X of 2 values, S (r P) of 2 values]
#pragma unroll
  for (int n = 0; n < kChunk; ++n) {
    const Four a = load<4>(&form.a[n ^ t][key]), r = load<4>(&form.r[n ^ t][key]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float* to = sums + n * 8 + i / 2 * 4 + i % 2;
      to[0] = dot(state[i], a, 0.0f);
      to[2] = dot(state[i], r, 0.0f);
    }
  }
  fold_turned<kKeyLanes, 2, kChunk * 8>(sums);
  fold_sums<2, 8>(sums, lane);
  const float x0 = sums[0], x1 = sums[1];
  float u0 = 0.0f, u1 = 0.0f, y0 = sums[2], y1 = sums[3];
  Four values[kChunk];
#pragma unroll
  for (int s = 0; s < kChunk; ++s) values[s] = load<4>(&v[s][value]);
#pragma unroll
  for (int s = 0; s < kChunk; s += 4) {
    const Four from_x = load<4>(&solved[t][s]), from_v = load<4>(&solved[t][kChunk + s]);
    const Four y_from_x = load<4>(&solved[t][2 * kChunk + s]);
    const Four y_from_v = load<4>(&solved[t][3 * kChunk + s]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const Four& all = values[s + e];
      const float xs0 = __shfl_sync(kWholeWarp, x0, 2 * (s + e) + pair, kKeyLanes);
      const float xs1 = __shfl_sync(kWholeWarp, x1, 2 * (s + e) + pair, kKeyLanes);
      const float v0 = pair != 0 ? all.at[2] : all.at[0], v1 = pair != 0 ? all.at[3] : all.at[1];
      u0 = fmaf(from_x.at[e], xs0, fmaf(from_v.at[e], v0, u0));
      u1 = fmaf(from_x.at[e], xs1, fmaf(from_v.at[e], v1, u1));
      y0 = fmaf(y_from_x.at[e], xs0, fmaf(y_from_v.at[e], v0, y0));
      y1 = fmaf(y_from_x.at[e], xs1, fmaf(y_from_v.at[e], v1, y1));
    }
  }
  if (grid.has(chunk, t))
    store<2>(out.row(grid.row(chunk, t)) + out_column + 2 * pair, Pack<float, 2>{{y0, y1}});

  const Four decay = load<4>(&form.decay[key]);
#pragma unroll
  for (int i = 0; i < 4; ++i) state[i] = times(state[i], decay);
#pragma unroll
  for (int s = 0; s < kChunk; ++s) {
    const Four b = load<4>(&form.b[s][key]), k = load<4>(&form.k[s][key]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float u = __shfl_sync(kWholeWarp, i % 2 == 0 ? u0 : u1, 2 * s + i / 2, kKeyLanes);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        state[i].at[e] = fmaf(u, b.at[e], fmaf(values[s].at[i], k.at[e], state[i].at[e]));
    }
  }
}

// The preparing warps, from chunk to chunk.
struct Preparing {
  int s, lane, warp;
  int64_t key, value;  // columns
  bool has_value;
  Loaded next;

  __device__ Preparing(const Wkv7& p, const ChunkGrid& grid, int thread, int64_t first_key,
                       int64_t first_value)
      : s(thread / kPrepareLanes), lane(thread % kWarpSize), warp(thread / kWarpSize) {
    const int quad = 4 * (thread % kPrepareLanes);
    key = first_key + quad;
    value = first_value + quad;
    has_value = quad < kBlockValues;
    next = load_row(p, grid, 0, s, key, value, has_value);
  }

  __device__ void step(const Wkv7& p, const ChunkGrid& grid, int32_t n, Shared& shared) {
    const int32_t chunks = grid.chunks();
    if (n < chunks) {
      const int quad = 4 * (lane % kPrepareLanes);
      Rows& rows = shared.rows[n % 2];
      store<4>(&rows.r[s][quad], next.r);
      store<4>(&rows.w[s][quad], next.w);
      store<4>(&rows.k[s][quad], next.k);
      store<4>(&rows.a[s][quad], next.a);
      store<4>(&rows.b[s][quad], next.b);
      if (has_value) store<4>(&shared.v[n % 4][s][quad], next.v);
      next = load_row(p, grid, n + 1, s, key, value, has_value);
    }
    const int32_t formed = n - 1, solvable = n - 2;
    if (formed >= 0 && formed < chunks) {
      form_rows(shared.rows[formed % 2], s, warp * kWarpSize / kPrepareLanes, lane,
                shared.forms[formed % 3], shared.products[formed % 2]);
    }
    // By the warp that has the fewest products to form.
    if (warp == kPrepareWarps - 1 && lane < 2 * kChunk && solvable >= 0 && solvable < chunks)
      solve(shared.products[solvable % 2], lane, shared.solved[solvable % 2]);
  }
};

__global__ void __launch_bounds__(kChunkThreads, 2)
    wkv7_chunks_kernel(Wkv7 p, Ragged rows, StateRows states, RunLengths lengths, MatrixOut32 out) {
  next_may_start();
  previous_done();
  const int sequence = static_cast<int>(blockIdx.x);
  const Run run = run_of(rows, sequence);
  if (!lengths.hold(run)) return;
  const ChunkGrid grid(run, rows);
  const int64_t head = blockIdx.y, first_key = head * kDim;
  const int64_t first_value = first_key + int64_t{blockIdx.z} * kBlockValues;
  const int32_t steps = grid.chunks() + kAhead;
  const auto thread = static_cast<int>(threadIdx.x);
  Shared& s = *shared<Shared>();

  if (thread >= kStateWarps * kWarpSize) {
    Preparing preparing(p, grid, thread - kStateWarps * kWarpSize, first_key, first_value);
    for (int32_t n = 0; n < steps; ++n) {
      preparing.step(p, grid, n, s);
      __syncthreads();
    }
    return;
  }
  const int lane = thread % kWarpSize;
  const int value = thread / kWarpSize * kWarpValues + lane / kKeyLanes * 4;  // in the block
  float* bytes = state_of(states, sequence) + (first_value + value) * kDim + 4 * (lane % kKeyLanes);
  Four state[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) state[i] = run.fresh ? Four{} : load<4>(bytes + i * kDim);
  for (int32_t n = 0; n < steps; ++n) {
    const int32_t chunk = n - kAhead;
    if (chunk >= 0) {
      advance(s.forms[chunk % 3], s.v[chunk % 4], s.solved[chunk % 2], value, lane, state, grid,
              chunk, out, first_value + value);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) store<4>(bytes + i * kDim, state[i]);
}

}  // namespace wkv7_chunks
}  // namespace trireme::cuda
