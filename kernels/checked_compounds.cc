// The compounds of ops.h: what their parts require, and what comes on top.
#include "kernels/base/check.h"
#include "kernels/checked_ops.h"
#include "kernels/overlap.h"

namespace trireme {

void CheckedOps::add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) {
  check_matrix("add_norm: delta", delta, x.rows, x.cols);
  check_norm(x, args, y);
  check_disjoint("add_norm", x, {delta});
  check_disjoint("add_norm", y, {delta, x});
  ops_->add_norm(delta, x, args, y);
}

void CheckedOps::linears(std::span<const LinearCall> calls) {
  for (const LinearCall& call : calls) {
    check_linear(call.x, call.w, call.y);
    for (const LinearCall& other : calls) {
      if (&other != &call) check_disjoint("linears", call.y, {other.x, other.y, other.w.bias});
    }
  }
  ops_->linears(calls);
}

void CheckedOps::linear_swiglu(ConstTensorView x, const WeightView& gate_up, TensorView both,
                               TensorView y) {
  check_linear(x, gate_up, both);
  CHECK(gate_up.rows % 2 == 0) << "linear_swiglu: " << gate_up.rows << " rows of gate and up";
  check_matrix("linear_swiglu: y", y, x.rows, gate_up.rows / 2);
  check_disjoint("linear_swiglu", y, {x, gate_up.bias});
  CHECK(same(both.col_range(0, y.cols), y) || disjoint(both, y))
      << "linear_swiglu: y overlaps `both` and is not its first half";
  ops_->linear_swiglu(x, gate_up, both, y);
}

void CheckedOps::rope_store(ConstTensorView cos_sin, RopeStyle style, TensorView q, TensorView k,
                            ConstTensorView v, const Ragged& rows, const KvView& cache) {
  check_rope(cos_sin, cache.head_dim, q);
  check_rope(cos_sin, cache.head_dim, k);
  check_store(k, v, rows, cache);
  check_disjoint("rope_store", q, {k, v});
  check_disjoint("rope_store", k, {v});
  ops_->rope_store(cos_sin, style, q, k, v, rows, cache);
}

}  // namespace trireme
