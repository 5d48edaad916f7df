// What a worker did, in the JSON that ui.perfetto.dev and chrome://tracing read ("Trace Event
// Format"): a lane of nested spans for each rank, requests as asynchronous events, counters, and an
// arrow from the leader's word to each rank's step.
//
// ts and dur are microseconds since `from_ns`. Pure; any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/engine/rank_trace.h"
#include "runtime/engine/request_log.h"

namespace trireme {

struct TraceDocument {
  std::vector<RankTrace> ranks;
  std::vector<RequestTimeline> requests;
  int64_t from_ns = 0, to_ns = 0;        // what is shown, of the leader's trace_now()
  std::vector<std::string> rank_names;   // "rank 0 (node1, stage 0, shard 0)"; by rank
  std::vector<std::string> block_kinds;  // by slot class
  std::string version, model;
  int64_t from_unix_ms = 0;  // when `from_ns` was, since 1970
};

std::string write_perfetto(const TraceDocument& document);

}  // namespace trireme
