#include "runtime/model/sublayers/retention.h"

#include <cmath>

#include "runtime/model/sublayers/attention.h"

namespace trireme {

Result<std::unique_ptr<Sublayer>> Retention::make(const SublayerContext& c) {
  const HeadSpec& h = c.sublayer.heads;
  const int64_t dim = c.spec.dim;
  const int64_t inner = int64_t{h.heads} * h.head_dim;
  const Range heads = shard_range(h.heads, c.shard, c.shard_count);
  const Range mine = head_rows(heads, h.head_dim);
  auto sub = std::make_unique<Retention>();
  sub->ops_ = &c.device.ops();
  sub->heads_ = h;
  sub->rope_style_ = h.rope < 0 ? RopeStyle::kHalves : c.spec.ropes[h.rope].style;
  sub->norm_epsilon_ = c.spec.norm_epsilon;
  sub->gate_normalizer_ = c.sublayer.gate_normalizer;
  sub->shard_heads_ = static_cast<int32_t>(heads.count);

  const Range all{0, dim};
  const WeightSlice weights[] = {{c.name("q"), inner, dim, mine, all},
                                 {c.name("k"), inner, dim, mine, all},
                                 {c.name("v"), inner, dim, mine, all},
                                 {c.name("gate"), inner, dim, mine, all}};
  Result<Matrix> qkvg = c.weights.matrix(weights);
  if (!qkvg.ok()) return qkvg.status();
  Result<Matrix> decay = c.weights.matrix(WeightSlice{c.name("decay"), h.heads, dim, heads, all},
                                          MatrixRole::kLowRank);
  if (!decay.ok()) return decay.status();
  Result<Matrix> output = c.weights.matrix(WeightSlice{c.name("output"), dim, inner, all, mine});
  if (!output.ok()) return output.status();
  sub->qkvg_ = Linear(c.device.ops(), qkvg.take());
  sub->decay_ = Linear(c.device.ops(), decay.take());
  sub->output_ = RowParallelLinear(Linear(c.device.ops(), output.take()), c.shards);
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status Retention::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const TensorView qkvg = step.scratch.take(input.y.rows, qkvg_.outputs());
  const TensorView decay = step.scratch.take(input.y.rows, decay_.outputs());
  const LinearCall products[] = {{input.y, qkvg_.view(), qkvg, {}},
                                 {input.y, decay_.view(), decay, {}}};
  ops_->norm_linears(input, products);
  const int64_t inner = qkvg_.outputs() / 4;
  const TensorView q = qkvg.col_range(0, inner);
  const TensorView k = qkvg.col_range(inner, inner);
  const TensorView v = qkvg.col_range(2 * inner, inner);
  const TensorView gate = qkvg.col_range(3 * inner, inner);
  if (heads_.rope >= 0) {  // of q and k at once, which lie side by side
    ops_->rope(step.batch.rope_tables[heads_.rope], rope_style_, heads_.head_dim,
               qkvg.col_range(0, 2 * inner));
  }
  RetentionArgs args;
  args.q = q;
  args.k = k;
  args.v = v;
  args.gate = decay;
  args.heads = shard_heads_;
  args.head_dim = heads_.head_dim;
  args.gate_normalizer = gate_normalizer_;
  args.k_scale = 1.0f / std::sqrt(static_cast<float>(heads_.head_dim));
  const TensorView mixed = step.scratch.take(input.y.rows, inner);
  ops_->retention(args, step.batch.rows, step.state.fixed, mixed);
  ops_->norm_gate(NormArgs{NormKind::kRms, norm_epsilon_, shard_heads_, {}, {}}, gate, mixed);
  return output_.forward_add(mixed, delta, step.carry.x, step.added);
}

}  // namespace trireme
