#include "runtime/sample/penalty_state.h"

#include <algorithm>

namespace trireme {

PenaltyState::PenaltyState(const SamplingParams& params, std::span<const int32_t> prompt)
    : counts_(params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
              params.frequency_penalty != 0.0f) {
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
  if (!counts_) return;
  auto at = std::lower_bound(seen_.begin(), seen_.end(), token,
                             [](const Seen& s, int32_t t) { return s.token < t; });
  if (at == seen_.end() || at->token != token) at = seen_.insert(at, {token, false, 0});
  ++at->output_count;
}

}  // namespace trireme
