#include "runtime/model/sublayers/rwkv7.h"

#include <algorithm>
#include <optional>
#include <string>

#include "runtime/model/sublayers/load_linear.h"
#include "runtime/model/sublayers/rwkv4.h"  // shift_state_bytes

namespace trireme {
namespace {

// The group norm after the recurrence has epsilon head_dim * 1e-5: the training kernel divides by 8
// before a norm of epsilon 1e-5, and 64 = 8^2. On trained weights it is most of the denominator.
float group_norm_epsilon(int32_t head_dim) { return 1e-5f * static_cast<float>(head_dim); }

Result<Buffer> load_mix(const SublayerContext& c) {
  const int64_t dim = c.spec.dim;
  if (c.has("mix")) return c.weights.vector(VectorSlice{c.name("mix"), 6, dim, {0, 6 * dim}});
  std::vector<VectorSlice> slices;
  for (const char* x : {"mix_r", "mix_w", "mix_k", "mix_v", "mix_a", "mix_g"})
    slices.push_back(whole_vector(c.name(x), dim));
  return c.weights.vector(slices);
}

}  // namespace

Result<Rwkv7TimeMix::Lora> Rwkv7TimeMix::load_lora(const SublayerContext& c, const char* letter,
                                                   int32_t rank, Range mine) {
  const int64_t dim = c.spec.dim;
  const std::string name = letter;
  Result<Matrix> down =
      c.weights.matrix(WeightSlice{c.name(name + "_down"), rank, dim, {0, rank}, {0, dim}, true},
                       MatrixRole::kLowRank);
  if (!down.ok()) return down.status();
  Result<Matrix> up = c.weights.matrix(
      WeightSlice{c.name(name + "_up"), dim, rank, mine, {0, rank}, true}, MatrixRole::kLowRank);
  if (!up.ok()) return up.status();
  Buffer bias;
  if (c.has(name + "_bias")) {
    Result<Buffer> loaded = c.weights.vector(VectorSlice{c.name(name + "_bias"), 1, dim, mine});
    if (!loaded.ok()) return loaded.status();
    bias = loaded.take();
  }
  return Lora{Linear(c.device.ops(), down.take()),
              Linear(c.device.ops(), up.take(), std::move(bias))};
}

Result<std::unique_ptr<Sublayer>> Rwkv7TimeMix::make(const SublayerContext& c) {
  const HeadSpec& h = c.sublayer.heads;
  const int64_t dim = c.spec.dim;
  const Range mine = shard_units(dim, h.head_dim, c.shard, c.shard_count);
  const Range all{0, dim};
  auto sub = std::make_unique<Rwkv7TimeMix>();
  sub->ops_ = &c.device.ops();
  sub->first_layer_ = c.sublayer.layer == 0;
  sub->dim_ = dim;
  sub->channels_ = mine.count;
  sub->head_dim_ = h.head_dim;
  Result<Buffer> mix = load_mix(c);
  if (!mix.ok()) return mix.status();
  sub->mix_ = mix.take();

  struct Vector {
    const char* name;
    int64_t rows;
    Buffer* target;
  };
  for (const Vector& v :
       {Vector{"k_k", 1, &sub->k_k_}, Vector{"k_a", 1, &sub->k_a_},
        Vector{"r_k", h.heads, &sub->r_k_}, Vector{"group_norm_weight", 1, &sub->norm_gain_},
        Vector{"group_norm_bias", 1, &sub->norm_bias_}}) {
    Result<Buffer> loaded =
        c.weights.vector(VectorSlice{c.name(v.name), v.rows, dim / v.rows, mine});
    if (!loaded.ok()) return loaded.status();
    *v.target = loaded.take();
  }
  struct LowRank {
    const char* letter;
    int32_t rank;
    Lora* target;
  };
  const LoraRanks& ranks = c.spec.lora;
  for (const LowRank& l :
       {LowRank{"w", ranks.decay, &sub->decay_}, LowRank{"a", ranks.a, &sub->a_},
        LowRank{"g", ranks.gate, &sub->gate_}, LowRank{"v", ranks.v, &sub->v_}}) {
    if (sub->first_layer_ && l.target == &sub->v_) continue;
    Result<Lora> loaded = load_lora(c, l.letter, l.rank, mine);
    if (!loaded.ok()) return loaded.status();
    *l.target = loaded.take();
  }
  struct Projection {
    const char* name;
    Linear* target;
  };
  for (const Projection& p : {Projection{"receptance", &sub->receptance_},
                              Projection{"key", &sub->key_}, Projection{"value", &sub->value_}}) {
    Result<Linear> loaded = load_linear(c, p.name, dim, dim, mine, all);
    if (!loaded.ok()) return loaded.status();
    *p.target = loaded.take();
  }
  Result<Linear> output = load_linear(c, "output", dim, dim, all, mine);
  if (!output.ok()) return output.status();
  sub->output_ = RowParallelLinear(output.take(), c.shards);
  return std::unique_ptr<Sublayer>(std::move(sub));
}

int64_t Rwkv7TimeMix::scratch_cols() const {
  const int64_t low_rank =
      decay_.down.outputs() + a_.down.outputs() + v_.down.outputs() + gate_.down.outputs();
  return 6 * dim_ + 9 * channels_ + low_rank;
}

Status Rwkv7TimeMix::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const int64_t rows = input.y.rows;
  const TensorView mixed = step.scratch.take(rows, 6 * dim_);
  ops_->norm_shift_mix(input, step.batch.rows, step.state.fixed, float_rows(mix_, 6, dim_), mixed);
  const auto x = [&](int i) { return mixed.col_range(i * dim_, dim_); };  // r w k v a g
  const auto take = [&] { return step.scratch.take(rows, channels_); };

  const TensorView r = take(), w = take(), k = take(), a = take(), b = take(), g = take();
  const TensorView v = first_layer_ ? step.carry.side : take();
  const TensorView v_gate = first_layer_ ? TensorView{} : take();
  // Everything that reads the mixed rows, then everything that comes out of low rank: two calls,
  // so that the small products run beside the large ones.
  struct LowRank {
    const Lora& lora;
    int of;  // x(of)
    std::optional<Activation> inner;
    TensorView y;
  };
  const LowRank low_ranks[] = {{decay_, 1, Activation::kTanh, w},
                               {a_, 4, std::nullopt, a},
                               {gate_, 5, Activation::kSigmoid, g},
                               {v_, 3, std::nullopt, v_gate}};
  LinearCall downs[7] = {
      {x(0), receptance_.view(), r, {}}, {x(2), key_.view(), k, {}}, {x(3), value_.view(), v, {}}};
  LinearCall ups[4];
  const size_t count = first_layer_ ? 3 : 4;
  int64_t ranks = 0;
  for (size_t i = 0; i < count; ++i) ranks += low_ranks[i].lora.down.outputs();
  const TensorView low_rows = step.scratch.take(rows, ranks);  // side by side
  int64_t first = 0;
  for (size_t i = 0; i < count; ++i) {
    const LowRank& l = low_ranks[i];
    const TensorView low = low_rows.col_range(first, l.lora.down.outputs());
    first += low.cols;
    downs[3 + i] = {x(l.of), l.lora.down.view(), low, l.inner};
    ups[i] = {low, l.lora.up.view(), l.y, {}};
  }
  ops_->linears({downs, 3 + count});
  ops_->linears({ups, count});

  Wkv7MixArgs mix;
  Wkv7PrepareArgs& prepare = mix.prepare;
  prepare.w = w;
  prepare.a = a;
  prepare.b = b;
  prepare.k = k;
  prepare.v = v;
  prepare.k_k = float_rows(k_k_, 1, channels_);
  prepare.k_a = float_rows(k_a_, 1, channels_);
  prepare.head_dim = head_dim_;
  if (!first_layer_) {
    prepare.v_gate = v_gate;
    prepare.v_first = step.carry.side;
  }
  mix.r = r;
  mix.g = g;
  mix.r_k = float_rows(r_k_, 1, channels_);
  mix.norm = NormArgs{NormKind::kLayer, group_norm_epsilon(head_dim_),
                      static_cast<int32_t>(channels_ / head_dim_),
                      float_rows(norm_gain_, 1, channels_), float_rows(norm_bias_, 1, channels_)};
  StateRows recurrence = step.state.fixed;
  recurrence.offset += shift_state_bytes(dim_);
  const TensorView y = take();
  ops_->wkv7_mix(mix, step.batch.rows, recurrence, y);
  return output_.forward(y, delta);
}

Result<std::unique_ptr<Sublayer>> Rwkv7ChannelMix::make(const SublayerContext& c) {
  const int64_t dim = c.spec.dim;
  const int64_t ffn = c.sublayer.ffn_dim;
  const Range mine = shard_width(ffn, c.shard, c.shard_count);
  auto sub = std::make_unique<Rwkv7ChannelMix>();
  sub->ops_ = &c.device.ops();
  sub->dim_ = dim;
  Result<Buffer> mix = c.weights.vector(whole_vector(c.name("mix_k"), dim));
  if (!mix.ok()) return mix.status();
  sub->mix_ = mix.take();
  Result<Linear> key = load_linear(c, "key", ffn, dim, mine, {0, dim});
  if (!key.ok()) return key.status();
  Result<Linear> value = load_linear(c, "value", dim, ffn, {0, dim}, mine);
  if (!value.ok()) return value.status();
  sub->key_ = key.take();
  sub->value_ = RowParallelLinear(value.take(), c.shards);
  return std::unique_ptr<Sublayer>(std::move(sub));
}

Status Rwkv7ChannelMix::forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) {
  const TensorView mixed = step.scratch.take(input.y.rows, dim_);
  ops_->norm_shift_mix(input, step.batch.rows, step.state.fixed, float_rows(mix_, 1, dim_), mixed);
  const TensorView k = step.scratch.take(input.y.rows, key_.outputs());
  ops_->feed_forward(FeedForward::kReluSquared, mixed, key_.view(), value_.view(), k, delta);
  return value_.reduce(delta);
}

}  // namespace trireme
