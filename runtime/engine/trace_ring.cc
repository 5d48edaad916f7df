#include "runtime/engine/trace_ring.h"

#include <algorithm>
#include <chrono>

#include "kernels/base/check.h"

namespace trireme {

int64_t trace_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string_view trace_name(TraceEvent::Name name) {
  using Name = TraceEvent::Name;
  switch (name) {
    case Name::kCommands:
      return "commands";
    case Name::kPlan:
      return "plan";
    case Name::kPreempt:
      return "preempt";
    case Name::kPrepare:
      return "prepare";
    case Name::kTell:
      return "tell";
    case Name::kPlanAhead:
      return "plan ahead";
    case Name::kStep:
      return "step";
    case Name::kReceive:
      return "receive";
    case Name::kForward:
      return "forward";
    case Name::kSend:
      return "send";
    case Name::kHead:
      return "head";
    case Name::kSample:
      return "sample";
    case Name::kCollect:
      return "collect";
    case Name::kAwait:
      return "await";
    case Name::kIdle:
      return "idle";
    case Name::kRunning:
      return "running";
    case Name::kWaiting:
      return "waiting";
    case Name::kRows:
      return "rows";
    case Name::kLive:
      return "live blocks";
    case Name::kCached:
      return "cached blocks";
    case Name::kCount:
      break;
  }
  return "?";
}

TraceRing::TraceRing(size_t events_max) : events_max_(events_max) { CHECK(events_max > 0); }

void TraceRing::add(const TraceEvent& event) {
  const std::lock_guard lock(mutex_);
  if (events_.size() < events_max_) {
    events_.push_back(event);
    return;
  }
  TraceEvent& oldest = events_[next_];
  lost_until_ns_ = std::max(lost_until_ns_, oldest.end_ns);
  oldest = event;
  next_ = (next_ + 1) % events_max_;
}

void TraceRing::counter(TraceEvent::Name name, uint32_t value, uint16_t aux) {
  TraceEvent event{TraceEvent::Kind::kCounter, name, aux, value, 0, trace_now(), 0};
  event.end_ns = event.begin_ns;
  add(event);
}

TraceRing::Cut TraceRing::since(int64_t since_ns) const {
  const std::lock_guard lock(mutex_);
  Cut cut;
  cut.lost_until_ns = lost_until_ns_;
  for (size_t i = 0; i < events_.size(); ++i) {
    const TraceEvent& event = events_[(next_ + i) % events_.size()];
    if (event.end_ns >= since_ns) cut.events.push_back(event);
  }
  return cut;
}

}  // namespace trireme
