// Attention with grouped queries (arXiv 2305.13245): its own keys and values, or YOCO's shared
// ones.
#pragma once

#include "parallel/plan.h"
#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

// q, k, v = W x (+ b); per-head norms; rope; cache; softmax(q k^T / sqrt(head_dim)) v; W_o.
class Attention final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return qkv_.outputs() + output_.inputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  HeadSpec heads_;
  RopeStyle rope_style_ = RopeStyle::kHalves;
  float norm_epsilon_ = 0;
  int64_t query_cols_ = 0;  // this shard's
  int64_t kv_cols_ = 0;
  ColumnParallelLinear qkv_;  // [query + key + value rows, dim]
  RowParallelLinear output_;
  Buffer q_norm_, k_norm_;  // [1, head_dim]
};

// K = rope(W_k n), V = W_v n of the middle of YOCO, into carry.side as [K | V].
class MakeSharedKv final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  bool adds() const override { return false; }
  int64_t scratch_cols() const override { return 0; }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  HeadSpec heads_;
  RopeStyle rope_style_ = RopeStyle::kHalves;
  ColumnParallelLinear kv_;
};

// carry.side into this stage's cache, before any row leaves early.
class StoreSharedKv final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  bool adds() const override { return false; }
  int64_t scratch_cols() const override { return 0; }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
};

// Queries of its own over the stage's shared keys and values.
class SharedAttention final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return 2 * query_.outputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  HeadSpec heads_;
  RopeStyle rope_style_ = RopeStyle::kHalves;
  ColumnParallelLinear query_;
  RowParallelLinear output_;
};

// The rows [first, first + count) of `heads` heads as rows of a weight matrix.
inline Range head_rows(Range heads, int64_t head_dim) {
  return {heads.first * head_dim, heads.count * head_dim};
}

}  // namespace trireme
