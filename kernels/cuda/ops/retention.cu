// Gated retention: a matrix of keys and values per head, which decays by one gate a row. Heads of
// 64, 128 and 256 whose rows are aligned: short runs and decode here, long runs in
// retention_chunks.cuh. All others take the plain kernel, which the others are checked against.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/retention_chunks.cuh"

namespace trireme::cuda {
namespace {

constexpr int kHeadDimMax = 256;

// Heads of any size: a block keeps 32 values of a head's state. A lane has one value, a warp every
// eighth key. What the warps add up to a row's output meets in shared memory.
constexpr int kRetentionWarps = 8;
constexpr int kKeysEach = kHeadDimMax / kRetentionWarps;

__global__ void retention_kernel(Retention p, Ragged rows, StateRows states, MatrixOut32 out) {
  next_may_start();
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int value = static_cast<int>(blockIdx.z) * kWarpSize + lane;
  const int dim = p.head_dim;
  const Run run = run_of(rows, sequence);
  previous_done();
  if (run.rows <= 0) return;
  float* sums = shared<float>();  // [2][kRetentionWarps][32]: of this row and the one before
  float* state = state_of(states, sequence) + head * dim * dim;
  float s[kKeysEach];
#pragma unroll
  for (int i = 0; i < kKeysEach; ++i) {
    const int key = warp + i * kRetentionWarps;
    s[i] = key < dim && value < dim && !run.fresh ? state[int64_t{key} * dim + value] : 0.0f;
  }
  for (int32_t t = run.first_row; t < run.first_row + run.rows; ++t) {
    const int64_t first = head * dim;
    const float gamma = retention_decay(p.gate.row(t)[head], p.gate_normalizer);
    const float *q = p.q.row(t) + first, *k = p.k.row(t) + first;
    const float v = value < dim ? p.v.row(t)[first + value] * p.k_scale : 0.0f;
    float y = 0.0f;
#pragma unroll
    for (int i = 0; i < kKeysEach; ++i) {
      const int key = warp + i * kRetentionWarps;
      if (key >= dim) continue;
      s[i] = fmaf(gamma, s[i], k[key] * v);
      y = fmaf(q[key], s[i], y);
    }
    float* mine = sums + (t - run.first_row) % 2 * kRetentionWarps * kWarpSize;
    mine[warp * kWarpSize + lane] = y;
    __syncthreads();
    if (warp == 0 && value < dim) {
      float total = 0.0f;
      for (int i = 0; i < kRetentionWarps; ++i) total += mine[i * kWarpSize + lane];
      out.row(t)[first + value] = total;
    }
  }
#pragma unroll
  for (int i = 0; i < kKeysEach; ++i) {
    const int key = warp + i * kRetentionWarps;
    if (key < dim && value < dim) state[int64_t{key} * dim + value] = s[i];
  }
}

// ---- heads of 64, 128 and 256, row by row ----
//
//   S = gamma S + (k * k_scale) v^T;  out = q^T S       S: [keys][values]
//
// Grid (sequences, heads, dim / 32): a block of 256 threads takes 32 values of a head, a thread 4
// of them and every 32nd key, so that a state is read and written once, 128 bytes of a key at a
// time, and each thread has 2, 4 or 8 loads of 16 bytes in flight. Sums over keys: two shuffles
// over a warp's four, then shared memory over the warps.
//
// Expected on an H200 (4.3 TB/s), 24 heads of 128: one sequence has 1.5 MB of state a layer, 0.7 us
// of bandwidth, so that latency decides: all 96 blocks at once, 2 to 3 us. 64 sequences: 2 x 96 MB,
// 45 us.
//
// nvcc 13.0: 38, 51 and 74 registers, no spills.
namespace by_row {

using Four = Pack<float, 4>;

constexpr int kThreads = 256, kBlockValues = 32;
constexpr int kWarps = kThreads / kWarpSize, kQuads = kBlockValues / 4;
constexpr int kKeyStep = kThreads / kQuads;  // keys that the threads take at a time

template <int kDim>
__global__ void __launch_bounds__(kThreads)
    retention_rows_kernel(Retention p, Ragged rows, StateRows states, RunLengths lengths,
                          MatrixOut32 out) {
  next_may_start();
  constexpr int kKeysEach = kDim / kKeyStep;
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y, first = head * kDim;
  float* bytes = state_of(states, sequence);  // on its way while run_of() waits
  const Run run = run_of(rows, sequence);
  const bool held = lengths.hold(run);
  const auto thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int key = thread / kQuads, quad = thread % kQuads * 4;
  const int64_t first_value = int64_t{blockIdx.z} * kBlockValues;
  float* sums = shared<float>();  // [2][kWarps][kBlockValues]: of this row and the one before
  bytes += (first + key) * kDim + first_value + quad;  // first: heads * dim
  Four state[kKeysEach];
#pragma unroll
  for (int i = 0; i < kKeysEach; ++i)
    state[i] = held && !run.fresh ? load<4>(bytes + int64_t{i} * kKeyStep * kDim) : Four{};
  previous_done();
  if (!held) return;
  for (int32_t t = run.first_row; t < run.first_row + run.rows; ++t) {
    // All of a row at once: what stands behind the decay's branches would be waited for by itself.
    const float gate = p.gate.row(t)[head];
    const Four v = load<4>(p.v.row(t) + first + first_value + quad);
    float k[kKeysEach], q[kKeysEach];
#pragma unroll
    for (int i = 0; i < kKeysEach; ++i) {
      k[i] = p.k.row(t)[first + key + i * kKeyStep];
      q[i] = p.q.row(t)[first + key + i * kKeyStep];
    }
    const float gamma = retention_decay(gate, p.gate_normalizer);
    Four y{};
#pragma unroll
    for (int i = 0; i < kKeysEach; ++i) {
      const float scaled = k[i] * p.k_scale;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        state[i].at[e] = fmaf(gamma, state[i].at[e], scaled * v.at[e]);
        y.at[e] = fmaf(q[i], state[i].at[e], y.at[e]);
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      y.at[e] += __shfl_xor_sync(kWholeWarp, y.at[e], kQuads);
      y.at[e] += __shfl_xor_sync(kWholeWarp, y.at[e], 2 * kQuads);
    }
    float* mine = sums + (t - run.first_row) % 2 * kWarps * kBlockValues;
    if (lane < kQuads) store<4>(mine + warp * kBlockValues + quad, y);
    __syncthreads();
    if (warp == 0) {
      float total = 0.0f;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) total += mine[i * kBlockValues + lane];
      out.row(t)[first + first_value + lane] = total;
    }
  }
#pragma unroll
  for (int i = 0; i < kKeysEach; ++i) store<4>(bytes + int64_t{i} * kKeyStep * kDim, state[i]);
}

}  // namespace by_row

struct RetentionCall {
  Retention p;
  Ragged rows;
  StateRows states;
  MatrixOut32 out;
  dim3 blocks(int values_each) const {
    return dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(p.heads),
                static_cast<unsigned>(ceil_div(p.head_dim, values_each)));
  }
};

void launch_plain(Context& context, const RetentionCall& c) {
  launch(context, "retention",
         {c.blocks(kWarpSize), dim3(kRetentionWarps * kWarpSize),
          2 * kRetentionWarps * kWarpSize * sizeof(float), true},
         retention_kernel, c.p, c.rows, c.states, c.out);
}

template <int kDim>
void launch_dim(Context& context, const RetentionCall& c) {
  namespace chunks = retention_chunks;
  const RunShares shares = share_runs(c.rows, kChunkRowsLeast);
  launch(context, "retention rows",
         {c.blocks(by_row::kBlockValues), dim3(by_row::kThreads),
          2 * by_row::kWarps * by_row::kBlockValues * sizeof(float), true},
         by_row::retention_rows_kernel<kDim>, c.p, c.rows, c.states, shares.by_row, c.out);
  if (!shares.chunks) return;
  launch(context, "retention chunks",
         {c.blocks(chunks::Shape<kDim>::kBlockValues), dim3(kChunkThreads),
          sizeof(chunks::Shared<kDim>), true},
         chunks::retention_chunks_kernel<kDim>, c.p, c.rows, c.states, shares.by_chunk, c.out);
}

}  // namespace

void CudaOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                        TensorView out) {
  CHECK(args.head_dim <= kHeadDimMax) << "heads of " << args.head_dim << " elements";
  const RetentionCall call{{matrix(args.q), matrix(args.k), matrix(args.v), matrix(args.gate),
                            args.heads, args.head_dim, args.gate_normalizer, args.k_scale},
                           rows,
                           states,
                           matrix(out)};
  const bool aligned = all_aligned4(args.q, args.k, args.v, out);
  switch (aligned ? args.head_dim : 0) {
    case 64:
      return launch_dim<64>(context_, call);
    case 128:
      return launch_dim<128>(context_, call);
    case 256:
      return launch_dim<256>(context_, call);
    default:
      return launch_plain(context_, call);
  }
}

}  // namespace trireme::cuda
