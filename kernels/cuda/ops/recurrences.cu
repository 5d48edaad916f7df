// Ops with a state of constant size per sequence, row after row. In decode their time is that of
// reading and writing the states; long runs of matrix states have kernels of their own.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadDimMax = 256;
constexpr int kEach = kHeadDimMax / kWarpSize;  // elements of a head that a lane holds

// A thread for each channel of each row. The thread of a run's first row replaces the state: it
// alone reads it.
__global__ void shift_mix_kernel(Matrix32 x, int64_t cols, Ragged rows, StateRows states,
                                 Matrix32 mix, int64_t mixes, MatrixOut32 out) {
  const int row = static_cast<int>(blockIdx.x);
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const int sequence = sequence_of(rows, row);
  if (sequence < 0 || c >= cols) return;
  const Run run = run_of(rows, sequence);
  const float now = x.row(row)[c];
  float before = 0.0f;
  if (row > run.first_row) {
    before = x.row(row - 1)[c];
  } else {
    float* state = state_of(states, sequence);
    if (!run.fresh) before = state[c];
    state[c] = x.row(run.first_row + run.rows - 1)[c];
  }
  for (int64_t i = 0; i < mixes; ++i)
    out.row(row)[i * cols + c] = fmaf(before - now, mix.row(i)[c], now);
}

// A thread takes a channel through all rows of a run.
__global__ void wkv4_kernel(Matrix32 k, Matrix32 v, Matrix32 r, const float* w, const float* u,
                            int64_t channels, Ragged rows, StateRows states, MatrixOut32 out) {
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const Run run = run_of(rows, sequence);
  if (run.rows <= 0 || c >= channels) return;
  float* state = state_of(states, sequence);
  float aa = run.fresh ? 0.0f : state[c];
  float bb = run.fresh ? 0.0f : state[channels + c];
  float pp = run.fresh ? -1e38f : state[2 * channels + c];
  const float decay = w[c], first = u[c];
  for (int32_t t = run.first_row; t < run.first_row + run.rows; ++t) {
    const float key = k.row(t)[c], value = v.row(t)[c];
    float q = fmaxf(pp, first + key);
    float old_share = expf(pp - q), new_share = expf(first + key - q);
    const float wkv = (old_share * aa + new_share * value) / (old_share * bb + new_share);
    q = fmaxf(pp + decay, key);
    old_share = expf(pp + decay - q);
    new_share = expf(key - q);
    aa = old_share * aa + new_share * value;
    bb = old_share * bb + new_share;
    pp = q;
    out.row(t)[c] = sigmoid(r.row(t)[c]) * wkv;
  }
  state[c] = aa;
  state[channels + c] = bb;
  state[2 * channels + c] = pp;
}

struct Prepare {
  MatrixOut32 w, a, b, k, v;
  Matrix32 v_gate, v_first;  // v_first.data null: the first layer
  const float *k_k, *k_a;
  int32_t head_dim;
  int64_t heads;
};

// A warp for each head of each row.
__global__ void wkv7_prepare_kernel(Prepare p) {
  const int64_t row = blockIdx.x;
  const int64_t head = int64_t{blockIdx.y} * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
  if (head >= p.heads) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t first = head * p.head_dim;
  float squares = 0.0f;
  for (int64_t c = first + lane; c < first + p.head_dim; c += kWarpSize) {
    const float kk = p.k.row(row)[c] * p.k_k[c];
    squares = fmaf(kk, kk, squares);
  }
  const float inverse = 1.0f / fmaxf(sqrtf(warp_sum(squares)), 1e-12f);
  constexpr float kDecay = 0.60653066f;  // exp(-1/2)
  for (int64_t c = first + lane; c < first + p.head_dim; c += kWarpSize) {
    const float k = p.k.row(row)[c];
    const float al = sigmoid(p.a.row(row)[c]), kk = k * p.k_k[c] * inverse;
    p.w.row(row)[c] = expf(-kDecay * sigmoid(p.w.row(row)[c]));
    p.b.row(row)[c] = kk * al;
    p.a.row(row)[c] = -kk;
    p.k.row(row)[c] = k * (1.0f + (al - 1.0f) * p.k_a[c]);
    if (p.v_first.data != nullptr) {
      const float v = p.v.row(row)[c];
      p.v.row(row)[c] = v + (p.v_first.row(row)[c] - v) * sigmoid(p.v_gate.row(row)[c]);
    }
  }
}

struct Wkv7 {
  Matrix32 r, w, k, v, a, b;
  int32_t heads, head_dim;
};

// A warp keeps one row of a head's state, the keys of one value, in registers and takes it through
// all rows of a run: S a and S r are sums over the warp.
constexpr int kValuesPerBlock = 8;

__global__ void wkv7_kernel(Wkv7 p, Ragged rows, StateRows states, MatrixOut32 out) {
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = blockIdx.y;
  const int value =
      static_cast<int>(blockIdx.z) * kValuesPerBlock + static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int dim = p.head_dim;
  const Run run = run_of(rows, sequence);
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

// A warp for each head of each row.
__global__ void wkv7_finish_kernel(Matrix32 r, Matrix32 k, Matrix32 v, Matrix32 g, const float* r_k,
                                   int32_t head_dim, int64_t heads, MatrixOut32 y) {
  const int64_t row = blockIdx.x;
  const int64_t head = int64_t{blockIdx.y} * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
  if (head >= heads) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t first = head * head_dim;
  float bonus = 0.0f;
  for (int64_t c = first + lane; c < first + head_dim; c += kWarpSize)
    bonus = fmaf(r.row(row)[c] * k.row(row)[c], r_k[c], bonus);
  bonus = warp_sum(bonus);
  for (int64_t c = first + lane; c < first + head_dim; c += kWarpSize)
    y.row(row)[c] = (y.row(row)[c] + bonus * v.row(row)[c]) * g.row(row)[c];
}

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

unsigned blocks_of(int64_t count, int64_t each) {
  return static_cast<unsigned>(ceil_div(count, each));
}

}  // namespace

void CudaOps::shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                        ConstTensorView mix, TensorView out) {
  launch(context_, "shift_mix",
         {dim3(static_cast<unsigned>(rows.rows), blocks_of(x.cols, kThreads)), dim3(kThreads)},
         shift_mix_kernel, matrix(x), x.cols, rows, states, matrix(mix), mix.rows, matrix(out));
}

void CudaOps::wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                   TensorView out) {
  const int64_t channels = args.k.cols;
  launch(
      context_, "wkv4",
      {dim3(static_cast<unsigned>(rows.sequences), blocks_of(channels, kThreads)), dim3(kThreads)},
      wkv4_kernel, matrix(args.k), matrix(args.v), matrix(args.r),
      static_cast<const float*>(args.w.data), static_cast<const float*>(args.u.data), channels,
      rows, states, matrix(out));
}

void CudaOps::wkv7_prepare(const Wkv7PrepareArgs& args) {
  Prepare p;
  p.w = matrix(args.w);
  p.a = matrix(args.a);
  p.b = matrix(args.b);
  p.k = matrix(args.k);
  p.v = matrix(args.v);
  p.v_gate = matrix(args.v_gate);
  p.v_first = args.v_first.empty() ? Matrix32{nullptr, 0} : matrix(args.v_first);
  p.k_k = static_cast<const float*>(args.k_k.data);
  p.k_a = static_cast<const float*>(args.k_a.data);
  p.head_dim = args.head_dim;
  p.heads = args.w.cols / args.head_dim;
  launch(context_, "wkv7_prepare",
         {dim3(static_cast<unsigned>(args.w.rows), blocks_of(p.heads, 4)), dim3(4 * kWarpSize)},
         wkv7_prepare_kernel, p);
}

void CudaOps::wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                   TensorView out) {
  CHECK(args.head_dim <= kHeadDimMax) << "heads of " << args.head_dim << " elements";
  const Wkv7 p{matrix(args.r), matrix(args.w), matrix(args.k), matrix(args.v),
               matrix(args.a), matrix(args.b), args.heads,     args.head_dim};
  launch(context_, "wkv7",
         {dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(args.heads),
               blocks_of(args.head_dim, kValuesPerBlock)),
          dim3(kValuesPerBlock * kWarpSize)},
         wkv7_kernel, p, rows, states, matrix(out));
}

void CudaOps::wkv7_finish(const Wkv7FinishArgs& args, TensorView y) {
  const int64_t heads = y.cols / args.head_dim;
  launch(context_, "wkv7_finish",
         {dim3(static_cast<unsigned>(y.rows), blocks_of(heads, 4)), dim3(4 * kWarpSize)},
         wkv7_finish_kernel, matrix(args.r), matrix(args.k), matrix(args.v), matrix(args.g),
         static_cast<const float*>(args.r_k.data), args.head_dim, heads, matrix(y));
}

void CudaOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                        TensorView out) {
  CHECK(args.head_dim <= kHeadDimMax) << "heads of " << args.head_dim << " elements";
  const Retention p{matrix(args.q), matrix(args.k), matrix(args.v),       matrix(args.gate),
                    args.heads,     args.head_dim,  args.gate_normalizer, args.k_scale};
  launch(context_, "retention",
         {dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(args.heads),
               blocks_of(args.head_dim, kWarpSize)),
          dim3(kRetentionWarps * kWarpSize), 2 * kRetentionWarps * kWarpSize * sizeof(float)},
         retention_kernel, p, rows, states, matrix(out));
}

}  // namespace trireme::cuda
