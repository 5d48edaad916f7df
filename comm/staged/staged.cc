#include "comm/staged/staged.h"

#include <algorithm>
#include <utility>

#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

// Host memory that stands for a tensor of the device, row after row without gaps.
class HostStage {
 public:
  Result<TensorView> like(Device& device, const ConstTensorView& x) {
    const auto bytes = static_cast<size_t>(tensor_bytes(x));
    if (memory_.bytes() < bytes) {
      auto grown = device.allocate_pinned(std::max(bytes, 2 * memory_.bytes()));
      if (!grown.ok()) return grown.status();
      memory_ = grown.take();
    }
    return tensor(memory_.data(), x.rows, x.cols, x.dtype);
  }

 private:
  Buffer memory_;
};

// Queues the copy of one tensor to another of the same shape; one may be the host's.
void queue_copy(Device& device, const ConstTensorView& from, const TensorView& to) {
  const auto element = static_cast<int64_t>(dtype_bytes(from.dtype));
  const auto copy_rows = [&](int64_t row, int64_t count) {
    const int64_t bytes = count * from.cols * element;
    if (bytes == 0) return;
    device.copy(static_cast<std::byte*>(to.data) + row * to.row_stride * element,
                static_cast<const std::byte*>(from.data) + row * from.row_stride * element,
                static_cast<size_t>(bytes));
  };
  if (from.contiguous() && to.contiguous()) return copy_rows(0, from.rows);
  for (int64_t row = 0; row < from.rows; ++row) copy_rows(row, 1);
}

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> inner, Device& device)
      : inner_(std::move(inner)), device_(device) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  // In a group of one nothing leaves the device.
  bool capturable() const override { return size() == 1; }

  Status all_reduce_sum(TensorView x) override {
    if (x.place == Place::kHost) return inner_->all_reduce_sum(x);
    check_place(x);
    CHECK(x.dtype == DType::kF32);
    if (size() == 1) return {};
    const Result<TensorView> staged = out_.like(device_, x);
    if (!staged.ok()) return staged.status();
    if (Status s = fetch(x, *staged); !s.ok()) return s;
    if (Status s = inner_->all_reduce_sum(*staged); !s.ok()) return s;
    return give(*staged, x);
  }

  Status all_gather(ConstTensorView mine, TensorView all) override {
    CHECK(mine.place == all.place);
    if (mine.place == Place::kHost) return inner_->all_gather(mine, all);
    check_place(mine);
    CHECK(all.rows == size() * mine.rows && all.cols == mine.cols && all.dtype == mine.dtype);
    if (size() == 1) {
      if (mine.data != all.data) queue_copy(device_, mine, all);
      return {};
    }
    const Result<TensorView> staged = out_.like(device_, mine), gathered = in_.like(device_, all);
    if (!staged.ok()) return staged.status();
    if (!gathered.ok()) return gathered.status();
    if (Status s = fetch(mine, *staged); !s.ok()) return s;
    if (Status s = inner_->all_gather(*staged, *gathered); !s.ok()) return s;
    return give(*gathered, all);
  }

  Status broadcast(TensorView x, int root) override {
    if (x.place == Place::kHost) return inner_->broadcast(x, root);
    check_place(x);
    CHECK(root >= 0 && root < size());
    if (size() == 1) return {};
    const Result<TensorView> staged = out_.like(device_, x);
    if (!staged.ok()) return staged.status();
    if (rank() == root) {
      if (Status s = fetch(x, *staged); !s.ok()) return s;
    }
    if (Status s = inner_->broadcast(*staged, root); !s.ok()) return s;
    return rank() == root ? Status() : give(*staged, x);
  }

  Status send(ConstTensorView x, int to) override {
    if (x.place == Place::kHost) return inner_->send(x, to);
    check_place(x);
    const Result<TensorView> staged = out_.like(device_, x);
    if (!staged.ok()) return staged.status();
    if (Status s = fetch(x, *staged); !s.ok()) return s;
    return inner_->send(*staged, to);
  }

  Status receive(TensorView x, int from) override {
    if (x.place == Place::kHost) return inner_->receive(x, from);
    check_place(x);
    const Result<TensorView> staged = in_.like(device_, x);
    if (!staged.ok()) return staged.status();
    if (Status s = inner_->receive(*staged, from); !s.ok()) return s;
    return give(*staged, x);
  }

  Status barrier() override { return inner_->barrier(); }

  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    auto child = inner_->split(color, key);
    if (!child.ok()) return child.status();
    return make_staged_communicator(child.take(), device_);
  }

 private:
  void check_place(const ConstTensorView& x) const { CHECK(x.place == device_.place()); }

  // Waits for all earlier work of the device, so that the host has x.
  Status fetch(const ConstTensorView& x, const TensorView& staged) {
    queue_copy(device_, x, staged);
    return device_.synchronize();
  }
  // Waits too: the next call may write the stage again.
  Status give(const TensorView& staged, const TensorView& x) {
    queue_copy(device_, staged, x);
    return device_.synchronize();
  }

  std::unique_ptr<Communicator> inner_;
  Device& device_;
  HostStage out_, in_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       Device& device) {
  CHECK(device.place() != Place::kHost);
  return std::make_unique<StagedCommunicator>(std::move(inner), device);
}

}  // namespace trireme
