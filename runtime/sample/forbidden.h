// Which tokens a request forbids at the end of its output: what the host's sampler and the list of
// edits for a device's sampler both go by. Pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/sample/penalty_state.h"
#include "runtime/sample/sampling_params.h"

namespace trireme {

// forbid(token) for each token that would complete one of bad_words.
template <class Forbid>
void for_each_bad_word_end(const SamplingParams& params, const PenaltyState& penalties,
                           const Forbid& forbid) {
  const std::span<const int32_t> end = penalties.output_end();
  for (const std::vector<int32_t>& word : params.bad_words) {
    const size_t before = word.size() - 1;
    if (before <= end.size() && std::equal(word.begin(), word.end() - 1, end.end() - before))
      forbid(word.back());
  }
}

// Whether the output is still shorter than min_tokens.
inline bool holds_back(const SamplingParams& params, const PenaltyState& penalties) {
  return penalties.output_tokens() < params.min_tokens;
}

// forbid(token) for each token that would end the output. REQUIRES: holds_back() is why.
template <class Forbid>
void for_each_end_token(const SamplingParams& params, std::span<const int32_t> eos,
                        const Forbid& forbid) {
  for (int32_t token : params.stop_token_ids) forbid(token);
  if (params.ignore_eos) return;
  for (int32_t token : eos) forbid(token);
}

}  // namespace trireme
