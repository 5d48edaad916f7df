// What stands before the products of an RWKV sublayer in a step of decode, in one kernel: the
// residual sum, the norm, the token shift. In all other steps these are norm.cu and shift_gates.cu.
//
// A block has a sequence, and a thread every blockDim-th four columns of its row, from the sum to
// the last mix: the row before is the state, so no block needs what another one makes. Mixes (96 KB
// for RWKV-7 7.2B, as many rows as there are) lie in shared memory, and state, gain and bias in
// registers, when the kernel before ends; 96 KB have room beside a block that streams weights.
//
// Expected on an H200, 4096 columns, 6 mixes: a kernel less in each sublayer, 2 to 2.5 us, less
// what one multiprocessor takes longer to write 96 KB than 16 do, 0.7 us. Of 127 us a layer of
// RWKV-7 7.2B at batch 1 some 3.5. No GPU has run it yet.
//
// nvcc 13.0: 64 registers, 126 for more than 4096 columns, no spills.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/norm.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kSums = 2 * kWarpSize;              // floats, which the norm's sums meet in
constexpr size_t kBytesMost = size_t{110} << 10;  // leave room for a block that streams weights

struct NormShift {
  Matrix32 delta;  // no data: none
  MatrixOut32 x;
  int32_t cols;
  bool layer;  // NormKind::kLayer
  float epsilon;
  const float* gain;  // may be null
  const float* bias;  // may be null
  Matrix32 mix;
  int32_t mixes;
  MatrixOut32 out;
  LeftOut left;  // of out
};

template <int kPacks>
__global__ void __launch_bounds__(kThreads, kPacks <= 2 ? 2 : 1)
    norm_shift_kernel(NormShift c, Ragged rows, StateRows states) {
  next_may_start();
  const int sequence = static_cast<int>(blockIdx.x);
  const Run run = run_of(rows, sequence);
  if (run.rows == 0) return nothing_to_do();
  const HeldBy<4> by = {static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), c.cols};
  float* sums = shared<float>();
  float* mixes = sums + kSums;  // [mixes][cols]
  float* state = state_of(states, sequence);
  Pack<float, 4> before[kPacks] = {};
  Scales<4> scales[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
    for (int i = 0; i < c.mixes; ++i)
      copy_16_bytes(mixes + i * c.cols + by.at(p), c.mix.row(i) + by.at(p), true);
    if (!run.fresh) before[p] = load<4>(state + by.at(p));
    scales[p].read(c.gain, c.bias, by.at(p));
  }
  copies_commit();
  previous_done();

  const int32_t end = run.first_row + run.rows;
#pragma unroll 1
  for (int32_t row = run.first_row; row < end; ++row) {
    Pack<float, 4> now[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (by.has(p)) now[p] = load<4>(c.x.row(row) + by.at(p));
    if (c.delta.data != nullptr) add_held(by, c.delta.row(row), c.x.row(row), now);
    const float inverse = centre<true>(by, c.layer, c.epsilon, sums, now);
    copies_wait<0>();  // a thread reads what it has copied itself
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (!by.has(p)) break;
      scales[p].apply(inverse, now[p]);
#pragma unroll 2
      for (int i = 0; i < c.mixes; ++i) {
        const int32_t col = i * c.cols + by.at(p);
        const Pack<float, 4> mix = load<4>(mixes + col);
        Pack<float, 4> mixed;
#pragma unroll
        for (int e = 0; e < 4; ++e)
          mixed.at[e] = fmaf(before[p].at[e] - now[p].at[e], mix.at[e], now[p].at[e]);
        store_out<4>(c.out.row(row) + col, mixed);
        leave<4>(c.left, row, col, mixed);
      }
      before[p] = now[p];
    }
    __syncthreads();  // the next row's sums
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (by.has(p)) store_out<4>(state + by.at(p), before[p]);
}

size_t shared_bytes(int64_t cols, int64_t mixes) {
  return (kSums + static_cast<size_t>(cols * mixes)) * sizeof(float);
}

}  // namespace

void CudaOps::norm_shift_mix(const ResidualNorm& in, const Ragged& rows, const StateRows& states,
                             ConstTensorView mix, TensorView out) {
  const int64_t cols = in.x.cols, packs = ceil_div(cols, int64_t{4} * kThreads);
  const NormArgs& norm = in.norm;
  const bool fits = packs <= 4 && shared_bytes(cols, mix.rows) <= kBytesMost;
  const bool aligned = all_aligned4(in.x, mix, out) &&
                       (in.delta.rows == 0 || all_aligned4(in.delta)) &&
                       (norm.gain.empty() || all_aligned4(norm.gain)) &&
                       (norm.bias.empty() || all_aligned4(norm.bias));
  if (rows.rows == 0 || rows.rows != rows.sequences || norm.groups != 1 || !fits || !aligned)
    return Ops::norm_shift_mix(in, rows, states, mix, out);
  const auto floats = [](const ConstTensorView& x) {
    return x.empty() ? nullptr : static_cast<const float*>(x.data);
  };
  const LeftRows left = room_for_left(context_, out);
  NormShift c{};
  if (in.delta.rows > 0) c.delta = matrix(in.delta);
  c.x = matrix(in.x);
  c.cols = static_cast<int32_t>(cols);
  c.layer = norm.kind == NormKind::kLayer;
  c.epsilon = norm.epsilon;
  c.gain = floats(norm.gain);
  c.bias = floats(norm.bias);
  c.mix = matrix(mix);
  c.mixes = static_cast<int32_t>(mix.rows);
  c.out = matrix(out);
  c.left = left.out;
  const auto launch_of = [&](int64_t held, auto kernel) {
    const int64_t threads = ceil_div(ceil_div(cols / 4, held), kWarpSize) * kWarpSize;
    launch(context_, "norm_shift_mix",
           {dim3(static_cast<unsigned>(rows.sequences)), dim3(static_cast<unsigned>(threads)),
            shared_bytes(cols, mix.rows), true},
           kernel, c, rows, states);
  };
  if (packs <= 2) {
    launch_of(2, norm_shift_kernel<2>);
  } else {
    launch_of(4, norm_shift_kernel<4>);
  }
  context_.leave(left);
}

}  // namespace trireme::cuda
