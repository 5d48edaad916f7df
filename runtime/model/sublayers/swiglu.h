// The gated feed-forward half (arXiv 2002.05202): W_down (silu(W_gate x) * W_up x).
#pragma once

#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

class SwiGlu final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return gate_up_.outputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  ColumnParallelLinear gate_up_;  // [gate rows, then up rows; dim]
  RowParallelLinear down_;
};

}  // namespace trireme
