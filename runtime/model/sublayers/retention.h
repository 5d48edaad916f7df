// YOCO's gated retention (arXiv 2405.05254, section 3.2; unilm gate_retention.py): a linear
// recurrence with one data-dependent decay per head; a norm of each head without weights; a gate.
#pragma once

#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

class Retention final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override {
    return qkvg_.outputs() + decay_.outputs() + output_.inputs();
  }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  HeadSpec heads_;
  RopeStyle rope_style_ = RopeStyle::kHalves;
  float norm_epsilon_ = 0;
  float gate_normalizer_ = 0;
  int32_t shard_heads_ = 0;
  ColumnParallelLinear qkvg_;   // [query, key, value, gate rows; dim]
  ColumnParallelLinear decay_;  // [heads, dim]
  RowParallelLinear output_;
};

}  // namespace trireme
