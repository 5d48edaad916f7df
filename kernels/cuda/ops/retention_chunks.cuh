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
// One prompt of 8192 rows, 24 heads of 128, is 96 blocks at once, each a chain of 1024 chunks. What
// a warp waits for, counted from the machine code: 1190 clocks a chunk for the state; 2160 for
// preparing while four warps had two rows each in halves, took both ways of every branch and waited
// for one row of q after the other; 1220 now that a warp does both of its rows without branches:
// 640 to put rows down, load the next ones and take the gates' roots, 580 to form. So 1300 clocks
// or so, 0.7 ms on an H200 instead of 1.2, both by count. Bytes (4 x 100 MB, 0.1 ms; q
// and k are read by four blocks, from the L2) hide behind it.
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
  const float log_gate = fminf(gate, 0.0f) - log1pf(expf(-fabsf(gate)));
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

// What a lane of a preparing warp has of a row: kWide keys in a row, and as many 32 times further
// on.
template <int kDim>
struct LaneKeys {
  static constexpr int kEach = kDim / kWarpSize, kWide = kEach < 4 ? kEach : 4;
  float at[kEach];

  __device__ static int key(int i, int lane) { return i * kWarpSize + lane * kWide; }
  __device__ __forceinline__ void read(const float* row, int lane) {
#pragma unroll
    for (int i = 0; i < kEach; i += kWide) {
      const Pack<float, kWide> x = load<kWide>(row + key(i, lane));
#pragma unroll
      for (int e = 0; e < kWide; ++e) at[i + e] = x.at[e];
    }
  }
  __device__ __forceinline__ void write(float* row, int lane, float scale) const {
#pragma unroll
    for (int i = 0; i < kEach; i += kWide) {
      Pack<float, kWide> x;
#pragma unroll
      for (int e = 0; e < kWide; ++e) x.at[e] = at[i + e] * scale;
      store<kWide>(row + key(i, lane), x);
    }
  }
};

// By one warp: the forms of rows s[0] and s[1], and their columns of the scores. Without branches,
// so that all rows of q are on their way at once: what lies before s is computed, and is nothing.
template <int kDim>
__device__ __forceinline__ void form_rows(const typename Shared<kDim>::Rows& rows,
                                          const int (&s)[2], int lane,
                                          typename Shared<kDim>::Form& form) {
  LaneKeys<kDim> k[2];
  float decays[kChunk], sums[2 * kChunk];
#pragma unroll
  for (int r = 0; r < 2; ++r) k[r].read(rows.k[s[r]], lane);
#pragma unroll
  for (int t = 0; t < kChunk; ++t) {
    decays[t] = rows.decay[t];
    LaneKeys<kDim> q;
    q.read(rows.q[t], lane);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = 0.0f;
#pragma unroll
      for (int e = 0; e < LaneKeys<kDim>::kEach; ++e) sum = fmaf(q.at[e], k[r].at[e], sum);
      sums[r * kChunk + t] = sum;
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float before = 1.0f, after = 1.0f;  // G_s0; G_ts
#pragma unroll
    for (int t = 0; t < kChunk; ++t) {
      before *= t <= s[r] ? decays[t] : 1.0f;
      after *= t > s[r] ? decays[t] : 1.0f;
      sums[r * kChunk + t] = t < s[r] ? 0.0f : sums[r * kChunk + t] * after;
    }
    LaneKeys<kDim> q;
    q.read(rows.q[s[r]], lane);
    q.write(form.q[s[r]], lane, before);
    k[r].write(form.k[s[r]], lane, after);
    if (s[r] == kChunk - 1 && lane == 0) form.decay[0] = before;
  }
  fold_sums<kWarpSize, 2 * kChunk>(sums, lane);
  const int held = lane / 2;  // two lanes that follow each other hold number lane / 2
  if (lane % 2 == 0) form.scores[held % kChunk][held < kChunk ? s[0] : s[1]] = sums[0];
}

// The preparing warps, from chunk to chunk. Warp w has rows w and w + 4.
template <int kDim>
struct Preparing {
  static constexpr int kRows = 2, kBlockValues = Shape<kDim>::kBlockValues;
  static constexpr int kValues = (kBlockValues + kWarpSize - 1) / kWarpSize;
  static_assert(kPrepareWarps * kRows == kChunk);
  int lane, warp;
  int64_t first_key, first_value;  // columns
  int64_t head;
  LaneKeys<kDim> q[kRows], k[kRows];  // of the next chunk
  float v[kRows][kValues];
  float gate;  // of the row whose number is the lane's, modulo 2

  __device__ Preparing(int thread, int64_t h, int64_t first_value_column)
      : lane(thread % kWarpSize),
        warp(
            __shfl_sync(kWholeWarp, thread / kWarpSize, 0)),  // the same for all, as compilers know
        first_key(h * kDim),
        first_value(first_value_column),
        head(h) {}

  __device__ int row_of(int r) const { return warp + r * kPrepareWarps; }

  __device__ void load_rows(const Retention& p, const ChunkGrid& grid, int32_t chunk) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      q[r] = k[r] = {};
#pragma unroll
      for (int i = 0; i < kValues; ++i) v[r][i] = 0.0f;
      if (!grid.has(chunk, row_of(r))) continue;
      const int64_t row = grid.row(chunk, row_of(r));
      q[r].read(p.q.row(row) + first_key, lane);
      k[r].read(p.k.row(row) + first_key, lane);
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        const int value = lane + i * kWarpSize;
        if (value < kBlockValues) v[r][i] = p.v.row(row)[first_value + value];
      }
    }
    const int mine = row_of(lane % kRows);
    gate = grid.has(chunk, mine) ? p.gate.row(grid.row(chunk, mine))[head] : 0.0f;
  }

  __device__ void step(const Retention& p, const ChunkGrid& grid, int32_t n, Shared<kDim>& shared) {
    const int32_t chunks = grid.chunks();
    if (n < chunks) {
      auto& rows = shared.rows[n % 2];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        q[r].write(rows.q[row_of(r)], lane, 1.0f);
        k[r].write(rows.k[row_of(r)], lane, p.k_scale);
#pragma unroll
        for (int i = 0; i < kValues; ++i) {
          const int value = lane + i * kWarpSize;
          if (value < kBlockValues) shared.v[n % 3][row_of(r)][value] = v[r][i];
        }
      }
      // A row that is not of the run changes nothing.
      const int mine = row_of(lane % kRows);
      const float decay = grid.has(n, mine) ? retention_decay(gate, p.gate_normalizer) : 1.0f;
      if (lane < kRows) rows.decay[mine] = decay;
      load_rows(p, grid, n + 1);
    }
    if (n >= 1 && n - 1 < chunks) {
      form_rows<kDim>(shared.rows[(n - 1) % 2], {row_of(0), row_of(1)}, lane,
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
    preparing.load_rows(p, grid, 0);
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
