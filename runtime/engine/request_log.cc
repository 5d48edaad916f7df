#include "runtime/engine/request_log.h"

#include <algorithm>

#include "runtime/engine/trace_ring.h"

namespace trireme {

void RequestLog::arrived(RequestId id, const Request& request) {
  if (ended_max_ == 0) return;
  Live live;
  RequestTimeline& t = live.timeline;
  t.id = id;
  t.label = request.label;
  t.priority = request.priority;
  t.prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  t.choices = request.choices;
  t.received_ns = request.received_ns;
  t.arrived_ns = trace_now();
  live.unfinished = request.choices;
  const std::lock_guard lock(mutex_);
  live_[id] = std::move(live);
}

void RequestLog::happened(RequestId id, const Event& event) {
  if (ended_max_ == 0) return;
  const int64_t now = trace_now();
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(id);
  if (it == live_.end()) return;
  RequestTimeline& t = it->second.timeline;
  switch (event.kind) {
    case Event::Kind::kScheduled:
      t.scheduled_ns = now;
      t.cached_tokens = event.cached_tokens;
      return;
    case Event::Kind::kPromptScored:
      return;
    case Event::Kind::kToken:
      if (t.first_token_ns == 0) t.first_token_ns = now;
      t.last_token_ns = now;
      ++t.output_tokens;
      return;
    case Event::Kind::kFinished:
      t.finish = event.finish;
      if (--it->second.unfinished > 0) return;
      t.ended_ns = now;
      ended_.push_back(std::move(t));
      live_.erase(it);
      if (ended_.size() > ended_max_) ended_.pop_front();
      return;
  }
}

void RequestLog::computed(RequestId id, const RequestTimeline::Chunk& chunk) {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(id);
  if (it == live_.end()) return;
  std::vector<RequestTimeline::Chunk>& chunks = it->second.timeline.chunks;
  if (chunks.size() < RequestTimeline::kChunksMax) chunks.push_back(chunk);
}

void RequestLog::preempted(RequestId id) {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(id);
  if (it != live_.end()) ++it->second.timeline.preemptions;
}

std::vector<RequestTimeline> RequestLog::since(int64_t since_ns, size_t count) const {
  std::vector<RequestTimeline> found;
  {
    const std::lock_guard lock(mutex_);
    for (const RequestTimeline& t : ended_) {
      if (t.ended_ns >= since_ns) found.push_back(t);
    }
    for (const auto& [id, live] : live_) found.push_back(live.timeline);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  if (found.size() > count) found.erase(found.begin(), found.end() - static_cast<long>(count));
  return found;
}

}  // namespace trireme
