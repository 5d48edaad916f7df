// RWKV-4's two halves (arXiv 2305.13048; ChatRWKV RWKV_in_150_lines.py), cut by channel.
#pragma once

#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

// State: the previous row [dim] f32, then aa, bb, pp [channels] each.
class Rwkv4TimeMix final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return 3 * dim_ + 4 * key_.outputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  int64_t dim_ = 0;
  Buffer mix_;            // [3, dim]: k, v, r, as weights of the previous row
  Buffer decay_, first_;  // [1, channels]
  ColumnParallelLinear key_, value_, receptance_;
  RowParallelLinear output_;
};

// State: the previous row [dim] f32. The receptance is whole on every shard: cutting it would cost
// a third collective for 1/13 of the layer's weights.
class Rwkv4ChannelMix final : public Sublayer {
 public:
  static Result<std::unique_ptr<Sublayer>> make(const SublayerContext& context);
  int64_t scratch_cols() const override { return 3 * dim_ + key_.outputs(); }
  Status forward(const ResidualNorm& input, SublayerStep& step, TensorView delta) override;

 private:
  Ops* ops_ = nullptr;
  int64_t dim_ = 0;
  Buffer mix_;  // [2, dim]: k, r
  ColumnParallelLinear key_;
  RowParallelLinear value_;
  Linear receptance_;
};

// Bytes of the previous row at the head of an RWKV state, padded to a cache line.
constexpr int64_t shift_state_bytes(int64_t dim) { return (dim * 4 + 63) / 64 * 64; }

}  // namespace trireme
