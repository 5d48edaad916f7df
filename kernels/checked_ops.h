// Ops that check every REQUIRES of ops.h, then forward to another backend's.
//
// Who calls it: make_checked_device(), which debug builds and tests wrap around every device. A
// broken promise ends the program with the op, the tensor and the numbers. Shapes are checked for
// every backend; the contents of offsets, positions, tables and state pointers only where they lie
// in host memory.
#pragma once

#include <initializer_list>

#include "kernels/ops.h"

namespace trireme {

class CheckedOps final : public Ops {
 public:
  // `ops` outlives this object; `place` is where its tensors live.
  CheckedOps(Ops* ops, Place place) : ops_(ops), place_(place) {}

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

  void add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) override;
  void norm_shift_mix(const ResidualNorm& in, const Ragged& rows, const StateRows& states,
                      ConstTensorView mix, TensorView out) override;
  void linears(std::span<const LinearCall> calls) override;
  void feed_forward(FeedForward kind, ConstTensorView x, const WeightView& up,
                    const WeightView& down, TensorView inner, TensorView y) override;
  void rope_attend(const RopeAttendArgs& args, const Ragged& rows, const KvView& cache,
                   TensorView out) override;
  void norm_linears(const ResidualNorm& in, std::span<const LinearCall> calls) override;
  bool linear_add(ConstTensorView x, const WeightView& w, TensorView delta,
                  const Residual& residual) override;
  bool norm_feed_forward(const ResidualNorm& in, FeedForward kind, const WeightView& up,
                         const WeightView& down, TensorView inner, TensorView delta,
                         const Residual& residual) override;
  void rope_store(ConstTensorView cos_sin, RopeStyle style, TensorView q, TensorView k,
                  ConstTensorView v, const Ragged& rows, const KvView& cache) override;
  void norm_gate(const NormArgs& args, ConstTensorView gate, TensorView y) override;
  void wkv7_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                        TensorView y) override;
  void wkv7_mix(const Wkv7MixArgs& args, const Ragged& rows, const StateRows& states,
                TensorView y) override;

 private:
  void check_norm(const ConstTensorView& x, const NormArgs& args, const TensorView& y) const;
  void check_prepare(const Wkv7PrepareArgs& args) const;
  void check_shift_mix(const ConstTensorView& x, const Ragged& rows, const StateRows& states,
                       const ConstTensorView& mix, const TensorView& out) const;
  void check_wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                  const TensorView& out) const;
  void check_finish(const Wkv7FinishArgs& args, const TensorView& y) const;
  void check_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                         const TensorView& y) const;
  void check_residual_norm(const ResidualNorm& in) const;
  void check_feed_forward(FeedForward kind, const ConstTensorView& x, const WeightView& up,
                          const WeightView& down, const TensorView& inner,
                          const TensorView& y) const;
  void check_residual(const TensorView& delta, const TensorView& residual) const;
  void check_linear(const ConstTensorView& x, const WeightView& w, const TensorView& y) const;
  void check_rope(const ConstTensorView& cos_sin, int32_t head_dim, const TensorView& x) const;
  void check_attend(const ConstTensorView& q, const Ragged& rows, const KvView& cache,
                    const TensorView& out) const;
  void check_store(const ConstTensorView& k, const ConstTensorView& v, const Ragged& rows,
                   const KvView& cache) const;
  // `x`, called `name` in messages, is a [rows, cols] f32 matrix at this device's place.
  void check_matrix(const char* name, const ConstTensorView& x, int64_t rows, int64_t cols) const;
  void check_weight(const char* name, const WeightView& w) const;
  void check_ragged(const char* op, const Ragged& rows, int64_t tensor_rows,
                    bool consecutive) const;
  void check_cache(const char* op, const Ragged& rows, const KvView& cache, bool window) const;
  void check_states(const char* op, const Ragged& rows, const StateRows& states,
                    int64_t state_bytes) const;
  // Writers of one call never meet: no two rows of `rows` have the same slot of the cache.
  void check_slots_distinct(const Ragged& rows, const KvView& cache) const;

  Ops* ops_;
  Place place_;
};

}  // namespace trireme
