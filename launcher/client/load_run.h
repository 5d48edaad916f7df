// Sends a planned load and records what happens to each request. One io thread: the calling one,
// which waits until all requests have ended.
#pragma once

#include <memory>
#include <vector>

#include "launcher/client/bench_report.h"
#include "launcher/client/http_fetch.h"
#include "launcher/client/load_plan.h"

namespace trireme {

struct LoadRun {
  std::vector<RequestRecord> records;  // one per turn, in the plan's order; each ended once
  std::vector<std::string> bodies;     // what was sent, where keep_bodies
  double duration_s = 0;
  double client_cpu_s = 0;
};

struct LoadOptions {
  ApiKind endpoint = ApiKind::kCompletions;
  CallOptions call;  // max_tokens is each turn's
  // Request i gets seed + i where it samples (temperature above 0), so that it can be run again.
  uint64_t seed = 0;
  int64_t max_concurrency = 0;  // 0 = no limit
  bool keep_bodies = false;
};

// What goes wrong with a request is in its record, a sentence.
LoadRun run_load(const ServerUrl& url, const HttpOptions& http, const LoadOptions& options,
                 std::vector<PlannedConversation> plan);

// One body again, alone.
RequestRecord run_once(const ServerUrl& url, const HttpOptions& http, ApiKind endpoint,
                       const std::string& body);

}  // namespace trireme
