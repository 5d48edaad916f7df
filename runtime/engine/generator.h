// Runs a fixed set of requests to their ends: the offline engine of `trireme generate`.
//
// Every rank of a worker runs the same Generator over the same requests. The planner is pure and
// the sampled tokens are broadcast by the rank that sampled them, so that all ranks make the same
// steps over their own blocks without being told any block id.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "runtime/engine/executor.h"
#include "runtime/engine/request.h"
#include "runtime/sample/device_batch.h"
#include "runtime/sample/penalty_state.h"
#include "runtime/sample/sampler.h"
#include "runtime/schedule/planner.h"

namespace trireme {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // not empty
  SamplingParams params;        // validated
};

struct GeneratedSequence {
  std::vector<int32_t> tokens;        // of the output; without the end token that stopped it
  std::vector<SampledToken> sampled;  // with logprobs where asked for, on the sampling rank only
  FinishReason finish = FinishReason::kNone;
};

struct GeneratorStats {
  uint64_t prefill_tokens = 0, decode_tokens = 0;  // computed rows
  uint64_t prefill_steps = 0, decode_steps = 0;
  uint64_t preemptions = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

struct GeneratorOptions {
  StepBudget budget;
  uint32_t tokens_max = 0;             // a sequence that is so long ends with kLength
  std::vector<int32_t> eos_token_ids;  // end a request unless it ignores them
};

class Generator {
 public:
  // Told of each token of request `index` in order, on every rank; true: the text ended here (a
  // stop string), which every rank must answer alike.
  using OnToken = std::function<bool(size_t index, int32_t token)>;

  // REQUIRES: every prompt is shorter than options.tokens_max.
  Generator(Executor& executor, Communicator& world, const Groups& groups,
            std::vector<GenerateRequest> requests, GeneratorOptions options);

  // Until every request has ended.
  Status run(const OnToken& on_token);

  const std::vector<GeneratedSequence>& results() const { return results_; }
  const GeneratorStats& stats() const { return stats_; }

 private:
  struct Sequence {
    std::vector<int32_t> tokens;  // prompt and output
    uint32_t computed = 0;
    bool resident = false;
    SequenceBlocks blocks;
    PenaltyState penalties;
  };
  class Chooser;
  StepPlan plan() const;
  void preempt(const StepPlan& plan);
  Status step(const StepPlan& plan, const OnToken& on_token);
  // The next token of each run that wants one, the same on every rank.
  Status sample_all(const StepPlan& plan, std::vector<int32_t>& tokens);
  void accept(size_t index, int32_t token, const OnToken& on_token);

  Executor& executor_;
  Communicator& world_;
  const Groups& groups_;
  std::vector<GenerateRequest> requests_;
  GeneratorOptions options_;
  std::vector<Sequence> sequences_;
  std::vector<GeneratedSequence> results_;
  std::vector<BlockPool> pools_;
  SamplerScratch scratch_;
  DeviceBatch device_batch_;
  GeneratorStats stats_;
};

}  // namespace trireme
