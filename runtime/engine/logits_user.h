// Who a step's logits are for. On a device with memory of its own it may do what it needs there, so
// that only the rows that it wants travel to the host.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

// Called for the logits [n, vocab] f32 of a step's logit rows [first, first + n), in order; on
// every shard of the last stage, on other stages never. A Status that is not ok ends the step.
class LogitsUser {
 public:
  virtual ~LogitsUser() = default;

  // The rows are being computed into device memory: it may queue work that reads them, and clears
  // wanted[i] for each of the n rows that the host need not see. Not called where the device's
  // memory is the host's.
  virtual Status queue(int64_t /*first*/, ConstTensorView /*on_device*/,
                       std::vector<uint8_t>& /*wanted*/) {
    return Status::ok_status();
  }
  // What was queued is done. Sets wanted[i] for rows that the host has to see after all, and clears
  // all others. True: there are some.
  virtual bool settle(int64_t /*first*/, std::vector<uint8_t>& /*wanted*/) { return false; }

  // Instead of all of the above, where likeliest_only was said of every run of the step: for each
  // of rows [first, first + tokens.size()) its likeliest token, or what BestLogit has instead of
  // one.
  virtual Status take_likeliest(int64_t first, std::span<const int32_t> tokens) = 0;

  // The rows on the host; those that were not wanted hold anything.
  virtual Status take(int64_t first, TensorView logits) = 0;
};

// Told every row.
using LogitsSink = std::function<Status(int64_t first, TensorView logits)>;

class LogitsToSink final : public LogitsUser {
 public:
  explicit LogitsToSink(const LogitsSink& sink) : sink_(sink) {}
  Status take(int64_t first, TensorView logits) override { return sink_(first, logits); }
  Status take_likeliest(int64_t, std::span<const int32_t>) override {
    CHECK(false) << "a run whose rows are to be told says likeliest_only";
    return Status::ok_status();
  }

 private:
  const LogitsSink& sink_;
};

}  // namespace trireme
