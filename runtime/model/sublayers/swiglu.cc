#include "runtime/model/sublayers/swiglu.h"

namespace trireme {

Result<std::unique_ptr<Sublayer>> SwiGlu::make(const SublayerContext& c) {
  const int64_t dim = c.spec.dim;
  const int64_t ffn = c.sublayer.ffn_dim;
  const Range mine = shard_width(ffn, c.shard, c.shard_count);
  auto sub = std::make_unique<SwiGlu>();
  sub->ops_ = &c.device.ops();

  const WeightSlice weights[] = {{c.name("gate"), ffn, dim, mine, {0, dim}},
                                 {c.name("up"), ffn, dim, mine, {0, dim}}};
  Result<Matrix> gate_up = c.weights.matrix(weights);
  if (!gate_up.ok()) return gate_up.status();
  Result<Matrix> down = c.weights.matrix(WeightSlice{c.name("down"), dim, ffn, {0, dim}, mine});
  if (!down.ok()) return down.status();
  Buffer gate_up_bias, down_bias;
  if (c.sublayer.ffn_bias) {
    const VectorSlice biases[] = {{c.name("gate_bias"), 1, ffn, mine},
                                  {c.name("up_bias"), 1, ffn, mine}};
    Result<Buffer> loaded = c.weights.vector(biases);
    if (!loaded.ok()) return loaded.status();
    gate_up_bias = loaded.take();
    if (c.shard == 0) {  // once in the sum over shards
      loaded = c.weights.vector(whole_vector(c.name("down_bias"), dim));
      if (!loaded.ok()) return loaded.status();
      down_bias = loaded.take();
    }
  }
  sub->gate_up_ = Linear(c.device.ops(), gate_up.take(), std::move(gate_up_bias));
  sub->down_ =
      RowParallelLinear(Linear(c.device.ops(), down.take(), std::move(down_bias)), c.shards);
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status SwiGlu::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const TensorView inner = step.scratch.take(input.y.rows, gate_up_.outputs());
  step.added = ops_->norm_feed_forward(input, FeedForward::kSwiglu, gate_up_.view(), down_.view(),
                                       inner, delta, down_.residual(step.carry.x));
  return down_.reduce(step.added ? step.carry.x : delta);
}

}  // namespace trireme
