// The two ways to cut a matrix product over the shards of a stage (Megatron-LM, arXiv 1909.08053).
//
//        x [rows, in]                       x_i [rows, in / n]
//        |  every shard                     |  the slice a column-parallel layer left here
//     W_i [out / n, in]                  W_i [out, in / n]
//        |                                  |
//     y_i [rows, out / n]                y = sum_i x_i W_i^T      one all-reduce
#pragma once

#include "comm/communicator.h"
#include "kernels/device.h"

namespace trireme {

// A matrix, its bias and its ops, ready to apply.
class Linear {
 public:
  Linear() = default;
  Linear(Ops& ops, Matrix weight) : ops_(&ops), weight_(std::move(weight)) {}
  Linear(Ops& ops, Matrix weight, Buffer bias)
      : ops_(&ops), weight_(std::move(weight)), bias_(std::move(bias)) {}

  // y = x W^T + bias. REQUIRES: x is [rows, inputs()], y is [rows, outputs()].
  void forward(ConstTensorView x, TensorView y) const { ops_->linear(x, view(), y); }

  // See Ops::linear_add().
  bool forward_add(ConstTensorView x, TensorView delta, const Residual& residual) const {
    return ops_->linear_add(x, view(), delta, residual);
  }

  // For those who multiply it together with others: the same weight and bias.
  WeightView view() const {
    WeightView w = weight_.view();
    if (bias_.data() != nullptr) w.bias = float_rows(bias_, 1, weight_.rows);
    return w;
  }
  int64_t inputs() const { return weight_.cols; }
  int64_t outputs() const { return weight_.rows; }
  const Matrix& weight() const { return weight_; }

 private:
  Ops* ops_ = nullptr;
  Matrix weight_;
  Buffer bias_;  // [1, outputs] f32; no data: none
};

// Holds rows of W: a slice of the outputs. No communication.
using ColumnParallelLinear = Linear;

// Holds columns of W: a slice of the inputs. One all-reduce, here and nowhere else in a layer.
// A bias lives on shard 0 only, so that it is added once.
class RowParallelLinear {
 public:
  RowParallelLinear() = default;
  RowParallelLinear(Linear slice, Communicator& shards)
      : slice_(std::move(slice)), shards_(&shards) {}
  Status forward(ConstTensorView x_slice, TensorView y) const {
    slice_.forward(x_slice, y);
    return reduce(y);
  }
  // The same, for a product that is to be added to x, the residual stream, which all shards have:
  // done where a device does it at once, else left in `delta`. added: whether it was.
  Status forward_add(ConstTensorView x_slice, TensorView delta, TensorView x, bool& added) const {
    added = slice_.forward_add(x_slice, delta, residual(x));
    return reduce(added ? x : delta);
  }
  // The two halves of both, for those who multiply it together with others: this shard's product,
  // which shard 0 adds to x, and the sum over all shards.
  WeightView view() const { return slice_.view(); }
  Residual residual(TensorView x) const { return {x, shards_->rank() == 0}; }
  Status reduce(TensorView y) const {
    return shards_->size() == 1 ? Status::ok_status() : shards_->all_reduce_sum(y);
  }
  int64_t inputs() const { return slice_.inputs(); }
  int64_t outputs() const { return slice_.outputs(); }

 private:
  Linear slice_;
  Communicator* shards_ = nullptr;
};

}  // namespace trireme
