// The operations of the CPU backend: they check nothing (checked_ops does), give each inner loop of
// isa/ops_loops.h its shape, and share the work out to the threads of a pool.
//
// Who calls it: CpuDevice, and through it the one thread that runs a rank's steps. That thread is
// worker 0 of the pool. Every call has taken effect when it returns.
//
// INVARIANT (Row law): how work is shared out never shows in the bits. Rows, channels and heads are
// independent; attention sums on a grid of absolute positions (ops/attention.cc).
// INVARIANT: after the first step of a shape nothing here allocates.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/tensor.h"
#include "kernels/cpu/features.h"
#include "kernels/cpu/isa/ops_loops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace trireme {

// The loops for `isa`. REQUIRES: isa_supported(isa).
const OpLoops& op_loops(Isa isa);

// Floats that grow on demand and are never given back; what they held is lost when they grow.
class Scratch {
 public:
  float* floats(int64_t count);

 private:
  Buffer buffer_;
};

class CpuOps final : public Ops {
 public:
  // `pool` outlives this object.
  CpuOps(ThreadPool* pool, Isa isa);

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

  // Neighbouring rows of one sequence and one kv head: what one thread attends to at a time.
  struct AttentionTask {
    int32_t sequence, kv_head, first_row, rows;
    int32_t first_split, splits;  // partial softmaxes, on the grid of kSplitTokens
    int64_t partials;             // where its partial softmaxes begin, where they are kept
  };

  void add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) override;

 private:
  // Calls f(first, last) on contiguous parts of [0, n), one per worker; on all of it by the caller
  // alone where the whole work, in floats touched, is too little to be worth a fork.
  template <class F>
  void share(int64_t n, int64_t floats, F&& f) {
    if (pool_->size() == 1 || n <= 1 || floats < kForkFloats) {
      if (n > 0) f(int64_t{0}, n);
      return;
    }
    pool_->run([&](int worker) {
      const IndexRange part = split(n, pool_->size(), worker);
      if (!part.empty()) f(part.begin, part.end);
    });
  }

  // A fork and join costs as much as a core needs for about so many floats.
  static constexpr int64_t kForkFloats = 32768;

  ThreadPool* pool_;
  Isa isa_;
  const OpLoops& loops_;
  std::vector<Scratch> worker_scratch_;  // one per worker
  Scratch partials_;                     // of attention, shared
  std::vector<AttentionTask> tasks_;
};

}  // namespace trireme
