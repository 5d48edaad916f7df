// Products of one row, and the norms and token shifts between them, collected until something else
// is queued: then they go in one launch (ops/stream.h), so that memory is read without a pause.
//
// Ops call it in their order and it keeps that order; who asks the context for the stream gets it
// with all that was collected. A norm or a shift that turns out not to stand before products which
// read what it makes is queued as it would have been without a chain.
//
// Who calls it: CudaOps, from the device's one thread.
#pragma once

#include <functional>
#include <span>

#include "kernels/cuda/context.h"
#include "kernels/cuda/ops/stream.h"

namespace trireme::cuda {

class RowChain final : public Collected {
 public:
  explicit RowChain(Context& context);
  ~RowChain() override;
  RowChain(const RowChain&) = delete;
  RowChain& operator=(const RowChain&) = delete;

  // REQUIRES: as of launch_stream(), and that the calls do not wait for each other.
  void products(DType dtype, std::span<const Call> calls);

  // False: not taken. `alone` queues the op by itself.
  bool norm(const RowNorm& norm, std::function<void()> alone);
  bool shift(const void* x, const RowShift& shift, std::function<void()> alone);

  void queue() override;

 private:
  // The op that waits for products to read what it makes.
  struct Waiting {
    RowNorm norm;
    RowShift shift;
    std::function<void()> norm_alone, shift_alone;  // null: there is none
  };

  bool reads_what_waits(DType dtype, std::span<const Call> calls, int8_t* mix_of) const;
  bool may_follow(std::span<const Call> calls) const;
  void launch();  // the stages
  void let_go();  // of what waits

  Context& context_;
  DType dtype_ = DType::kBF16;
  Stream stream_{};
  Waiting waiting_;
};

}  // namespace trireme::cuda
