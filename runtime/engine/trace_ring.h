// What a rank did and when: the newest spans and counters, in a ring of fixed size. Always on where
// there is a ring; a span costs two readings of the clock and a copy of 40 bytes.
//
// Thread-safe: the rank's engine thread records, others may read.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

namespace trireme {

// Nanoseconds of the steady clock, which the ranks of one host share.
int64_t trace_now();

struct TraceEvent {
  enum class Kind : uint8_t { kSpan, kCounter };
  // Spans, as they nest on the one thread of a rank's engine; then counters.
  enum class Name : uint8_t {
    kCommands,   // what front ends asked since the last step
    kPlan,       // value: runs of the plan
    kPreempt,    // value: sequences that give up their blocks
    kPrepare,    // blocks are taken, rows and block tables written down
    kTell,       // the leader tells its followers
    kPlanAhead,  // the step after this one is prepared for
    kStep,       // one step's computing; value: rows
    kReceive,    //   the carry of the stage before
    kForward,    //   the layers of this stage
    kSend,       //   the carry for the next stage
    kHead,       //   logits
    kSample,     //     tokens from them
    kCollect,    // the end of a step; value: tokens sampled
    kAwait,      //   results of other stages
    kIdle,       // a follower without a message, a leader without a request
    kRunning,    // counters of the leader: sequences that hold blocks
    kWaiting,    //   requests that hold none
    kRows,       //   rows of a step
    kLive,       //   blocks of class `aux` that sequences hold
    kCached,     //   blocks of class `aux` that only prefixes hold
    kCount,
  };
  Kind kind = Kind::kSpan;
  Name name = Name::kStep;
  uint16_t aux = 0;
  uint32_t value = 0;
  uint64_t step = 0;
  int64_t begin_ns = 0;  // trace_now()
  int64_t end_ns = 0;    // spans
  bool operator==(const TraceEvent&) const = default;
};

// "forward"
std::string_view trace_name(TraceEvent::Name name);

class TraceRing {
 public:
  // The newest `events_max` events are kept. REQUIRES: events_max > 0.
  explicit TraceRing(size_t events_max);

  void add(const TraceEvent& event);
  void counter(TraceEvent::Name name, uint32_t value, uint16_t aux = 0);

  struct Cut {
    std::vector<TraceEvent> events;  // in the order in which they ended
    // Until then events were overwritten: the cut is complete from here on. 0: none were.
    int64_t lost_until_ns = 0;
  };
  // What ended at or after `since`.
  Cut since(int64_t since_ns) const;

 private:
  const size_t events_max_;
  mutable std::mutex mutex_;
  std::vector<TraceEvent> events_;  // a ring once it is full
  size_t next_ = 0;
  int64_t lost_until_ns_ = 0;
};

// Records the time from its making to its end. Does nothing without a ring.
class TraceSpan {
 public:
  TraceSpan(TraceRing* ring, TraceEvent::Name name, uint64_t step = 0, uint32_t value = 0)
      : ring_(ring), event_{TraceEvent::Kind::kSpan, name, 0, value, step, 0, 0} {
    if (ring_ != nullptr) event_.begin_ns = trace_now();
  }
  ~TraceSpan() {
    if (ring_ == nullptr) return;
    event_.end_ns = trace_now();
    ring_->add(event_);
  }
  TraceSpan(const TraceSpan&) = delete;

  void set_value(uint32_t value) { event_.value = value; }

 private:
  TraceRing* const ring_;
  TraceEvent event_;
};

}  // namespace trireme
