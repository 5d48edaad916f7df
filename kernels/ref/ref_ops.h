// The reference operations: plain loops over f32 activations with f64 sums, one thread.
//
// Who calls it: make_ref_device(), and through it the contract suite and tests that want an oracle.
// It is also the documentation of ops.h in code: each function is its formula and nothing else.
// States are rounded to f32 after every row, as they are stored, so this backend keeps the Row law
// too.
#pragma once

#include "kernels/ops.h"

namespace trireme {

class RefOps final : public Ops {
 public:
  void embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
             float scale, TensorView y) override;
  void norm(ConstTensorView x, const NormArgs& args, TensorView y) override;
  void linear(ConstTensorView x, const WeightView& w, TensorView y) override;
  void add(ConstTensorView x, TensorView y) override;
  void multiply(ConstTensorView x, TensorView y) override;
  void activate(Activation kind, ConstTensorView x, TensorView y) override;
  void swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) override;
  void gather_rows(ConstTensorView x, const int32_t* indices, int32_t count, TensorView y) override;

  void rope_table(const int32_t* positions, int32_t rows, ConstTensorView inverse_frequencies,
                  float scale, TensorView cos_sin) override;
  void rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) override;
  void store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                const KvView& cache) override;
  void attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
              TensorView out) override;

  void shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                 ConstTensorView mix, TensorView out) override;
  void wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
            TensorView out) override;
  void wkv7_prepare(const Wkv7PrepareArgs& args) override;
  void wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
            TensorView out) override;
  void wkv7_finish(const Wkv7FinishArgs& args, TensorView y) override;
  void retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                 TensorView out) override;
};

}  // namespace trireme
