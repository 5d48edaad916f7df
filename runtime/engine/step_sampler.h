// Tokens from the logits of a step: on the sampling rank (shard 0 of the last stage) alone. Keeps
// for each sequence what sampling looks back on: its parameters, penalties, constraint and the
// scores of its prompt so far.
//
// Told of the same changes of sequences as the table of the rank. One thread.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "kernels/base/tensor.h"
#include "runtime/engine/logits_user.h"
#include "runtime/engine/step_message.h"
#include "runtime/engine/step_result.h"
#include "runtime/sample/device_batch.h"
#include "runtime/sample/penalty_state.h"

namespace trireme {

class StepSampler final : public LogitsUser {
 public:
  // `compiler`: for requests with a constraint; may be null where none comes. `device`: chooses
  // what it can where the logits are; null: nothing. Both outlive this.
  StepSampler(int32_t vocab, std::vector<int32_t> eos_token_ids, ConstraintCompiler* compiler,
              DeviceSampler* device)
      : vocab_(vocab),
        eos_(std::move(eos_token_ids)),
        compiler_(compiler),
        device_(device),
        device_batch_(vocab) {}

  void apply(const SequenceOp& op);

  // A step begins: its runs in order, and of each run all tokens of its sequence that are known.
  // Rows of logits come in this order: of a run whose sequence asks for the scores of its prompt
  // every row, of others the last row where the run wants logits.
  struct Run {
    StepPlan::Run run;
    std::span<const int32_t> tokens;  // of the sequence; valid until finish()
  };
  void begin(uint64_t step, std::span<const Run> runs);

  // As a user of the step's logits: rows that the device has chosen tokens for stay there.
  Status queue(int64_t first, ConstTensorView on_device, std::vector<uint8_t>& wanted) override;
  bool settle(int64_t first, std::vector<uint8_t>& wanted) override;
  Status take(int64_t first, TensorView logits) override;
  Status take_likeliest(int64_t first, std::span<const int32_t> tokens) override;

  // The result of the step. REQUIRES: all rows have come.
  StepResult finish();

  bool scores_prompt(SeqId seq) const { return states_.at(seq).scores_prompt(); }
  size_t sequences() const { return states_.size(); }

 private:
  struct State {
    SequenceAdmission admission;
    uint32_t choice = 0;
    bool forked = false;  // its choices, if several, are sequences of their own
    PenaltyState penalties;
    std::unique_ptr<TokenConstraint> constraint;
    std::string constraint_failure;    // why there is none where one was asked for
    std::vector<SampledToken> scores;  // of tokens 1, 2, ... of the prompt
    bool scores_sent = false;
    bool scores_prompt() const { return admission.prompt_logprobs >= 0; }
  };
  // What one row of logits is for.
  struct Row {
    SeqId seq = 0;
    uint32_t position = 0;  // of the row's token; the logits are about the token after it
    bool scores = false;
    bool samples = false;
    uint32_t tokens = 0;     // known of its sequence
    int32_t on_device = -1;  // the first of its choices' tokens in the device's batch; -1: none
  };
  // The choices of one row: [first, last].
  struct Choices {
    uint32_t first = 0, last = 0;
  };
  static Choices choices_of(const State& state);
  // Adds the row's choices to the device's batch, if the device can choose all of them.
  bool choose_on_device(int32_t row_on_device, Row& row);

  void start(State& state);
  void score(State& state, const Row& row, std::span<const float> logits);
  StepResult::Sampled sample_choices(State& state, const Row& row, std::span<const float> logits);
  Result<SampledToken> sample_one(State& state, uint32_t choice, uint32_t position,
                                  std::span<const float> logits);

  const int32_t vocab_;
  const std::vector<int32_t> eos_;
  ConstraintCompiler* const compiler_;
  DeviceSampler* const device_;
  DeviceBatch device_batch_;
  std::unordered_map<SeqId, State> states_;
  std::vector<Row> rows_;
  size_t rows_done_ = 0;
  StepResult result_;
  SamplerScratch scratch_;
  std::vector<uint32_t> mask_;
};

}  // namespace trireme
