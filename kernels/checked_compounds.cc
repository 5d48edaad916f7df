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

void CheckedOps::check_residual_norm(const ResidualNorm& in) const {
  if (in.delta.rows > 0) {
    check_matrix("delta", in.delta, in.x.rows, in.x.cols);
    check_disjoint("residual_norm", in.x, {in.delta});
    check_disjoint("residual_norm", in.y, {in.delta});
  }
  check_norm(in.x, in.norm, in.y);
  check_disjoint("residual_norm", in.y, {in.x});
}

void CheckedOps::check_residual(const TensorView& delta, const TensorView& residual) const {
  if (residual.rows == 0) return;
  check_matrix("residual", residual, delta.rows, delta.cols);
  check_disjoint("residual", residual, {delta});
}

void CheckedOps::norm_shift_mix(const ResidualNorm& in, const Ragged& rows, const StateRows& states,
                                ConstTensorView mix, TensorView out) {
  check_residual_norm(in);
  check_shift_mix(in.y, rows, states, mix, out);
  check_disjoint("norm_shift_mix", out, {in.delta, in.x});
  ops_->norm_shift_mix(in, rows, states, mix, out);
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

void CheckedOps::norm_linears(const ResidualNorm& in, std::span<const LinearCall> calls) {
  check_residual_norm(in);
  for (const LinearCall& call : calls) {
    CHECK(call.x.data == in.y.data && call.x.rows == in.y.rows && call.x.cols == in.y.cols)
        << "norm_linears: a product of other rows";
    check_linear(call.x, call.w, call.y);
    check_disjoint("norm_linears", call.y, {in.delta, in.x, in.y});
    for (const LinearCall& other : calls) {
      if (&other != &call) check_disjoint("norm_linears", call.y, {other.y, other.w.bias});
    }
  }
  ops_->norm_linears(in, calls);
}

bool CheckedOps::linear_add(ConstTensorView x, const WeightView& w, TensorView delta,
                            const Residual& residual) {
  check_linear(x, w, delta);
  check_residual(delta, residual.x);
  check_disjoint("linear_add", residual.x, {x, w.bias});
  return ops_->linear_add(x, w, delta, residual);
}

void CheckedOps::check_feed_forward(FeedForward kind, const ConstTensorView& x,
                                    const WeightView& up, const WeightView& down,
                                    const TensorView& inner, const TensorView& y) const {
  check_linear(x, up, inner);
  const bool gated = kind == FeedForward::kSwiglu;
  CHECK(!gated || up.rows % 2 == 0) << "feed_forward: " << up.rows << " rows of gate and up";
  check_linear(gated ? inner.col_range(0, inner.cols / 2) : inner, down, y);
  check_disjoint("feed_forward", inner, {x, down.bias});
  check_disjoint("feed_forward", y, {x, inner, up.bias});
}

void CheckedOps::feed_forward(FeedForward kind, ConstTensorView x, const WeightView& up,
                              const WeightView& down, TensorView inner, TensorView y) {
  check_feed_forward(kind, x, up, down, inner, y);
  ops_->feed_forward(kind, x, up, down, inner, y);
}

bool CheckedOps::norm_feed_forward(const ResidualNorm& in, FeedForward kind, const WeightView& up,
                                   const WeightView& down, TensorView inner, TensorView delta,
                                   const Residual& residual) {
  check_residual_norm(in);
  check_feed_forward(kind, in.y, up, down, inner, delta);
  check_disjoint("norm_feed_forward", inner, {in.delta, in.x});
  check_residual(delta, residual.x);
  check_disjoint("norm_feed_forward", residual.x, {in.y, inner, up.bias, down.bias});
  return ops_->norm_feed_forward(in, kind, up, down, inner, delta, residual);
}

void CheckedOps::norm_gate(const NormArgs& args, ConstTensorView gate, TensorView y) {
  check_norm(y, args, y);
  check_matrix("norm_gate: gate", gate, y.rows, y.cols);
  check_disjoint("norm_gate", y, {gate});
  ops_->norm_gate(args, gate, y);
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

void CheckedOps::rope_attend(const RopeAttendArgs& args, const Ragged& rows, const KvView& cache,
                             TensorView out) {
  const auto check_heads = [&](const TensorView& x, const ConstTensorView& gain) {
    if (args.cos_sin.rows > 0) check_rope(args.cos_sin, cache.head_dim, x);
    if (gain.rows == 0) return;
    check_matrix("rope_attend: gain", gain, 1, cache.head_dim);
    check_disjoint("rope_attend", x, {gain});
  };
  check_heads(args.q, args.q_gain);
  if (args.k.rows > 0) {
    check_heads(args.k, args.k_gain);
    check_store(args.k, args.v, rows, cache);
    check_disjoint("rope_attend", args.q, {args.k, args.v});
    check_disjoint("rope_attend", args.k, {args.v});
    check_disjoint("rope_attend", out, {args.k, args.v});
  }
  check_attend(args.q, rows, cache, out);
  ops_->rope_attend(args, rows, cache, out);
}

void CheckedOps::check_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                                   const TensorView& y) const {
  check_norm(y, norm_args, y);
  check_finish(args, y);
  CHECK(int64_t{norm_args.groups} * args.head_dim == y.cols)
      << "wkv7_norm_finish: " << norm_args.groups << " groups of " << args.head_dim << " in "
      << y.cols << " columns";
}

void CheckedOps::wkv7_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                                  TensorView y) {
  check_norm_finish(norm_args, args, y);
  ops_->wkv7_norm_finish(norm_args, args, y);
}

void CheckedOps::wkv7_mix(const Wkv7MixArgs& args, const Ragged& rows, const StateRows& states,
                          TensorView y) {
  const Wkv7PrepareArgs& p = args.prepare;
  check_prepare(p);
  check_wkv7(args.recurrence(), rows, states, y);
  check_norm_finish(args.norm, args.finish(), y);
  for (const TensorView& x : {p.w, p.a, p.b, p.k, p.v})
    check_disjoint("wkv7_mix", x, {args.r, args.g});
  check_disjoint("wkv7_mix", y, {p.v_gate, p.v_first, p.k_k, p.k_a});
  ops_->wkv7_mix(args, rows, states, y);
}

}  // namespace trireme
