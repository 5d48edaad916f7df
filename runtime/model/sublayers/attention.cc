#include "runtime/model/sublayers/attention.h"

#include <cmath>

namespace trireme {
namespace {

RopeStyle rope_style(const SublayerContext& c) {
  const int32_t rope = c.sublayer.heads.rope;
  return rope < 0 ? RopeStyle::kHalves : c.spec.ropes[rope].style;
}

void rotate(Ops& ops, const HeadSpec& heads, RopeStyle style, const StepBatch& batch,
            TensorView x) {
  if (heads.rope >= 0) ops.rope(batch.rope_tables[heads.rope], style, heads.head_dim, x);
}

// Without anything to store.
RopeAttendArgs attend_args(const HeadSpec& heads, RopeStyle style, const StepBatch& batch,
                           TensorView q) {
  RopeAttendArgs args;
  if (heads.rope >= 0) args.cos_sin = batch.rope_tables[heads.rope];
  args.style = style;
  args.scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
  args.q = q;
  return args;
}

Result<RowParallelLinear> make_output(const SublayerContext& c, int64_t inputs, Range slice) {
  const int64_t dim = c.spec.dim;
  Result<Matrix> weight =
      c.weights.matrix(WeightSlice{c.name("output"), dim, inputs, {0, dim}, slice});
  if (!weight.ok()) return weight.status();
  if (!c.sublayer.heads.output_bias || c.shard != 0) {
    return RowParallelLinear(Linear(c.device.ops(), weight.take()), c.shards);
  }
  Result<Buffer> bias = c.weights.vector(whole_vector(c.name("output_bias"), dim));
  if (!bias.ok()) return bias.status();
  return RowParallelLinear(Linear(c.device.ops(), weight.take(), bias.take()), c.shards);
}

}  // namespace

Result<std::unique_ptr<Sublayer>> Attention::make(const SublayerContext& c) {
  const HeadSpec& h = c.sublayer.heads;
  const HeadRanges mine = split_heads(h.heads, h.kv_heads, c.shard, c.shard_count);
  const Range q = head_rows(mine.query, h.head_dim);
  const Range kv = head_rows(mine.kv, h.head_dim);
  const int64_t q_rows = int64_t{h.heads} * h.head_dim;
  const int64_t kv_rows = int64_t{h.kv_heads} * h.head_dim;
  const Range all{0, c.spec.dim};

  auto sub = std::make_unique<Attention>();
  sub->ops_ = &c.device.ops();
  sub->heads_ = h;
  sub->rope_style_ = rope_style(c);
  sub->norm_epsilon_ = c.spec.norm_epsilon;
  sub->query_cols_ = q.count;
  sub->kv_cols_ = kv.count;
  const WeightSlice weights[] = {{c.name("q"), q_rows, c.spec.dim, q, all},
                                 {c.name("k"), kv_rows, c.spec.dim, kv, all},
                                 {c.name("v"), kv_rows, c.spec.dim, kv, all}};
  Result<Matrix> qkv = c.weights.matrix(weights);
  if (!qkv.ok()) return qkv.status();
  Buffer bias;
  if (h.qkv_bias) {
    const VectorSlice biases[] = {{c.name("q_bias"), 1, q_rows, q},
                                  {c.name("k_bias"), 1, kv_rows, kv},
                                  {c.name("v_bias"), 1, kv_rows, kv}};
    Result<Buffer> loaded = c.weights.vector(biases);
    if (!loaded.ok()) return loaded.status();
    bias = loaded.take();
  }
  sub->qkv_ = Linear(c.device.ops(), qkv.take(), std::move(bias));
  if (h.qk_norm) {
    Result<Buffer> q_norm = c.weights.vector(whole_vector(c.name("q_norm"), h.head_dim));
    if (!q_norm.ok()) return q_norm.status();
    Result<Buffer> k_norm = c.weights.vector(whole_vector(c.name("k_norm"), h.head_dim));
    if (!k_norm.ok()) return k_norm.status();
    sub->q_norm_ = q_norm.take();
    sub->k_norm_ = k_norm.take();
  }
  Result<RowParallelLinear> output = make_output(c, q_rows, q);
  if (!output.ok()) return output.status();
  sub->output_ = output.take();
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status Attention::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const TensorView qkv = step.scratch.take(input.y.rows, qkv_.outputs());
  const LinearCall product{input.y, qkv_.view(), qkv, {}};
  ops_->norm_linears(input, {&product, 1});
  const TensorView q = qkv.col_range(0, query_cols_);
  const TensorView k = qkv.col_range(query_cols_, kv_cols_);
  const TensorView v = qkv.col_range(query_cols_ + kv_cols_, kv_cols_);
  const TensorView mixed = step.scratch.take(input.y.rows, query_cols_);
  RopeAttendArgs args = attend_args(heads_, rope_style_, step.batch, q);
  args.k = k;
  args.v = v;
  if (heads_.qk_norm) {
    args.norm_epsilon = norm_epsilon_;
    args.q_gain = float_rows(q_norm_, 1, heads_.head_dim);
    args.k_gain = float_rows(k_norm_, 1, heads_.head_dim);
  }
  ops_->rope_attend(args, step.batch.rows, step.state.kv, mixed);
  return output_.forward_add(mixed, delta, step.carry.x, step.added);
}

Result<std::unique_ptr<Sublayer>> MakeSharedKv::make(const SublayerContext& c) {
  const HeadSpec& h = c.sublayer.heads;
  const Range kv =
      head_rows(split_heads(h.heads, h.kv_heads, c.shard, c.shard_count).kv, h.head_dim);
  const int64_t kv_rows = int64_t{h.kv_heads} * h.head_dim;
  auto sub = std::make_unique<MakeSharedKv>();
  sub->ops_ = &c.device.ops();
  sub->heads_ = h;
  sub->rope_style_ = rope_style(c);
  const WeightSlice weights[] = {{c.name("k"), kv_rows, c.spec.dim, kv, {0, c.spec.dim}},
                                 {c.name("v"), kv_rows, c.spec.dim, kv, {0, c.spec.dim}}};
  Result<Matrix> matrix = c.weights.matrix(weights);
  if (!matrix.ok()) return matrix.status();
  sub->kv_ = Linear(c.device.ops(), matrix.take());
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status MakeSharedKv::forward(const ResidualNorm& input, SublayerStep& step, TensorView /*delta*/) {
  const LinearCall product{input.y, kv_.view(), step.carry.side, {}};
  ops_->norm_linears(input, {&product, 1});
  rotate(*ops_, heads_, rope_style_, step.batch, step.carry.side.col_range(0, kv_.outputs() / 2));
  return Status::ok_status();
}

Result<std::unique_ptr<Sublayer>> StoreSharedKv::make(const SublayerContext& c) {
  auto sub = std::make_unique<StoreSharedKv>();
  sub->ops_ = &c.device.ops();
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status StoreSharedKv::forward(const ResidualNorm& /*input*/, SublayerStep& step,
                              TensorView /*delta*/) {
  const TensorView& side = step.carry.side;
  const int64_t half = side.cols / 2;
  ops_->store_kv(side.col_range(0, half), side.col_range(half, half), step.batch.rows,
                 step.state.kv);
  return Status::ok_status();
}

Result<std::unique_ptr<Sublayer>> SharedAttention::make(const SublayerContext& c) {
  const HeadSpec& h = c.sublayer.heads;
  const Range q =
      head_rows(split_heads(h.heads, h.kv_heads, c.shard, c.shard_count).query, h.head_dim);
  const int64_t q_rows = int64_t{h.heads} * h.head_dim;
  auto sub = std::make_unique<SharedAttention>();
  sub->ops_ = &c.device.ops();
  sub->heads_ = h;
  sub->rope_style_ = rope_style(c);
  Result<Matrix> query =
      c.weights.matrix(WeightSlice{c.name("q"), q_rows, c.spec.dim, q, {0, c.spec.dim}});
  if (!query.ok()) return query.status();
  sub->query_ = Linear(c.device.ops(), query.take());
  Result<RowParallelLinear> output = make_output(c, q_rows, q);
  if (!output.ok()) return output.status();
  sub->output_ = output.take();
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status SharedAttention::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const TensorView q = step.scratch.take(input.y.rows, query_.outputs());
  const LinearCall product{input.y, query_.view(), q, {}};
  ops_->norm_linears(input, {&product, 1});
  const TensorView mixed = step.scratch.take(input.y.rows, query_.outputs());
  ops_->rope_attend(attend_args(heads_, rope_style_, step.batch, q), step.batch.rows, step.state.kv,
                    mixed);
  return output_.forward_add(mixed, delta, step.carry.x, step.added);
}

}  // namespace trireme
