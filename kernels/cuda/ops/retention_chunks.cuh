// Gated retention for long runs of heads of 64, 128 or 256, in chunks of 8 rows. With g_t the decay
// of row t, G_ts = g_{s+1} .. g_t, and the state S before a chunk (keys x values):
//
//   y_t = (q_t G_t0)^T S + sum_{s<=t} (q_t . k_s) k_scale G_ts v_s
//   S'  = G_80 S + sum_s (k_s k_scale G_8s) v_s^T
//
// G is a product of what lies between two rows: nothing is divided, and a decay too small for a
// float is 0, as it should be.
//
// Grid (sequences, heads, dim / values of a block), 256 threads; see
// device/recurrence_chunks.cuh. A thread of the state warps has kKeysEach keys of kValuesEach
// values, 32 numbers: 4 x 8, or 8 x 4 in heads of 256.
//
// Counted per 8 rows and head of 128: the products with the state are 8 x 2 x 16 K = 262 K
// multiply-adds, those of rows with each other 5 K in each of 4 blocks, with v 5 K. Row by row it
// would be 393 K. Chunks of 64, the usual form, would have 33 K for scores in each block and 33 K
// for what they weigh: where sums are f32, longer chunks only add to the arithmetic.
// Shared memory: for a row a state thread reads 8 floats for 64 multiply-adds, 8 of v, 4 of scores
// and what they weigh, and shuffles 8: 4 warps take 110 clocks of the 32 words a clock.
// Expected on an H200 (132 multiprocessors, 1.9 GHz), one prompt of 8192 rows, 24 heads of 128: 96
// blocks at once; for a row a scheduler issues about 95 instructions for a state warp and 25 for a
// preparing one: 0.5 ms, 10 % of the 5 ms of a layer of YOCO-3B at half of the bf16 rate. Bytes
// (4 x 100 MB, 0.1 ms; q and k are read by four blocks, from the L2) hide behind it.
//
// nvcc 13.0: 128 registers, no spills; 23,136, 36,448 or 67,680 bytes of shared memory: two blocks
// fit.
#pragma once

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/recurrence_chunks.cuh"
#include "kernels/cuda/device/runs.cuh"

namespace trireme::cuda {

struct Retention {
  Matrix32 q, k, v, gate;
  int32_t heads, head_dim;
  float gate_normalizer, k_scale;
};

// What a row leaves of the state: sigmoid(gate)^(1 / normalizer), also where sigmoid(gate) is too
// small for its logarithm.
__device__ __forceinline__ float retention_decay(float gate, float normalizer) {
  const float log_gate = gate < 0.0f ? gate - log1pf(expf(gate)) : -log1pf(expf(-gate));
  return expf(log_gate / normalizer);
}

namespace retention_chunks {

using Four = Pack<float, 4>;

template <int kDim>
struct Shape {
  static constexpr int kKeysEach = kDim <= 128 ? 4 : kDim / 32;
  static constexpr int kValuesEach = 32 / kKeysEach;
  static constexpr int kKeyLanes = kDim / kKeysEach;
  static constexpr int kWarpValues = kWarpSize / kKeyLanes * kValuesEach;
  static constexpr int kBlockValues = kStateWarps * kWarpValues;
  static constexpr int kPieces = kDim / (4 * kPrepareLanes);  // of 4 keys, of a preparing thread
  // After the fold over keys a lane holds kHeld values of one row.
  static constexpr int kHeld = kChunk * kValuesEach / kKeyLanes;
};

inline constexpr int kAhead = 2;  // chunks from loading to the state

template <int kDim>
struct Shared {
  struct Rows {  // as they come, k with its scale
    float q[kChunk][kDim], k[kChunk][kDim], decay[kChunk];
  };
  struct Form {
    float q[kChunk][kDim], k[kChunk][kDim];  // q_t G_t0, k_s G_8s
    float scores[kChunk][kChunk];            // [t][s]: (q_t . k_s) G_ts, 0 for s > t
    float decay[4];                          // G_80
  };
  Rows rows[2];                                   // written at step n, read at n + 1
  Form forms[2];                                  // written at n + 1, read at n + 2
  float v[3][kChunk][Shape<kDim>::kBlockValues];  // written at n, read at n + 2
};

__device__ __forceinline__ Four scaled(Four x, float scale) {
#pragma unroll
  for (int e = 0; e < 4; ++e) x.at[e] *= scale;
  return x;
}

// 16 lanes take row s: its form, and its column of the scores.
template <int kDim>
__device__ __forceinline__ void form_rows(const typename Shared<kDim>::Rows& rows, int s,
                                          int first_row_of_warp, int lane,
                                          typename Shared<kDim>::Form& form) {
  constexpr int kPieces = Shape<kDim>::kPieces;
  const int key = 4 * (lane % kPrepareLanes);
  Four k[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) k[i] = load<4>(&rows.k[s][key + i * 4 * kPrepareLanes]);
  float before = 1.0f, after = 1.0f;  // G_s0; G_ts for the t at hand
  float sums[kChunk];
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    sums[t] = 0.0f;
    const float decay = rows.decay[t];
    if (t <= s) before *= decay;
    if (t > s) after *= decay;
    if (t < first_row_of_warp) continue;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const Four q = load<4>(&rows.q[t][key + i * 4 * kPrepareLanes]);
      if (t == s) store<4>(&form.q[s][key + i * 4 * kPrepareLanes], scaled(q, before));
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[t] = fmaf(q.at[e], k[i].at[e], sums[t]);
    }
    sums[t] = t < s ? 0.0f : sums[t] * after;
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
    store<4>(&form.k[s][key + i * 4 * kPrepareLanes], scaled(k[i], after));
  if (s == kChunk - 1 && key == 0) form.decay[0] = before;
  fold_sums<kPrepareLanes, kChunk>(sums, lane);
  const int held = lane % kPrepareLanes;  // lanes 2 t and 2 t + 1 hold number t
  if (held % 2 == 0) form.scores[held / 2][s] = sums[0];
}

// The preparing warps, from chunk to chunk.
template <int kDim>
struct Preparing {
  static constexpr int kPieces = Shape<kDim>::kPieces;
  int s, lane, warp;
  int64_t key, value;  // columns
  int64_t head;
  bool has_value;
  Four q[kPieces], k[kPieces], v;  // of the next chunk
  float gate;

  __device__ Preparing(int thread, int64_t h, int64_t first_value)
      : s(thread / kPrepareLanes),
        lane(thread % kWarpSize),
        warp(thread / kWarpSize),
        key(h * kDim + 4 * (thread % kPrepareLanes)),
        value(first_value + 4 * (thread % kPrepareLanes)),
        head(h),
        has_value(4 * (thread % kPrepareLanes) < Shape<kDim>::kBlockValues) {}

  __device__ void load_row(const Retention& p, const ChunkGrid& grid, int32_t chunk) {
    v = Four{};
    gate = 0.0f;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) q[i] = k[i] = Four{};
    if (!grid.has(chunk, s)) return;
    const int64_t row = grid.row(chunk, s);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      q[i] = load<4>(p.q.row(row) + key + i * 4 * kPrepareLanes);
      k[i] = load<4>(p.k.row(row) + key + i * 4 * kPrepareLanes);
    }
    if (has_value) v = load<4>(p.v.row(row) + value);
    gate = p.gate.row(row)[head];
  }

  __device__ void step(const Retention& p, const ChunkGrid& grid, int32_t n, Shared<kDim>& shared) {
    const int32_t chunks = grid.chunks();
    if (n < chunks) {
      const int quad = 4 * (lane % kPrepareLanes);
      auto& rows = shared.rows[n % 2];
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        store<4>(&rows.q[s][quad + i * 4 * kPrepareLanes], q[i]);
        store<4>(&rows.k[s][quad + i * 4 * kPrepareLanes], scaled(k[i], p.k_scale));
      }
      if (has_value) store<4>(&shared.v[n % 3][s][quad], v);
      // A row that is not of the run changes nothing.
      if (quad == 0)
        rows.decay[s] = grid.has(n, s) ? retention_decay(gate, p.gate_normalizer) : 1.0f;
      load_row(p, grid, n + 1);
    }
    if (n >= 1 && n - 1 < chunks) {
      form_rows<kDim>(shared.rows[(n - 1) % 2], s, warp * kWarpSize / kPrepareLanes, lane,
                      shared.forms[(n - 1) % 2]);
    }
  }
};

// A thread's part of the state: 4 keys in a row, then the 4 that are 4 * kKeyLanes further on.
template <int kDim>
struct StateTile {
  using S = Shape<kDim>;
  float at[S::kKeysEach][S::kValuesEach];

  __device__ static int key(int i, int lane) {
    return i / 4 * 4 * S::kKeyLanes + 4 * (lane % S::kKeyLanes) + i % 4;
  }
  // `state`: the first of the thread's values, of key 0.
  __device__ void read(const float* state, int lane, bool fresh) {
#pragma unroll
    for (int i = 0; i < S::kKeysEach; ++i) {
#pragma unroll
      for (int j = 0; j < S::kValuesEach; j += 4) {
        const Four x = fresh ? Four{} : load<4>(state + int64_t{key(i, lane)} * kDim + j);
#pragma unroll
        for (int e = 0; e < 4; ++e) at[i][j + e] = x.at[e];
      }
    }
  }
  __device__ void write(float* state, int lane) const {
#pragma unroll
    for (int i = 0; i < S::kKeysEach; ++i) {
#pragma unroll
      for (int j = 0; j < S::kValuesEach; j += 4) {
        store<4>(state + int64_t{key(i, lane)} * kDim + j,
                 Four{{at[i][j], at[i][j + 1], at[i][j + 2], at[i][j + 3]}});
      }
    }
  }

  // sums[n * kValuesEach + j] = sum over this thread's keys of q[n ^ turn][key] state[key][j].
  __device__ void query(const float (*q)[kDim], int turn, int lane, float* sums) const {
#pragma unroll
    for (int n = 0; n < kChunk; ++n) {
#pragma unroll
      for (int j = 0; j < S::kValuesEach; ++j) sums[n * S::kValuesEach + j] = 0.0f;
#pragma unroll
      for (int i = 0; i < S::kKeysEach; i += 4) {
        const Four x = load<4>(&q[n ^ turn][key(i, lane)]);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int j = 0; j < S::kValuesEach; ++j) {
            float& sum = sums[n * S::kValuesEach + j];
            sum = fmaf(x.at[e], at[i + e][j], sum);
          }
        }
      }
    }
  }

  // state = decay state + sum_s k[s][key] v[s][value]; `v`: the thread's values of row 0.
  __device__ void update(const float (*k)[kDim], const float* v, float decay, int lane) {
#pragma unroll
    for (int i = 0; i < S::kKeysEach; ++i) {
#pragma unroll
      for (int j = 0; j < S::kValuesEach; ++j) at[i][j] *= decay;
    }
#pragma unroll
    for (int s = 0; s < kChunk; ++s) {
      Four value[S::kValuesEach / 4];
#pragma unroll
      for (int j = 0; j < S::kValuesEach; j += 4)
        value[j / 4] = load<4>(v + s * S::kBlockValues + j);
#pragma unroll
      for (int i = 0; i < S::kKeysEach; i += 4) {
        const Four x = load<4>(&k[s][key(i, lane)]);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int j = 0; j < S::kValuesEach; ++j)
            at[i + e][j] = fmaf(x.at[e], value[j / 4].at[j % 4], at[i + e][j]);
        }
      }
    }
  }
};

// A chunk's outputs, and the state after it. `value`: the thread's first value in the block, whose
// column in `out` is `column`.
template <int kDim>
__device__ __forceinline__ void advance(const typename Shared<kDim>::Form& form,
                                        const float (*v)[Shape<kDim>::kBlockValues], int value,
                                        int lane, StateTile<kDim>& state, const ChunkGrid& grid,
                                        int32_t chunk, MatrixOut32 out, int64_t column) {
  using S = Shape<kDim>;
  // A lane will have some values of row t, and takes the rows in an order that begins with it.
  constexpr int kRowLanes = S::kKeyLanes / kChunk;
  const int t = lane % S::kKeyLanes / kRowLanes, j = lane % kRowLanes * S::kHeld;
  float sums[kChunk * S::kValuesEach];
  state.query(form.q, t, lane, sums);
  fold_turned<S::kKeyLanes, kRowLanes, kChunk * S::kValuesEach>(sums);
  fold_sums<kRowLanes, S::kValuesEach>(sums, lane);
  Pack<float, S::kHeld> y;
#pragma unroll
  for (int h = 0; h < S::kHeld; ++h) y.at[h] = sums[h];
#pragma unroll
  for (int s = 0; s < kChunk; ++s) {
    const float score = form.scores[t][s];
    const Pack<float, S::kHeld> x = load<S::kHeld>(&v[s][value + j]);
#pragma unroll
    for (int h = 0; h < S::kHeld; ++h) y.at[h] = fmaf(score, x.at[h], y.at[h]);
  }
  if (grid.has(chunk, t)) store<S::kHeld>(out.row(grid.row(chunk, t)) + column + j, y);
  state.update(form.k, &v[0][value], form.decay[0], lane);
}

template <int kDim>
__global__ void __launch_bounds__(kChunkThreads, 2)
    retention_chunks_kernel(Retention p, Ragged rows, StateRows states, RunLengths lengths,
                            MatrixOut32 out) {
  next_may_start();
  previous_done();
  using S = Shape<kDim>;
  const int sequence = static_cast<int>(blockIdx.x);
  const Run run = run_of(rows, sequence);
  if (!lengths.hold(run)) return;
  const ChunkGrid grid(run, rows);
  const int64_t head = blockIdx.y;
  const int64_t first_value = int64_t{blockIdx.z} * S::kBlockValues;  // in the head
  const int32_t steps = grid.chunks() + kAhead;
  const auto thread = static_cast<int>(threadIdx.x);
  auto& s = *shared<Shared<kDim>>();

  if (thread >= kStateWarps * kWarpSize) {
    Preparing<kDim> preparing(thread - kStateWarps * kWarpSize, head, head * kDim + first_value);
    preparing.load_row(p, grid, 0);
    for (int32_t n = 0; n < steps; ++n) {
      preparing.step(p, grid, n, s);
      __syncthreads();
    }
    return;
  }
  const int lane = thread % kWarpSize;
  const int value =
      thread / kWarpSize * S::kWarpValues + lane / S::kKeyLanes * S::kValuesEach;  // in the block
  float* bytes = state_of(states, sequence) + head * kDim * kDim + first_value + value;
  StateTile<kDim> state;
  state.read(bytes, lane, run.fresh);
  for (int32_t n = 0; n < steps; ++n) {
    const int32_t chunk = n - kAhead;
    if (chunk >= 0) {
      advance<kDim>(s.forms[chunk % 2], s.v[chunk % 3], value, lane, state, grid, chunk, out,
                    head * kDim + first_value + value);
    }
    __syncthreads();
  }
  state.write(bytes, lane);
}

}  // namespace retention_chunks
}  // namespace trireme::cuda
