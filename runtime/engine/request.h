// What the engine is asked and what it answers. Plain values: front ends fill and read them, on any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/sample/sampler.h"
#include "runtime/sample/sampling_params.h"
#include "runtime/sample/token_constraint.h"

namespace trireme {

using RequestId = uint64_t;

struct Request {
  std::vector<int32_t> prompt;   // not empty; all below the vocabulary
  SamplingParams params;         // params.max_tokens: of each choice; stop strings are the front
                                 // end's matter: it calls finish_choice()
  uint32_t choices = 1;          // sampled independently from the same prompt: n of the API
  int32_t priority = 0;          // lower is served first; equals in order of arrival
  int32_t prompt_logprobs = -1;  // -1: none; n: of each prompt token, and of the n likeliest there
  bool score_only = false;       // end after the prompt, with no token: max_tokens 0 of the API.
                                 // REQUIRES: choices == 1
  ConstraintSpec constraint;
  std::string cache_salt;   // only requests of equal salt share cached prefixes
  std::string label;        // the caller's id, for traces
  int64_t received_ns = 0;  // when the caller got it, on the steady clock; 0: it does not say
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kFailed };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", ...

struct Event {
  enum class Kind : uint8_t {
    kScheduled,     // the prompt's first tokens go into a step now; once a request
    kPromptScored,  // prompt_scores: once, where prompt_logprobs >= 0, before any token
    kToken,         // sampled: the next token of `choice`
    kFinished,      // `choice` has ended: exactly once for each choice of an accepted request
  };
  Kind kind = Kind::kToken;
  uint32_t choice = 0;
  SampledToken sampled;
  // kPromptScored: [prompt.size() - 1] entries; entry i scores token i + 1 given those before it.
  std::vector<SampledToken> prompt_scores;
  uint32_t cached_tokens = 0;  // kScheduled: prompt tokens whose state came from the prefix cache
  FinishReason finish = FinishReason::kNone;
  int32_t stop_token = -1;  // kFinished by kStop: the id of stop_token_ids or end token that
                            // ended it, which is no part of the output; -1: none
  Status failure;           // kFinished by kFailed: what happened
};

// Takes the events of one request, in order. Called on the engine's thread: it must neither block
// nor call the engine. After the last choice's kFinished it is not called again.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_events(std::span<const Event> events) = 0;
};

}  // namespace trireme
