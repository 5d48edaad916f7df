// The lives of the newest requests, for those who watch a server: when each came, was scheduled,
// had its tokens and ended.
//
// Thread-safe: the engine's thread writes, others read.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/engine/request.h"

namespace trireme {

// Times are those of trace_now(); 0: not yet.
struct RequestTimeline {
  // A part of the prompt, in one step.
  struct Chunk {
    int64_t begin_ns = 0, end_ns = 0;
    uint32_t tokens = 0;
  };
  RequestId id = 0;
  std::string label;  // the caller's id
  int32_t priority = 0;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;  // of the prompt
  uint32_t choices = 1;
  uint32_t output_tokens = 0;  // of all choices
  uint32_t preemptions = 0;
  int64_t received_ns = 0;   // by the front end, where it says so
  int64_t arrived_ns = 0;    // at the engine
  int64_t scheduled_ns = 0;  // its first tokens go into a step
  int64_t first_token_ns = 0, last_token_ns = 0;
  int64_t ended_ns = 0;                       // its last choice
  FinishReason finish = FinishReason::kNone;  // of the choice that ended last
  std::vector<Chunk> chunks;                  // of the prompt, the first kChunksMax
  static constexpr size_t kChunksMax = 64;
};

class RequestLog {
 public:
  // `ended_max` requests that have ended are remembered, beside those that have not; 0: the log
  // remembers nothing at all.
  explicit RequestLog(size_t ended_max) : ended_max_(ended_max) {}

  void arrived(RequestId id, const Request& request);
  void happened(RequestId id, const Event& event);  // in the order of events
  void computed(RequestId id, const RequestTimeline::Chunk& chunk);
  void preempted(RequestId id);

  // The newest `count` that had not ended at `since_ns`, by id.
  std::vector<RequestTimeline> since(int64_t since_ns, size_t count) const;

 private:
  struct Live {
    RequestTimeline timeline;
    uint32_t unfinished = 0;
  };
  const size_t ended_max_;
  mutable std::mutex mutex_;
  std::map<RequestId, Live> live_;
  std::deque<RequestTimeline> ended_;
};

}  // namespace trireme
