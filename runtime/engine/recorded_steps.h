// Steps that a device has recorded and replays: those that only decode, padded to a few sizes.
// Launching a small kernel takes longer than running it, and such a step is some hundreds of them;
// replayed, it is one.
//
// Of each size the first step runs plainly, so that scratch memory grows; the second is recorded
// and replayed; all others are replayed. Where the device fails to record, steps run plainly from
// then on, padded as before: ranks must agree on shapes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace trireme {

// The size that a step of `sequences` decoding sequences is padded to: 1, 2, 4, 8, then multiples
// of 8, but at most `sequences_max`. REQUIRES: 1 <= sequences <= sequences_max.
int32_t recorded_size(int32_t sequences, int32_t sequences_max);

class RecordedSteps {
 public:
  // `device` outlives it. REQUIRES: device.can_record().
  explicit RecordedSteps(Device& device) : device_(device) {}

  // Queues `work`, the step of this size: `ran` says whether work() was called for it, so that its
  // caller may count what a replay does not.
  Status run(int32_t size, const std::function<Status()>& work, bool& ran);

  // Queues the step that run() queued last once more, where that was a replay; else false. For
  // measurements: what the device alone takes for it.
  bool replay_again();

  struct Counts {
    uint64_t recorded = 0;  // sizes
    uint64_t replayed = 0;  // steps
    uint64_t plain = 0;     // steps that could have been replayed, and were not yet
    std::string failure;    // why there are no more recordings; "": there is nothing wrong
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Size {
    bool warm = false;
    std::unique_ptr<Recording> recording;
  };
  Device& device_;
  std::vector<Size> sizes_;    // by size
  Recording* last_ = nullptr;  // what run() replayed last; null where it ran plainly
  Counts counts_;
};

}  // namespace trireme
