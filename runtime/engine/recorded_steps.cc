#include "runtime/engine/recorded_steps.h"

#include <algorithm>

namespace trireme {

int32_t recorded_size(int32_t sequences, int32_t sequences_max) {
  CHECK(sequences >= 1 && sequences <= sequences_max);
  int32_t size = 1;
  while (size < sequences) size += size < 8 ? size : 8;
  return std::min(size, sequences_max);
}

Status RecordedSteps::run(int32_t size, const std::function<Status()>& work, bool& ran) {
  if (sizes_.size() <= static_cast<size_t>(size)) sizes_.resize(static_cast<size_t>(size) + 1);
  Size& here = sizes_[static_cast<size_t>(size)];
  ran = here.recording == nullptr;
  if (here.recording == nullptr && here.warm && counts_.failure.empty()) {
    Result<std::unique_ptr<Recording>> recorded = device_.record(work);
    if (recorded.ok()) {
      here.recording = recorded.take();
      ++counts_.recorded;
    } else {
      counts_.failure = recorded.status().message();
    }
  }
  last_ = here.recording.get();
  if (here.recording != nullptr) {
    device_.replay(*here.recording);
    ++counts_.replayed;
    return Status::ok_status();
  }
  here.warm = true;
  ++counts_.plain;
  return work();
}

bool RecordedSteps::replay_again() {
  if (last_ == nullptr) return false;
  device_.replay(*last_);
  return true;
}

}  // namespace trireme
