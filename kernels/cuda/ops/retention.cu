// Gated retention: a matrix of keys and values per head, which all decay by one gate a row.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kHeadDimMax = 256;

struct Retention {
  Matrix32 q, k, v, gate;
  int32_t heads, head_dim;
  float gate_normalizer, k_scale;
};

// A block keeps 32 values of a head's state: a lane has one value, a warp every eighth key. What
// the warps add up to a row's output meets in shared memory.
constexpr int kRetentionWarps = 8;
constexpr int kKeysEach = kHeadDimMax / kRetentionWarps;

__global__ void retention_kernel(Retention p, Ragged rows, StateRows states, MatrixOut32 out) {
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int value = static_cast<int>(blockIdx.z) * kWarpSize + lane;
  const int dim = p.head_dim;
  const Run run = run_of(rows, sequence);
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
    const float gate = p.gate.row(t)[head];
    // log(sigmoid(gate)), also where sigmoid(gate) is too small for its logarithm.
    const float log_gate = gate < 0.0f ? gate - log1pf(expf(gate)) : -log1pf(expf(-gate));
    const float gamma = expf(log_gate / p.gate_normalizer);
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

}  // namespace

void CudaOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                        TensorView out) {
  CHECK(args.head_dim <= kHeadDimMax) << "heads of " << args.head_dim << " elements";
  const Retention p{matrix(args.q), matrix(args.k), matrix(args.v),       matrix(args.gate),
                    args.heads,     args.head_dim,  args.gate_normalizer, args.k_scale};
  launch(context_, "retention",
         {dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(args.heads),
               static_cast<unsigned>(ceil_div(args.head_dim, kWarpSize))),
          dim3(kRetentionWarps * kWarpSize), 2 * kRetentionWarps * kWarpSize * sizeof(float)},
         retention_kernel, p, rows, states, matrix(out));
}

}  // namespace trireme::cuda
