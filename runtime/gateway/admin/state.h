// /admin/state: what a server is and how it fares now, as JSON for the page, for scripts.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/engine/engine_monitor.h"

namespace trireme {

// One rank of the worker, and where it runs.
struct RankPlace {
  std::string host;
  int64_t pid = 0;
  int stage = 0, shard = 0;
};

struct ServerAbout {
  std::string version;
  std::string model;  // the name it is served under
  std::string root;   // the path it was loaded from
  std::string api_url;
  std::vector<RankPlace> ranks;  // by rank
};

// How many of the newest requests it tells of.
inline constexpr size_t kStateRequests = 100;

// All times are milliseconds, of requests before `now_ns` of trace_now(); absent members have not
// happened yet.
//   {"version", "model", "root", "api_url", "status": "loading"|"serving"|"draining",
//    "ranks": [{"rank", "host", "pid", "stage", "shard"}],
//    "mesh": {"stages", "shards", "device"}, "max_model_len",
//    "cache": {"prefix_caching", "block_tokens", "spilled_bytes", "blocks_evicted",
//              "prefix_queries", "prefix_hits",
//              "classes": [{"kind", "block_bytes", "total", "free", "live", "cached"}]},
//    "sequences": {"running", "waiting", "max"},
//    "counters": {"requests", "finished_stop", ..., "prompt_tokens", "prompt_tokens_cached",
//                 "generation_tokens", "preemptions", "steps", "step_rows", "step_seconds"},
//    "stages": [{"busy_seconds", "idle_seconds"}],
//    "requests": [{"id", "request_id", "prompt_tokens", ..., "received", "arrived", "scheduled",
//                  "first_token", "last_token", "ended", "finish", "chunks": [[begin, end,
//                  tokens]]}]}
// Without a monitor the engine is not there yet: status "loading", and nothing after "ranks".
JsonObject server_state(const ServerAbout& about, const EngineMonitor* monitor, bool draining,
                        int64_t now_ns);

}  // namespace trireme
