// What the penalties and the bad words of a sequence look back on: which tokens its prompt holds,
// how often its output has each, and how its output ends. One per sequence, owned by it, kept by
// the thread that owns the sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/sample/sampling_params.h"

namespace trireme {

class PenaltyState {
 public:
  struct Seen {
    int32_t token;
    bool in_prompt;
    uint32_t output_count;
  };

  PenaltyState() = default;
  // Counts tokens only where a penalty of `params` is on, so that a long prompt without penalties
  // costs nothing.
  PenaltyState(const SamplingParams& params, std::span<const int32_t> prompt);

  void add_output(int32_t token);

  // How many tokens add_output has seen.
  uint32_t output_tokens() const { return output_tokens_; }

  // The last tokens of the output: as many as the longest of params.bad_words has before its last.
  std::span<const int32_t> output_end() const { return output_end_; }

  // INVARIANT: ascending by token, each token once.
  std::span<const Seen> seen() const { return seen_; }

 private:
  bool counts_ = false;
  uint32_t output_tokens_ = 0;
  std::vector<Seen> seen_;
  size_t output_end_max_ = 0;
  std::vector<int32_t> output_end_;
};

}  // namespace trireme
