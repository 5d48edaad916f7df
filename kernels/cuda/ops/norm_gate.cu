// What follows a retention: each head's norm, and its gate. A warp has a head of a row, and asks
// for both at once. Moves 12 bytes a number, where norm and swiglu would move 20 in two launches;
// in decode it is a launch less, some 2 us of a layer (reckoned).
//
// nvcc 13.0: 28 registers, 37 for more than 128 elements, no spills.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/activation.cuh"
#include "kernels/cuda/device/norm.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;             // of a block
constexpr int64_t kHeadDimMax = 256;  // 8 numbers a lane

struct NormGate {
  Matrix32 gate;
  MatrixOut32 y;
  int32_t heads, head_dim, units;  // rows * heads
  bool layer;                      // NormKind::kLayer
  float epsilon;
  LeftOut left;  // of y
};

template <int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) norm_gate_kernel(NormGate c) {
  next_may_start();
  const int32_t unit = static_cast<int32_t>(blockIdx.x) * kWarps + warp_of_block();
  const bool mine = unit < c.units;
  const int32_t row = quotient(mine ? unit : 0, c.heads);
  const int32_t first = mine ? (unit - row * c.heads) * c.head_dim : 0;
  const HeldBy<4> by = {lane_of_warp(), kWarpSize, c.head_dim};
  const float* gate = c.gate.row(row) + first;
  float* y = c.y.row(row) + first;
  previous_done();
  if (!mine) return;
  Pack<float, 4> held[kPacks], gates[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
    held[p] = load<4>(y + by.at(p));
    gates[p] = load<4>(gate + by.at(p));
  }
  const float inverse = centre<false>(by, c.layer, c.epsilon, nullptr, held);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (!by.has(p)) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) held[p].at[i] = swiglu(gates[p].at[i], held[p].at[i] * inverse);
    store_out<4>(y + by.at(p), held[p]);
    leave<4>(c.left, row, first + by.at(p), held[p]);
  }
}

}  // namespace

void CudaOps::norm_gate(const NormArgs& args, ConstTensorView gate, TensorView y) {
  const int64_t head_dim = y.cols / args.groups;
  if (y.rows == 0 || head_dim > kHeadDimMax || head_dim % 4 != 0 || !all_aligned4(gate, y) ||
      !args.gain.empty() || !args.bias.empty())
    return Ops::norm_gate(args, gate, y);
  const LeftRows left = room_for_left(context_, y);
  const NormGate c{matrix(gate),
                   matrix(y),
                   args.groups,
                   static_cast<int32_t>(head_dim),
                   static_cast<int32_t>(y.rows * args.groups),
                   args.kind == NormKind::kLayer,
                   args.epsilon,
                   left.out};
  const Grid grid{dim3(static_cast<unsigned>(ceil_div(c.units, kWarps))), dim3(kWarps * kWarpSize),
                  0, true};
  launch(context_, "norm_gate", grid,
         head_dim <= 4 * kWarpSize ? norm_gate_kernel<1> : norm_gate_kernel<2>, c);
  context_.leave(left);
}

}  // namespace trireme::cuda
