// The matrix product of the CPU backend and the look-up in a packed table.
//
// Who calls it: CpuOps, from the caller of `pool`. Weights are packed (packed_matrix.h).
// INVARIANT (Row law): the bits of y[t] depend on x[t] and w alone: not on the other rows, not on
// the size of the pool, not on the Isa. See Ops::linear for the order of summation.
#pragma once

#include <cstdint>

#include "kernels/base/tensor.h"
#include "kernels/cpu/features.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace trireme {

// y = x transpose(w) + bias, as Ops::linear.
// REQUIRES: x is f32 [rows, w.cols], y is f32 [rows, w.rows], y overlaps neither x nor w; the bias
// is contiguous f32; isa_supported(isa).
void linear(ThreadPool& pool, Isa isa, ConstTensorView x, const WeightView& w, TensorView y);

// As Ops::embed. REQUIRES: y is f32 [count, table.cols].
void embed(ThreadPool& pool, Isa isa, const WeightView& table, const int32_t* ids, int32_t count,
           int32_t first_id, float scale, TensorView y);

}  // namespace trireme
