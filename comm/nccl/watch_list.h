// The work of NCCL that stands on one stream, oldest first, each with the event behind it: what a
// watchdog looks at to tell a slow rank from one that hangs.
//
// An entry's time counts from when it came to the head, that is from when all work watched before
// it had ended: a deep queue is no fault. Not thread-safe.
#pragma once

#include <chrono>
#include <vector>

#include <cuda_runtime.h>

namespace trireme {

// What a message says of a piece of work.
struct NcclWork {
  const char* op = "";   // a string that lives for ever
  int rank = 0;          // in its group
  int size = 1;          // of the group
  const char* way = "";  // "to", "from", or nothing where there is no peer
  int peer = 0;
};

class WatchList {
 public:
  using Clock = std::chrono::steady_clock;

  WatchList() = default;
  WatchList(const WatchList&) = delete;
  WatchList& operator=(const WatchList&) = delete;
  ~WatchList();

  bool full() const { return count_ == kEntries; }
  // Watches what the stream holds now. REQUIRES: not full(), and the stream is not recorded.
  cudaError_t add(cudaStream_t stream, const NcclWork& work, Clock::time_point now);

  // Lets go of what has ended. An error is the head's.
  cudaError_t look(Clock::time_point now);
  bool empty() const { return count_ == 0; }
  // REQUIRES: not empty().
  const NcclWork& head() const { return entries_[first_].work; }
  Clock::duration head_age(Clock::time_point now) const { return now - head_since_; }

 private:
  static constexpr size_t kEntries = 512;
  struct Entry {
    cudaEvent_t event = nullptr;  // made at its first use, then used again
    NcclWork work;
  };
  std::vector<Entry> entries_{kEntries};  // a ring
  size_t first_ = 0, count_ = 0;
  Clock::time_point head_since_;
};

}  // namespace trireme
