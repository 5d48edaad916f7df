// The engine as those who watch it see it. Every function may be called from any thread but that of
// the engine.
#pragma once

#include <functional>
#include <vector>

#include "runtime/engine/engine_client.h"
#include "runtime/engine/rank_trace.h"
#include "runtime/engine/request_log.h"

namespace trireme {

class EngineMonitor {
 public:
  virtual ~EngineMonitor() = default;

  virtual const EngineInfo& info() const = 0;
  virtual EngineStats stats() const = 0;

  // The newest `count` requests that had not ended at `since_ns` of trace_now(), by id.
  virtual std::vector<RequestTimeline> timelines(int64_t since_ns, size_t count) const = 0;

  // What every rank did since `since_ns` of trace_now(), by rank; the steps that are under way end
  // first. `done` is called on the engine's thread. kUnavailable: it keeps no traces, or has
  // ended.
  using TraceAnswer = std::function<void(Result<std::vector<RankTrace>>)>;
  virtual void trace(int64_t since_ns, TraceAnswer done) = 0;
};

}  // namespace trireme
