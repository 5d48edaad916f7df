// RWKV-7's two halves (arXiv 2503.14456; RWKV-LM RWKV-v7/rwkv_v7_demo.py), cut by whole heads.
#pragma once

#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

// State: the previous row [dim] f32, then S [heads][head_dim][head_dim] f32 of this shard's heads.
// Side: the first layer's value [rows, this shard's channels]; an activation, not a state, so it
// crosses pipeline stages with the residual stream.
class Rwkv7TimeMix final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override;
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  // up(activation(down(x))) + bias: down is whole on every shard, up holds this shard's channels.
  struct Lora {
    Linear down, up;
  };
  static Result<Lora> load_lora(const SublayerContext& c, const char* letter, int32_t rank,
                                Range mine);

  Ops* ops_ = nullptr;
  bool first_layer_ = false;
  int64_t dim_ = 0;
  int64_t channels_ = 0;  // this shard's
  int32_t head_dim_ = 0;
  Buffer mix_;              // [6, dim]: r, w, k, v, a, g
  Buffer k_k_, k_a_, r_k_;  // [1, channels]
  Buffer norm_gain_, norm_bias_;
  Lora decay_, a_, v_, gate_;
  ColumnParallelLinear receptance_, key_, value_;
  RowParallelLinear output_;
};

// State: the previous row [dim] f32.
class Rwkv7ChannelMix final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return dim_ + key_.outputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  int64_t dim_ = 0;
  Buffer mix_;  // [1, dim]
  ColumnParallelLinear key_;
  RowParallelLinear value_;
};

}  // namespace trireme
