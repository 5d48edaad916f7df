// A communicator that counts what passes through another: calls, bytes, seconds. The launcher's
// --stats and the tests that hold a layer to its two all-reduces put it around the real one.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "comm/communicator.h"

namespace trireme {

struct CommunicatorCounts {
  uint64_t all_reduces = 0;
  uint64_t other_calls = 0;
  uint64_t bytes = 0;             // of this rank's own parts
  double collective_seconds = 0;  // in calls of the whole group, waiting included
  double pipeline_seconds = 0;    // in send and receive, waiting included
};

class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  const CommunicatorCounts& counts() const { return counts_; }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  Status all_reduce_sum(TensorView x) override {
    ++counts_.all_reduces;
    return timed(x, counts_.collective_seconds, [&] { return inner_->all_reduce_sum(x); });
  }
  Status all_gather(ConstTensorView mine, TensorView all) override {
    ++counts_.other_calls;
    return timed(mine, counts_.collective_seconds, [&] { return inner_->all_gather(mine, all); });
  }
  Status broadcast(TensorView x, int root) override {
    ++counts_.other_calls;
    return timed(x, counts_.collective_seconds, [&] { return inner_->broadcast(x, root); });
  }
  Status send(ConstTensorView x, int to) override {
    ++counts_.other_calls;
    return timed(x, counts_.pipeline_seconds, [&] { return inner_->send(x, to); });
  }
  Status receive(TensorView x, int from) override {
    ++counts_.other_calls;
    return timed(x, counts_.pipeline_seconds, [&] { return inner_->receive(x, from); });
  }
  Status barrier() override {
    ++counts_.other_calls;
    return timed(ConstTensorView(), counts_.collective_seconds, [&] { return inner_->barrier(); });
  }
  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    return inner_->split(color, key);
  }
  bool capturable() const override { return inner_->capturable(); }
  Status queued_recording() override { return inner_->queued_recording(); }

 private:
  template <class Call>
  Status timed(const ConstTensorView& part, double& seconds, const Call& call) {
    const auto start = std::chrono::steady_clock::now();
    Status status = call();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    counts_.bytes += static_cast<uint64_t>(part.rows * part.cols) * dtype_bytes(part.dtype);
    return status;
  }

  std::unique_ptr<Communicator> inner_;
  CommunicatorCounts counts_;
};

}  // namespace trireme
