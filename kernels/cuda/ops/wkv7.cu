// RWKV-7's recurrence: a matrix of keys and values per head. Heads of 64, which all released models
// have, whose rows are aligned: short runs here, long runs in wkv7_chunks.cuh, steps of decode,
// with what stands before and after, in wkv7_decode.cu. All others take the plain kernel, which the
// others are checked against.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/device/wkv7.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/wkv7_chunks.cuh"

namespace trireme::cuda {
namespace {

// Heads of any size: a warp keeps one row of a head's state, the keys of one value, in registers
// and takes it through all rows of a run: S a and S r are sums over the warp.
constexpr int kHeadDimMax = 256;
constexpr int kEach = kHeadDimMax / kWarpSize;  // elements of a head that a lane holds
constexpr int kValuesPerBlock = 8;

__global__ void wkv7_kernel(Wkv7 p, Ragged rows, StateRows states, MatrixOut32 out) {
  next_may_start();
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y;
  const int value =
      static_cast<int>(blockIdx.z) * kValuesPerBlock + static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int dim = p.head_dim;
  const Run run = run_of(rows, sequence);
  previous_done();
  if (run.rows <= 0 || value >= dim) return;
  float* state = state_of(states, sequence) + (head * dim + value) * dim;
  float s[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane + i * kWarpSize;
    s[i] = j < dim && !run.fresh ? state[j] : 0.0f;
  }
  for (int32_t t = run.first_row; t < run.first_row + run.rows; ++t) {
    const int64_t first = head * dim;
    const float *a = p.a.row(t) + first, *b = p.b.row(t) + first, *w = p.w.row(t) + first;
    const float *k = p.k.row(t) + first, *r = p.r.row(t) + first;
    float sa = 0.0f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int j = lane + i * kWarpSize;
      if (j < dim) sa = fmaf(s[i], a[j], sa);
    }
    sa = warp_sum(sa);
    const float v = p.v.row(t)[first + value];
    float y = 0.0f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int j = lane + i * kWarpSize;
      if (j >= dim) continue;
      s[i] = fmaf(s[i], w[j], fmaf(sa, b[j], v * k[j]));
      y = fmaf(s[i], r[j], y);
    }
    y = warp_sum(y);
    if (lane == 0) out.row(t)[first + value] = y;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane + i * kWarpSize;
    if (j < dim) state[j] = s[i];
  }
}

}  // namespace

// ---- heads of 64, row by row ----
//
//   S = S diag(w) + (S a) b^T + v k^T;  out = S r
//
// Grid (sequences, heads, 2): a block of 2 warps takes 32 values of a head, a warp 16, a lane 4
// keys of 8 of them (device/wkv7.cuh), so that a state is read and written once, 256 bytes of a row
// at a time, and each lane has 8 loads of 16 bytes in flight. The vectors of the next row are on
// their way meanwhile.
//
// One sequence has 1 MB of state in 64 heads, read and written in 0.5 us on an H200 (4.3 TB/s), so
// that latency decides: states are in registers before the kernel before ends, and what a block
// must look up for that, offsets, a position, the state's place, is two trips.
//
// nvcc 13.0: 120 registers (sm_80: 122), no spills.
namespace wkv7_rows {
namespace {

constexpr int kWarps = 2, kBlockValues = kWarps * 2 * kValuesEach;

__device__ __forceinline__ Row load_row(const Wkv7& p, int64_t row, int64_t key, int64_t value) {
  return {load<4>(p.r.row(row) + key),
          load<4>(p.w.row(row) + key),
          load<4>(p.k.row(row) + key),
          load<4>(p.a.row(row) + key),
          load<4>(p.b.row(row) + key),
          {load<4>(p.v.row(row) + value), load<4>(p.v.row(row) + value + 4)}};
}

__global__ void __launch_bounds__(kWarps* kWarpSize, 8)
    wkv7_rows_kernel(Wkv7 p, Ragged rows, StateRows states, RunLengths lengths, MatrixOut32 out) {
  next_may_start();
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y;
  float* bytes = state_of(states, sequence);  // on its way while run_of() waits
  const Run run = run_of(rows, sequence);
  const bool held = lengths.hold(run);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t key = head * kDim + 4 * (lane % kKeyLanes);
  const int64_t value = head * kDim + int64_t{blockIdx.z} * kBlockValues +
                        (static_cast<int>(threadIdx.x) / kKeyLanes) * kValuesEach;
  bytes += value * kDim + 4 * (lane % kKeyLanes);
  Four state[kValuesEach];
#pragma unroll
  for (int i = 0; i < kValuesEach; ++i)
    state[i] = held && !run.fresh ? load<4>(bytes + i * kDim) : Four{};
  previous_done();
  if (!held) return;
  const int32_t end = run.first_row + run.rows;
  Row x = load_row(p, run.first_row, key, value);
  for (int32_t t = run.first_row; t < end; ++t) {
    Row next{};
    const bool more = t + 1 < end;
    if (more) next = load_row(p, t + 1, key, value);
    const float y = advance(x, lane, state);
    if (lane % 2 == 0) out.row(t)[value + lane % kKeyLanes / 2] = y;
    if (more) x = next;
  }
#pragma unroll
  for (int i = 0; i < kValuesEach; ++i) store<4>(bytes + i * kDim, state[i]);
}

}  // namespace
}  // namespace wkv7_rows

void CudaOps::wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                   TensorView out) {
  CHECK(args.head_dim <= kHeadDimMax) << "heads of " << args.head_dim << " elements";
  const Wkv7 p{matrix(args.r), matrix(args.w), matrix(args.k), matrix(args.v),
               matrix(args.a), matrix(args.b), args.heads,     args.head_dim};
  const auto blocks = [&](int64_t values_each) {
    return dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(args.heads),
                static_cast<unsigned>(ceil_div(args.head_dim, values_each)));
  };
  if (args.head_dim != wkv7_rows::kDim ||
      !all_aligned4(args.r, args.w, args.k, args.v, args.a, args.b, out)) {
    launch(context_, "wkv7", {blocks(kValuesPerBlock), dim3(kValuesPerBlock * kWarpSize), 0, true},
           wkv7_kernel, p, rows, states, matrix(out));
    return;
  }
  const RunShares shares = share_runs(rows, kChunkRowsLeast);
  launch(context_, "wkv7 rows",
         {blocks(wkv7_rows::kBlockValues), dim3(wkv7_rows::kWarps * kWarpSize), 0, true},
         wkv7_rows::wkv7_rows_kernel, p, rows, states, shares.by_row, matrix(out));
  if (!shares.chunks) return;
  launch(context_, "wkv7 chunks",
         {blocks(wkv7_chunks::kBlockValues), dim3(wkv7_chunks::kThreads),
          sizeof(wkv7_chunks::Shared), true},
         wkv7_chunks::wkv7_chunks_kernel, p, rows, states, shares.by_chunk, matrix(out));
}

}  // namespace trireme::cuda
