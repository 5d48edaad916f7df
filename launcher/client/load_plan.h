// Which requests a benchmark sends, and when: made before the first is sent, from a seed. Pure.
#pragma once

#include <string>
#include <vector>

#include "launcher/client/bench_options.h"

namespace trireme {

// What prompts of a length are made of. Exact lengths need ids: with none, words are taken, about a
// token each, and what the server counts is what counts.
struct PromptSource {
  std::vector<int32_t> ids;  // ids that a prompt may hold, not empty = prompts are ids
};

// One conversation: its turns go one after the other, each with all that was said before.
struct PlannedConversation {
  double arrival_s = 0;  // after the start
  struct Turn {
    BenchPrompt prompt;  // what this turn adds
    int64_t max_tokens = 0;
    bool slow = false;
    double cancel_at = -1;  // part of max_tokens after which the connection is dropped; -1 = never
  };
  std::vector<Turn> turns;  // one, but for DatasetKind::kMultiTurn
};

// The arrival times of `count` requests, ascending, in seconds after the start; all 0 for
// kAllAtOnce. Gaps are gamma of shape burstiness and mean 1 / rate, where the rate of the i-th gap
// follows the ramp.
std::vector<double> arrival_times(const ArrivalOptions& options, size_t count, uint64_t seed);

// REQUIRES: options.dataset.requests > 0. Errors: a file that cannot be read or holds a line that
// is no request; a kind of prompt that the endpoint does not take.
Result<std::vector<PlannedConversation>> plan_load(const BenchServeOptions& options,
                                                   const PromptSource& source);

}  // namespace trireme
