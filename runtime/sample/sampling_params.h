// What a request may say about the choice of its tokens, under the names and with the ranges of the
// OpenAI API and vLLM. A plain value: the front ends fill it, validate() reads it once, the sampler
// and the stop rules obey it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

struct SamplingParams {
  float temperature = 1.0f;                           // [0, 2]; 0 = greedy
  float top_p = 1.0f;                                 // (0, 1]; 1 = off
  float min_p = 0.0f;                                 // [0, 1]; 0 = off
  int32_t top_k = 0;                                  // >= 1; 0 or -1 = off
  float repetition_penalty = 1.0f;                    // > 0; 1 = off; over prompt and output
  float presence_penalty = 0.0f;                      // [-2, 2]; 0 = off; over the output
  float frequency_penalty = 0.0f;                     // [-2, 2]; 0 = off; over the output
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, [-100, 100]; each id once

  // Which tokens may come at all; empty = all.
  std::vector<int32_t> allowed_token_ids;
  // Sequences of tokens that never come as a whole: the last of one is forbidden where the output
  // ends with those before it.
  std::vector<std::vector<int32_t>> bad_words;

  std::vector<int32_t> stop_token_ids;  // end the text; not part of it
  std::vector<std::string> stop;        // end the text; none is empty
  bool include_stop_str_in_output = false;
  bool ignore_eos = false;
  uint32_t min_tokens = 0;   // no stop id and no EOS before so many
  uint32_t max_tokens = 64;  // >= 1

  uint64_t seed = 0;
  int32_t logprobs = -1;  // -1 = none, 0 = of the chosen token, n = also of the n likeliest

  bool operator==(const SamplingParams&) const = default;
};

// Whether the likeliest token is all that is ever wanted of a row of logits: nothing is drawn,
// edited or told besides.
inline bool wants_likeliest_only(const SamplingParams& p) {
  return p.temperature == 0.0f && p.logprobs < 0 && p.min_tokens == 0 &&
         p.repetition_penalty == 1.0f && p.presence_penalty == 0.0f &&
         p.frequency_penalty == 0.0f && p.logit_bias.empty() && p.allowed_token_ids.empty() &&
         p.bad_words.empty();
}

// The limits of validate() that the APIs do not set.
inline constexpr int32_t kLogprobsMax = 20;
inline constexpr size_t kStopsMax = 64;
inline constexpr size_t kStopBytesMax = 4096;
inline constexpr size_t kLogitBiasMax = 4096;
inline constexpr size_t kAllowedTokensMax = size_t{1} << 20;
inline constexpr size_t kBadWordsMax = 1024;
inline constexpr size_t kBadWordTokensMax = 64;

// Whether every field is in its range, and every token id below `vocab`. The error is one sentence
// that names the field.
Status validate(const SamplingParams& params, int32_t vocab);

// The same for what can be checked before the vocabulary is known: every id is at least 0.
Status validate(const SamplingParams& params);

}  // namespace trireme
