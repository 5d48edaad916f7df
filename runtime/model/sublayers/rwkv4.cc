#include "runtime/model/sublayers/rwkv4.h"

#include <cmath>

#include "runtime/model/sublayers/load_linear.h"

namespace trireme {
namespace {

float one_minus(float x) { return 1.0f - x; }
float negative_exp(float x) { return -std::exp(x); }

// Mixing weights of the previous row: RWKV-4 files hold those of the current one.
Result<Buffer> load_mix(const SublayerContext& c, std::initializer_list<const char*> names) {
  std::vector<VectorSlice> slices;
  for (const char* name : names) {
    slices.push_back(whole_vector(c.name(name), c.spec.dim));
    slices.back().map = one_minus;
  }
  return c.weights.vector(slices);
}

}  // namespace

Result<std::unique_ptr<Sublayer>> Rwkv4TimeMix::make(const SublayerContext& c) {
  const int64_t dim = c.spec.dim;
  const int64_t channels = c.spec.attention_dim;
  const Range mine = shard_width(channels, c.shard, c.shard_count);
  const Range all{0, dim};
  auto sub = std::make_unique<Rwkv4TimeMix>();
  sub->ops_ = &c.device.ops();
  sub->dim_ = dim;

  Result<Buffer> mix = load_mix(c, {"mix_k", "mix_v", "mix_r"});
  if (!mix.ok()) return mix.status();
  sub->mix_ = mix.take();
  Result<Buffer> decay =
      c.weights.vector(VectorSlice{c.name("decay"), 1, channels, mine, negative_exp});
  if (!decay.ok()) return decay.status();
  sub->decay_ = decay.take();
  Result<Buffer> first = c.weights.vector(VectorSlice{c.name("first"), 1, channels, mine});
  if (!first.ok()) return first.status();
  sub->first_ = first.take();

  Result<Linear> key = load_linear(c, "key", channels, dim, mine, all);
  if (!key.ok()) return key.status();
  Result<Linear> value = load_linear(c, "value", channels, dim, mine, all);
  if (!value.ok()) return value.status();
  Result<Linear> receptance = load_linear(c, "receptance", channels, dim, mine, all);
  if (!receptance.ok()) return receptance.status();
  Result<Linear> output = load_linear(c, "output", dim, channels, all, mine);
  if (!output.ok()) return output.status();
  sub->key_ = key.take();
  sub->value_ = value.take();
  sub->receptance_ = receptance.take();
  sub->output_ = RowParallelLinear(output.take(), c.shards);
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status Rwkv4TimeMix::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const int64_t rows = input.y.rows;
  const int64_t channels = key_.outputs();
  const TensorView mixed = step.scratch.take(rows, 3 * dim_);
  ops_->norm_shift_mix(input, step.batch.rows, step.state.fixed, float_rows(mix_, 3, dim_), mixed);
  const TensorView k = step.scratch.take(rows, channels);
  const TensorView v = step.scratch.take(rows, channels);
  const TensorView r = step.scratch.take(rows, channels);
  const LinearCall calls[] = {{mixed.col_range(0, dim_), key_.view(), k, {}},
                              {mixed.col_range(dim_, dim_), value_.view(), v, {}},
                              {mixed.col_range(2 * dim_, dim_), receptance_.view(), r, {}}};
  ops_->linears(calls);
  Wkv4Args args;
  args.k = k;
  args.v = v;
  args.r = r;
  args.w = float_rows(decay_, 1, channels);
  args.u = float_rows(first_, 1, channels);
  StateRows recurrence = step.state.fixed;
  recurrence.offset += shift_state_bytes(dim_);
  const TensorView out = step.scratch.take(rows, channels);
  ops_->wkv4(args, step.batch.rows, recurrence, out);
  return output_.forward(out, delta);
}

Result<std::unique_ptr<Sublayer>> Rwkv4ChannelMix::make(const SublayerContext& c) {
  const int64_t dim = c.spec.dim;
  const int64_t ffn = c.sublayer.ffn_dim;
  const Range mine = shard_width(ffn, c.shard, c.shard_count);
  const Range all{0, dim};
  auto sub = std::make_unique<Rwkv4ChannelMix>();
  sub->ops_ = &c.device.ops();
  sub->dim_ = dim;
  Result<Buffer> mix = load_mix(c, {"mix_k", "mix_r"});
  if (!mix.ok()) return mix.status();
  sub->mix_ = mix.take();
  Result<Linear> key = load_linear(c, "key", ffn, dim, mine, all);
  if (!key.ok()) return key.status();
  Result<Linear> value = load_linear(c, "value", dim, ffn, all, mine);
  if (!value.ok()) return value.status();
  Result<Linear> receptance = load_linear(c, "receptance", dim, dim, all, all);
  if (!receptance.ok()) return receptance.status();
  sub->key_ = key.take();
  sub->value_ = RowParallelLinear(value.take(), c.shards);
  sub->receptance_ = receptance.take();
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status Rwkv4ChannelMix::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const int64_t rows = input.y.rows;
  const TensorView mixed = step.scratch.take(rows, 2 * dim_);
  ops_->norm_shift_mix(input, step.batch.rows, step.state.fixed, float_rows(mix_, 2, dim_), mixed);
  const TensorView k = step.scratch.take(rows, key_.outputs());
  const TensorView r = step.scratch.take(rows, dim_);
  const LinearCall calls[] = {
      {mixed.col_range(0, dim_), key_.view(), k, Activation::kReluSquared},
      {mixed.col_range(dim_, dim_), receptance_.view(), r, Activation::kSigmoid}};
  ops_->linears(calls);
  if (Status s = value_.forward(k, delta); !s.ok()) return s;
  ops_->multiply(r, delta);
  return Status::ok_status();
}

}  // namespace trireme
