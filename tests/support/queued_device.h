// A device whose memory is not the host's and whose work waits: copies run in their order when
// synchronize() is called, so that whoever reads a result too early, or lets go of a source too
// early, is found out. It has no ops.
#pragma once

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/device.h"

namespace trireme {

class QueuedDevice final : public Device {
 public:
  std::string_view name() const override { return "queued"; }
  Place place() const override { return Place::kCuda; }
  int threads() const override { return 1; }
  Ops& ops() override {
    CHECK(false) << "a QueuedDevice has no ops";
    __builtin_unreachable();
  }
  Result<Buffer> allocate(size_t bytes) override { return allocate_host(bytes); }

  void copy(void* target, const void* source, size_t bytes) override {
    queue_.push_back({target, source, bytes});
  }
  Status synchronize() override {
    for (const Copy& c : queue_) {
      if (c.bytes > 0) std::memmove(c.target, c.source, c.bytes);
    }
    queue_.clear();
    ++synchronizes_;
    return fault_;
  }
  int synchronizes() const { return synchronizes_; }
  // What synchronize() answers from now on.
  void break_down(Status fault) { fault_ = std::move(fault); }

  Result<Matrix> make_matrix(int64_t, int64_t, WeightFormat) override {
    return unimplemented("a QueuedDevice has no matrices");
  }
  void write_rows(Matrix&, int64_t, ConstTensorView) override {
    CHECK(false) << "a QueuedDevice has no matrices";
  }
  void write_quantized_rows(Matrix&, int64_t, const QuantizedView&) override {
    CHECK(false) << "a QueuedDevice has no matrices";
  }

 private:
  struct Copy {
    void* target;
    const void* source;
    size_t bytes;
  };
  std::vector<Copy> queue_;
  int synchronizes_ = 0;
  Status fault_;
};

}  // namespace trireme
