// RWKV's token shift, and what stands before and after RWKV-7's recurrence. All are bound by memory
// and read and write each number once, four floats at a time where rows are aligned for it.
//
// Expected on an H200 (4.3 TB/s), RWKV-7 7.2B (4096 columns, 6 mixes): a row of shift_mix moves
// 16 KB in and 96 KB out, one of wkv7_prepare 96 to 112 KB, one of wkv7_finish 96 KB: 0.026 us
// each, so 8192 rows take 0.2 ms each of the 9 ms that a layer may. wkv7_norm_finish moves what
// wkv7_finish does: the norm before it, 32 KB a row and a launch, is free. In decode shift_mix is a
// launch, and the rest part of another (wkv7_decode.cu).
//
// nvcc 13.0: at most 52 registers (sm_80: 54), no spills.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/device/wkv7.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kMixesHeld = 6;  // as many as any model's sublayer has

// A thread for N channels of each row: it reads them and those of the row before once, for all
// mixes. The thread of a run's first row replaces the state: it alone reads it. Mixes and states
// are there before the kernel before ends.
template <int N>
__global__ void shift_mix_kernel(Matrix32 x, int64_t cols, Ragged rows, StateRows states,
                                 Matrix32 mix, int64_t mixes, MatrixOut32 out, LeftOut left) {
  next_may_start();
  const int row = static_cast<int>(blockIdx.x);
  const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  const int sequence = sequence_of(rows, row);
  const bool mine = sequence >= 0 && c < cols;
  int32_t last_row = 0;  // of the run
  float* state = nullptr;
  Pack<float, N> change{};  // the row before, less this one
  Pack<float, N> shares[kMixesHeld];
  if (mine) {
#pragma unroll
    for (int i = 0; i < kMixesHeld; ++i)
      if (i < mixes) shares[i] = load<N>(mix.row(i) + c);
    const Run run = run_of(rows, sequence);
    last_row = run.first_row + run.rows - 1;
    if (row == run.first_row) {
      state = state_of(states, sequence) + c;
      if (!run.fresh) change = load<N>(state);
    }
  }
  previous_done();
  if (!mine) return;
  const Pack<float, N> now = load<N>(x.row(row) + c);
  if (state == nullptr) {
    change = load<N>(x.row(row - 1) + c);
  } else {
    store_out<N>(state, last_row == row ? now : load<N>(x.row(last_row) + c));
  }
#pragma unroll
  for (int e = 0; e < N; ++e) change.at[e] -= now.at[e];
  float* mixed = out.row(row) + c;
  const auto put = [&](int64_t i, const Pack<float, N>& share) {
    Pack<float, N> result;
#pragma unroll
    for (int e = 0; e < N; ++e) result.at[e] = fmaf(change.at[e], share.at[e], now.at[e]);
    store_out<N>(mixed + i * cols, result);
    if constexpr (N == 4) leave<N>(left, row, i * cols + c, result);
  };
#pragma unroll
  for (int i = 0; i < kMixesHeld; ++i)
    if (i < mixes) put(i, shares[i]);
  for (int64_t i = kMixesHeld; i < mixes; ++i) put(i, load<N>(mix.row(i) + c));
}

struct Prepare {
  MatrixOut32 w, a, b, k, v;
  Matrix32 v_gate, v_first;  // v_first.data null: the first layer
  const float *k_k, *k_a;
  int32_t head_dim;
  int64_t heads;
};

// A thread has N channels of a head and kLanes threads the whole head, in registers: dim is
// N * kLanes, or for N = 1 any, in pieces of kLanes.
template <int N, int kLanes>
struct HeadOfRow {
  int64_t row, head;
  int lane;
  __device__ HeadOfRow() {
    const auto thread = static_cast<int>(threadIdx.x);
    row = blockIdx.x;
    head = int64_t{blockIdx.y} * (blockDim.x / kLanes) + thread / kLanes;
    lane = thread % kLanes;
  }
};

// kHeads of 4 * kLanes channels.
template <int kLanes>
__global__ void wkv7_prepare4_kernel(Prepare p) {
  next_may_start();
  const HeadOfRow<4, kLanes> at;
  // All lanes of a warp take part in its sums; those beyond the last head repeat it.
  const bool mine = at.head < p.heads;
  const int64_t c = ((mine ? at.head : p.heads - 1) * kLanes + at.lane) * 4;
  using Four = Pack<float, 4>;
  const Four k_k = load<4>(p.k_k + c), k_a = load<4>(p.k_a + c);
  previous_done();
  const Four k = load<4>(p.k.row(at.row) + c);
  Four a = load<4>(p.a.row(at.row) + c), w = load<4>(p.w.row(at.row) + c);
  Four v{}, v_first{}, v_gate{};
  if (p.v_first.data != nullptr) {
    v = load<4>(p.v.row(at.row) + c);
    v_first = load<4>(p.v_first.row(at.row) + c);
    v_gate = load<4>(p.v_gate.row(at.row) + c);
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    w.at[e] = wkv7_decay(w.at[e]);
    a.at[e] = sigmoid(a.at[e]);
    v.at[e] = wkv7_value(v.at[e], v_first.at[e], v_gate.at[e]);
  }
  const Wkv7Keys keys = wkv7_keys<kLanes>(a, k, k_k, k_a);
  if (!mine) return;
  store_out<4>(p.w.row(at.row) + c, w);
  store_out<4>(p.a.row(at.row) + c, keys.a);
  store_out<4>(p.b.row(at.row) + c, keys.b);
  store_out<4>(p.k.row(at.row) + c, keys.k);
  if (p.v_first.data != nullptr) store_out<4>(p.v.row(at.row) + c, v);
}

// Heads of any size: a warp for each head of each row.
__global__ void wkv7_prepare_kernel(Prepare p) {
  next_may_start();
  previous_done();
  const HeadOfRow<1, kWarpSize> at;
  if (at.head >= p.heads) return;
  const int64_t row = at.row, first = at.head * p.head_dim;
  float squares = 0.0f;
  for (int64_t c = first + at.lane; c < first + p.head_dim; c += kWarpSize) {
    const float kk = p.k.row(row)[c] * p.k_k[c];
    squares = fmaf(kk, kk, squares);
  }
  const float inverse = wkv7_inverse_length(head_sum<kWarpSize>(squares));
  for (int64_t c = first + at.lane; c < first + p.head_dim; c += kWarpSize) {
    const float k = p.k.row(row)[c];
    const float al = sigmoid(p.a.row(row)[c]), kk = k * p.k_k[c] * inverse;
    p.w.row(row)[c] = wkv7_decay(p.w.row(row)[c]);
    p.b.row(row)[c] = kk * al;
    p.a.row(row)[c] = -kk;
    p.k.row(row)[c] = k * fmaf(al - 1.0f, p.k_a[c], 1.0f);
    if (p.v_first.data != nullptr) {
      p.v.row(row)[c] = wkv7_value(p.v.row(row)[c], p.v_first.row(row)[c], p.v_gate.row(row)[c]);
    }
  }
}

struct Finish {
  Matrix32 r, k, v, g;
  const float* r_k;
  int32_t head_dim;
  int64_t heads;
  MatrixOut32 y;
  LeftOut left;  // of y
};

// What a lane needs of gain and bias.
struct HeadScales {
  Pack<float, 4> gain{{1.0f, 1.0f, 1.0f, 1.0f}}, bias{};

  __device__ HeadScales(const HeadNorm& norm, int64_t c) {
    if (norm.gain != nullptr) gain = load<4>(norm.gain + c);
    if (norm.bias != nullptr) bias = load<4>(norm.bias + c);
  }
};

template <int kLanes, bool kNorm>
__global__ void wkv7_finish4_kernel(Finish p, HeadNorm norm) {
  next_may_start();
  const HeadOfRow<4, kLanes> at;
  const bool mine = at.head < p.heads;
  const int64_t c = ((mine ? at.head : p.heads - 1) * kLanes + at.lane) * 4;
  using Four = Pack<float, 4>;
  const Four r_k = load<4>(p.r_k + c);
  const HeadScales scales(norm, c);  // without kNorm: nothing is read
  previous_done();
  const Four r = load<4>(p.r.row(at.row) + c), k = load<4>(p.k.row(at.row) + c);
  const Four v = load<4>(p.v.row(at.row) + c), g = load<4>(p.g.row(at.row) + c);
  Four y = load<4>(p.y.row(at.row) + c);
  const float bonus = wkv7_bonus<kLanes>(r, k, r_k);
  if constexpr (kNorm) {
    const HeadMoments moments = moments_of_head<kLanes>(norm, y);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      y.at[e] = moments.normalised(y.at[e], scales.gain.at[e], scales.bias.at[e]);
  }
  if (!mine) return;
#pragma unroll
  for (int e = 0; e < 4; ++e) y.at[e] = wkv7_finished(y.at[e], bonus, v.at[e], g.at[e]);
  store_out<4>(p.y.row(at.row) + c, y);
  leave<4>(p.left, at.row, c, y);
}

// Heads of any size: a warp for each head of each row.
__global__ void wkv7_finish_kernel(Finish p) {
  next_may_start();
  previous_done();
  const HeadOfRow<1, kWarpSize> at;
  if (at.head >= p.heads) return;
  const int64_t row = at.row, first = at.head * p.head_dim;
  float bonus = 0.0f;
  for (int64_t c = first + at.lane; c < first + p.head_dim; c += kWarpSize)
    bonus = fmaf(p.r.row(row)[c] * p.k.row(row)[c], p.r_k[c], bonus);
  bonus = head_sum<kWarpSize>(bonus);
  for (int64_t c = first + at.lane; c < first + p.head_dim; c += kWarpSize)
    p.y.row(row)[c] = wkv7_finished(p.y.row(row)[c], bonus, p.v.row(row)[c], p.g.row(row)[c]);
}

// Of a block: few where all threads together are few, so that more multiprocessors take part.
unsigned block_threads(const Context& context, int64_t threads, unsigned most, unsigned least) {
  return threads < int64_t{context.multiprocessors()} * most ? least : most;
}

// Threads of which `lanes` take a head.
Grid heads_grid(const Context& context, int64_t rows, int64_t heads, int lanes) {
  const unsigned threads = block_threads(context, rows * heads * lanes, 128, kWarpSize);
  return {dim3(static_cast<unsigned>(rows),
               static_cast<unsigned>(ceil_div(heads, static_cast<int>(threads) / lanes))),
          dim3(threads), 0, true};
}

Finish finish_of(const Wkv7FinishArgs& args, const TensorView& y) {
  return {matrix(args.r),
          matrix(args.k),
          matrix(args.v),
          matrix(args.g),
          static_cast<const float*>(args.r_k.data),
          args.head_dim,
          y.cols / args.head_dim,
          matrix(y),
          {}};
}

bool finish_aligned4(const Wkv7FinishArgs& args, const TensorView& y) {
  return all_aligned4(args.r, args.k, args.v, args.g, args.r_k, y);
}

}  // namespace

void CudaOps::shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                        ConstTensorView mix, TensorView out) {
  const bool wide = all_aligned4(x, mix, out);
  const LeftRows left = wide ? room_for_left(context_, out) : LeftRows{};
  const auto launch_of = [&](int width, auto kernel) {
    const int64_t words = ceil_div(x.cols, width);
    const unsigned threads = block_threads(context_, x.rows * words, 256, 64);
    launch(context_, "shift_mix",
           {dim3(static_cast<unsigned>(rows.rows),
                 static_cast<unsigned>(ceil_div(words, static_cast<int64_t>(threads)))),
            dim3(threads), 0, true},
           kernel, matrix(x), x.cols, rows, states, matrix(mix), mix.rows, matrix(out), left.out);
  };
  if (wide) {
    launch_of(4, shift_mix_kernel<4>);
  } else {
    launch_of(1, shift_mix_kernel<1>);
  }
  context_.leave(left);
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
  bool aligned = all_aligned4(args.w, args.a, args.b, args.k, args.v, args.k_k, args.k_a);
  if (!args.v_first.empty()) aligned = aligned && all_aligned4(args.v_gate, args.v_first);
  const auto launch_of = [&](int lanes, auto kernel) {
    launch(context_, "wkv7_prepare", heads_grid(context_, args.w.rows, p.heads, lanes), kernel, p);
  };
  if (aligned && args.head_dim == 64) {
    launch_of(16, wkv7_prepare4_kernel<16>);
  } else if (aligned && args.head_dim == 128) {
    launch_of(32, wkv7_prepare4_kernel<32>);
  } else {
    launch_of(kWarpSize, wkv7_prepare_kernel);
  }
}

void CudaOps::wkv7_finish(const Wkv7FinishArgs& args, TensorView y) {
  const Finish p = finish_of(args, y);
  const bool aligned = finish_aligned4(args, y);
  const auto launch_of = [&](int lanes, auto kernel, auto... norm) {
    launch(context_, "wkv7_finish", heads_grid(context_, y.rows, p.heads, lanes), kernel, p,
           norm...);
  };
  if (aligned && args.head_dim == 64) {
    launch_of(16, wkv7_finish4_kernel<16, false>, HeadNorm{});
  } else if (aligned && args.head_dim == 128) {
    launch_of(32, wkv7_finish4_kernel<32, false>, HeadNorm{});
  } else {
    launch_of(kWarpSize, wkv7_finish_kernel);
  }
}

void CudaOps::wkv7_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                               TensorView y) {
  const std::optional<HeadNorm> norm = norm_of_heads(norm_args, y.cols);
  if (!norm || !finish_aligned4(args, y) || (args.head_dim != 64 && args.head_dim != 128))
    return Ops::wkv7_norm_finish(norm_args, args, y);
  Finish p = finish_of(args, y);
  const LeftRows left = room_for_left(context_, y);
  p.left = left.out;
  const auto launch_of = [&](int lanes, auto kernel) {
    launch(context_, "wkv7_norm_finish", heads_grid(context_, y.rows, p.heads, lanes), kernel, p,
           *norm);
  };
  if (args.head_dim == 64) {
    launch_of(16, wkv7_finish4_kernel<16, true>);
  } else {
    launch_of(32, wkv7_finish4_kernel<32, true>);
  }
  context_.leave(left);
}

}  // namespace trireme::cuda
