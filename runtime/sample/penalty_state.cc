#include "runtime/sample/penalty_state.h"

#include <algorithm>

namespace trireme {

PenaltyState::PenaltyState(const SamplingParams& params, std::span<const int32_t> prompt)
    : counts_(params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
              params.frequency_penalty != 0.0f) {
  for (const std::vector<int32_t>& word : params.bad_words)
    output_end_max_ = std::max(output_end_max_, word.size() - 1);
  output_end_.reserve(output_end_max_);
  // The prompt matters to the repetition penalty alone.
  if (params.repetition_penalty == 1.0f) return;
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  seen_.reserve(tokens.size());
  for (int32_t token : tokens) seen_.push_back({token, true, 0});
}

void PenaltyState::add_output(int32_t token) {
  ++output_tokens_;
  if (output_end_max_ > 0) {
    if (output_end_.size() == output_end_max_) output_end_.erase(output_end_.begin());
    output_end_.push_back(token);
  }
  if (!counts_) return;
  auto at = std::lower_bound(seen_.begin(), seen_.end(), token,
                             [](const Seen& s, int32_t t) { return s.token < t; });
  if (at == seen_.end() || at->token != token) at = seen_.insert(at, {token, false, 0});
  ++at->output_count;
}

}  // namespace trireme
