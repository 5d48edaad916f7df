// What a device's sampler is told about the rows of a step: sampler.h's steps 0 to 3 as edits and
// masks, and the numbers of steps 4 to 6.
//
// One thread. Its memory is used again from step to step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device_sampler.h"
#include "runtime/sample/penalty_state.h"
#include "runtime/sample/sampling_params.h"

namespace trireme {

class DeviceBatch {
 public:
  explicit DeviceBatch(int32_t vocab) : vocab_(vocab) {}

  void clear();

  // Whether a device can choose for such a request: not where log-probabilities are asked for.
  static bool can_choose(const SamplingParams& params) { return params.logprobs < 0; }

  // Row `row` of the logits, for the token at `position` of `choice`; the other arguments as
  // sample() takes them. REQUIRES: can_choose(params).
  void add(int32_t row, const SamplingParams& params, const PenaltyState& penalties,
           std::span<const int32_t> eos, uint32_t choice, uint32_t position,
           std::span<const uint32_t> allowed = {});

  SampleBatch batch() const { return {rows_, edits_, masks_}; }

 private:
  void edit(const SamplingParams& params, const PenaltyState& penalties,
            std::span<const int32_t> eos);
  int32_t mask(const SamplingParams& params, std::span<const uint32_t> allowed);

  int32_t vocab_;
  std::vector<SampleRow> rows_;
  std::vector<LogitEdit> edits_;
  std::vector<uint32_t> masks_;
};

}  // namespace trireme
