// The operations of a CUDA device: each queues its kernels on the context's stream and returns.
// ops.h says what they compute, ops/*.cu how.
//
// Row law: not promised. A row's bits may depend on the number of rows (another kernel is chosen)
// and on the cut of a context into parts; they do not depend on the time or on other sequences.
#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/gemm.h"
#include "kernels/ops.h"

namespace trireme::cuda {

class CudaOps final : public Ops {
 public:
  // `context` and `gemm` outlive it.
  CudaOps(Context& context, Gemm& gemm) : context_(context), gemm_(gemm) {}

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
  // The rows of the newest op that stored to a cache. Such an op begins only when those of other
  // rows have ended, so attention over the same rows finds all older positions in place, even while
  // kernels before it still run: within a step no row stores what another sees as older than its
  // own run, and between steps there are copies.
  struct StoredRows {
    const int32_t* offsets = nullptr;
    const int32_t* positions = nullptr;
    bool are(const Ragged& rows) const {
      return rows.offsets == offsets && rows.positions == positions;
    }
  };
  // Whether an op that stores `rows` may overlap with the kernels before it.
  bool store_overlaps(const Ragged& rows) {
    const bool same = last_stored_.are(rows);
    last_stored_ = {rows.offsets, rows.positions};
    return same;
  }

  Context& context_;
  Gemm& gemm_;
  StoredRows last_stored_;
};

}  // namespace trireme::cuda
