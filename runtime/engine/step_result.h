// What the sampling rank of a worker tells the leader about one step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/sample/sampler.h"
#include "runtime/schedule/planner.h"

namespace trireme {

struct StepResult {
  // The next token of a sequence, or of each of its choices where it has not been forked yet.
  struct Sampled {
    SeqId seq = 0;
    std::vector<SampledToken> tokens;  // by choice; empty: failed
    Status failure;                    // why there is none; kInvalidArgument: what was asked for
                                       // leaves none
    bool operator==(const Sampled& o) const {
      return seq == o.seq && tokens == o.tokens && failure.code() == o.failure.code() &&
             failure.message() == o.failure.message();
    }
  };
  // The scores of all tokens of a prompt but the first.
  struct PromptScores {
    SeqId seq = 0;
    std::vector<SampledToken> tokens;
    bool operator==(const PromptScores&) const = default;
  };
  uint64_t step = 0;
  uint64_t busy_us = 0;  // that the sampling rank computed
  uint64_t idle_us = 0;  // that it waited while the leader had work
  std::vector<Sampled> sampled;
  std::vector<PromptScores> scores;
  bool operator==(const StepResult&) const = default;
};

std::vector<std::byte> write_step_result(const StepResult& result);
// kDataLoss where the bytes are no step result.
Result<StepResult> read_step_result(std::span<const std::byte> bytes);

}  // namespace trireme
