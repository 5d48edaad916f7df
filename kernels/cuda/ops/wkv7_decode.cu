// What RWKV-7 does between its products in a step of decode, in one kernel: what prepares the
// recurrence, a row of it, the norm over each head, and what finishes. In all other steps, and for
// heads of other sizes, these are the kernels of shift_gates.cu and wkv7.cu.
//
// Grid (sequences, heads): a block of 4 warps has a head, a warp 16 of its values, a lane 4 keys of
// 8 of them (device/wkv7.cuh). First each thread takes a sigmoid of w or a, since one thread's
// eight would wait for each other; they meet in shared memory, where the parameters are by then.
// 16 lanes hold all keys, and each 16 make theirs of k. Of the values a lane has one: what S r is
// for value lane % 16 / 2 of its 8. The head's outputs meet in shared memory, and each 16 lanes
// take the norm's sums over them.
//
// Expected on an H200 (4.24 TB/s), 64 heads. One sequence: states, offsets and parameters are there
// when the kernel before ends; then one trip to L2 for the vectors and some 1400 clocks to the
// stores, 1.5 us with these, where three kernels took 2 to 4 us each. 64 sequences: 2 x 64 MB of
// state take 32 us, behind which hide 2 KB of vectors and 1.3 of parameters that a block fetches
// from L2; two kernels of 2 to 4 us are gone from beside that. A multiprocessor has 31 blocks to
// do, 6 at a time: one may take 6 us. Measured in a step, from the end of the kernel before: one
// sequence 5.0 us, where the three took 8.3; 64 sequences 37.2.
//
// A step of as many rows as sequences may have a run of several rows, beside an empty one: so rows
// are a loop.
//
// nvcc 13.0: 80 registers (sm_80, too), no spills.
#include <optional>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/device/wkv7.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace wkv7_rows {
namespace {

constexpr int kThreads = kDim / kValuesEach * kKeyLanes;
constexpr int kBlocksAtATime = 6;  // of a multiprocessor

enum Parameter { kKk, kKa, kRk, kGain, kBias, kParameters };

struct Decode {
  Matrix32 r, w, a, k, v, g;
  Matrix32 v_gate, v_first;              // v_first.data null: the first layer
  const float* parameters[kParameters];  // [heads * kDim]; null: ones for gain, zeros for bias
  HeadNorm norm;
  MatrixOut32 y;
  LeftOut left;  // of y
};

// Of a head.
struct Shared {
  float parameters[kParameters][kDim];
  float w[kDim], al[kDim];  // the decay, and sigmoid(a)
  float outputs[kDim];
};

// A thread's four numbers of the parameters: 16 threads have one.
__device__ __forceinline__ Four parameter_of(const Decode& p, int parameter, int64_t key) {
  if (parameter < kParameters && p.parameters[parameter] != nullptr)
    return load<4>(p.parameters[parameter] + key);
  return parameter == kGain ? Four{{1.0f, 1.0f, 1.0f, 1.0f}} : Four{};
}

__global__ void __launch_bounds__(kThreads, kBlocksAtATime)
    wkv7_decode_kernel(Decode p, Ragged rows, StateRows states) {
  next_may_start();
  auto& block = *shared<Shared>();
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t head = int64_t{blockIdx.y} * kDim;
  const int lane = lane_of_warp();
  const int sixteen = static_cast<int>(threadIdx.x) / kKeyLanes;
  // Of the head: the first of a thread's keys and of its values, and the value that it prepares and
  // finishes; the channel whose sigmoid it takes, of w or of a.
  const int key = 4 * (lane % kKeyLanes), first_value = sixteen * kValuesEach;
  const int value = first_value + lane % kKeyLanes / 2;
  const int channel = static_cast<int>(threadIdx.x) % kDim;
  const bool of_w = threadIdx.x < kDim;
  const Four parameter = parameter_of(p, sixteen, head + key);
  float* bytes = state_of(states, sequence) + (head + first_value) * kDim + key;
  const Run run = run_of(rows, sequence);
  Four state[kValuesEach];
#pragma unroll
  for (int i = 0; i < kValuesEach; ++i)
    state[i] = run.rows > 0 && !run.fresh ? load<4>(bytes + i * kDim) : Four{};
  if (sixteen < kParameters) store<4>(block.parameters[sixteen] + key, parameter);
  previous_done();
  const int32_t end = run.first_row + run.rows;
  for (int32_t t = run.first_row; t < end; ++t) {
    const auto one = [&](const Matrix32& x, int column) { return x.row(t)[head + column]; };
    const auto four = [&](const Matrix32& x) { return load<4>(x.row(t) + head + key); };
    const float gate = one(of_w ? p.w : p.a, channel);
    float v = one(p.v, value);
    const Four r = four(p.r), k = four(p.k);
    const float g = one(p.g, value);
    if (p.v_first.data != nullptr) v = wkv7_value(v, one(p.v_first, value), one(p.v_gate, value));
    if (of_w) {
      block.w[channel] = wkv7_decay(gate);
    } else {
      block.al[channel] = sigmoid(gate);
    }
    __syncthreads();
    const auto of_keys = [&](const float(&x)[kDim]) { return load<4>(x + key); };
    const Wkv7Keys keys = wkv7_keys<kKeyLanes>(of_keys(block.al), k, of_keys(block.parameters[kKk]),
                                               of_keys(block.parameters[kKa]));
    const float bonus = wkv7_bonus<kKeyLanes>(r, keys.k, of_keys(block.parameters[kRk]));
    Row row{r, of_keys(block.w), keys.k, keys.a, keys.b, {}};
#pragma unroll
    for (int i = 0; i < kValuesEach; ++i)
      row.v[i / 4].at[i % 4] = __shfl_sync(kWholeWarp, v, 2 * i, kKeyLanes);
    float y = advance(row, lane, state);

    if (lane % 2 == 0) block.outputs[value] = y;
    if (t + 1 == end) {
#pragma unroll
      for (int i = 0; i < kValuesEach; ++i) store<4>(bytes + i * kDim, state[i]);
    }
    __syncthreads();
    const HeadMoments moments = moments_of_head<kKeyLanes>(p.norm, of_keys(block.outputs));
    y = moments.normalised(y, block.parameters[kGain][value], block.parameters[kBias][value]);
    y = wkv7_finished(y, bonus, v, g);
    if (lane % 2 == 0) {
      p.y.row(t)[head + value] = y;
      leave<1>(p.left, t, head + value, Pack<float, 1>{{y}});
    }
  }
}

}  // namespace
}  // namespace wkv7_rows

void CudaOps::wkv7_mix(const Wkv7MixArgs& args, const Ragged& rows, const StateRows& states,
                       TensorView y) {
  using wkv7_rows::kDim;
  const Wkv7PrepareArgs& given = args.prepare;
  const bool first_layer = given.v_first.empty();
  const std::optional<HeadNorm> norm = norm_of_heads(args.norm, y.cols);
  const bool aligned =
      all_aligned4(args.r, given.w, given.a, given.k, given.k_k, given.k_a, args.r_k);
  if (rows.rows != rows.sequences || given.head_dim != kDim || !norm || !aligned)
    return Ops::wkv7_mix(args, rows, states, y);
  const auto floats = [](const ConstTensorView& x) { return static_cast<const float*>(x.data); };
  const LeftRows left = room_for_left(context_, y);
  const wkv7_rows::Decode p{
      matrix(args.r),
      matrix(ConstTensorView(given.w)),
      matrix(ConstTensorView(given.a)),
      matrix(ConstTensorView(given.k)),
      matrix(ConstTensorView(given.v)),
      matrix(args.g),
      first_layer ? Matrix32{} : matrix(given.v_gate),
      first_layer ? Matrix32{} : matrix(given.v_first),
      {floats(given.k_k), floats(given.k_a), floats(args.r_k), norm->gain, norm->bias},
      *norm,
      matrix(y),
      left.out,
  };
  launch(context_, "wkv7_mix",
         {dim3(static_cast<unsigned>(rows.sequences), static_cast<unsigned>(args.norm.groups)),
          dim3(wkv7_rows::kThreads), sizeof(wkv7_rows::Shared), true},
         wkv7_rows::wkv7_decode_kernel, p, rows, states);
  context_.leave(left);
}

}  // namespace trireme::cuda
