// From one row of logits to one token: a pure function of its arguments, so that a request that is
// run again, in another batch or on another worker, gets the same tokens.
//
// The steps, in vLLM's order:
//   0. allowed               l[t] = -inf for tokens that the mask or allowed_token_ids leaves out,
//                            and for those that would complete one of bad_words; nothing below
//                            undoes it
//   1. logit_bias            l[t] += bias[t]
//   2. min_tokens            l[t] = -inf for EOS (unless ignore_eos) and stop_token_ids, while the
//                            output is shorter than min_tokens; but where a mask leaves only
//                            these, they may come: the form of the output goes before its length
//   3. repetition_penalty r  l[t] = l[t] > 0 ? l[t] / r : l[t] * r     t in prompt or output
//      frequency_penalty f   l[t] -= f * count(t)                      t in output
//      presence_penalty p    l[t] -= p                                 t in output
//   4. temperature 0: the largest l, the lowest id of equals, and done.
//      otherwise w[t] = exp((l[t] - max l) / temperature), in f64
//   5. min_p                 keeps w[t] >= min_p * max w
//      top_k                 keeps the top_k largest of those, exactly; of equals the lower ids
//      top_p                 keeps the fewest largest of those whose sum reaches top_p of the sum
//                            of those; of equals the lower ids
//   6. draws by the inverse of the cumulative sum of what is left, in the order of the ids, at
//      uniform(seed, choice, position): kernels/base/random.h.
// Where vLLM keeps every token that ties with the k-th, top_k keeps exactly k, so that top_k 1 is
// greedy.
//
// Thread-safe as long as each thread has its own scratch.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/sample/penalty_state.h"
#include "runtime/sample/sampling_params.h"

namespace trireme {

struct SampledToken {
  int32_t token = 0;
  // ln softmax(raw logits)[token], before any of the steps above. 0 unless params.logprobs >= 0.
  float logprob = 0.0f;
  // The params.logprobs likeliest tokens under the raw logits, likeliest first; of equals the lower
  // id first.
  std::vector<std::pair<int32_t, float>> top_logprobs;
  bool operator==(const SampledToken&) const = default;
};

// Memory that sample() uses again from call to call.
class SamplerScratch {
 public:
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<float> logits;
  std::vector<Candidate> candidates;
  std::vector<Candidate> top;
  std::vector<double> weights;
  std::vector<double> buckets;
};

// The token at absolute position `position` of choice `choice` of a request. `logits` is the row
// [vocab] of the position before; `eos` are the model's end tokens.
// A NaN or +inf among the logits is kDataLoss; -inf means never. kInvalidArgument: the request
// forbids every token that the model gives.
// REQUIRES: validate(params, logits.size()) is ok; every eos is below logits.size();
//           penalties was made with these params and has seen every token of the output so far;
//           `allowed` is empty (all tokens may come) or has a bit per token: t % 32 of [t / 32].
Result<SampledToken> sample(std::span<const float> logits, const SamplingParams& params,
                            const PenaltyState& penalties, std::span<const int32_t> eos,
                            uint32_t choice, uint32_t position, SamplerScratch& scratch,
                            std::span<const uint32_t> allowed = {});

// The raw log-softmax of `token` under `logits`, in f64, and the `count` likeliest tokens: what
// sample() reports, for those who score a given text.
Result<SampledToken> score(std::span<const float> logits, int32_t token, int32_t count,
                           SamplerScratch& scratch);

}  // namespace trireme
