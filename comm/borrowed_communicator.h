// A communicator that somebody else owns, for what wants to own the one that it stands on.
#pragma once

#include "comm/communicator.h"

namespace trireme {

class BorrowedCommunicator final : public Communicator {
 public:
  // `inner` outlives it.
  explicit BorrowedCommunicator(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  Status all_reduce_sum(TensorView x) override { return inner_.all_reduce_sum(x); }
  Status all_gather(ConstTensorView mine, TensorView all) override {
    return inner_.all_gather(mine, all);
  }
  Status broadcast(TensorView x, int root) override { return inner_.broadcast(x, root); }
  Status send(ConstTensorView x, int to) override { return inner_.send(x, to); }
  Status receive(TensorView x, int from) override { return inner_.receive(x, from); }
  Status barrier() override { return inner_.barrier(); }
  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    return inner_.split(color, key);
  }
  bool capturable() const override { return inner_.capturable(); }
  Status queued_recording() override { return inner_.queued_recording(); }

 private:
  Communicator& inner_;
};

}  // namespace trireme
