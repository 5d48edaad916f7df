#include "runtime/engine/step_sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace trireme {

void StepSampler::apply(const SequenceOp& op) {
  switch (op.kind) {
    case SequenceOp::Kind::kAdmit: {
      State& state = states_[op.seq];
      state.admission = op.admission;
      start(state);
      return;
    }
    case SequenceOp::Kind::kAccept: {
      State& state = states_.at(op.seq);
      state.penalties.add_output(op.token);
      if (state.constraint != nullptr) state.constraint->accept(op.token);
      return;
    }
    case SequenceOp::Kind::kFork: {
      State& parent = states_.at(op.seq);
      parent.forked = true;
      State child;
      child.admission = parent.admission;
      child.choice = op.choice;
      child.forked = true;
      start(child);
      states_.emplace(op.child, std::move(child));
      return;
    }
    case SequenceOp::Kind::kDrop:
      states_.erase(op.seq);
      return;
    case SequenceOp::Kind::kPreempt:
    case SequenceOp::Kind::kReset:
      return;
  }
}

void StepSampler::start(State& state) {
  const SequenceAdmission& a = state.admission;
  state.penalties = PenaltyState(a.params, a.prompt);
  if (a.constraint.kind == ConstraintSpec::Kind::kNone) return;
  if (compiler_ == nullptr) {
    state.constraint_failure = "this worker serves no constrained output";
    return;
  }
  Result<std::unique_ptr<TokenConstraint>> made = compiler_->compile(a.constraint);
  if (made.ok()) {
    state.constraint = made.take();
  } else {
    state.constraint_failure = made.status().message();
  }
}

void StepSampler::begin(uint64_t step, std::span<const Run> runs) {
  CHECK(rows_done_ == rows_.size()) << "the step before has rows left";
  rows_.clear();
  rows_done_ = 0;
  result_ = {};
  result_.step = step;
  for (const Run& r : runs) {
    State& state = states_.at(r.run.seq);
    const auto tokens = static_cast<uint32_t>(r.tokens.size());
    const uint32_t end = r.run.first + r.run.count;
    if (state.scores_prompt()) {
      const auto prompt = static_cast<uint32_t>(state.admission.prompt.size());
      // A preempted sequence begins again.
      if (r.run.first < state.scores.size()) state.scores.resize(r.run.first);
      for (uint32_t p = r.run.first; p < end; ++p)
        rows_.push_back({r.run.seq, p, p + 1 < prompt, r.run.wants_logits && p + 1 == end, tokens});
      // The token that each row scores is known now.
      for (Row& row : std::span(rows_).last(r.run.count)) {
        if (row.scores) row.tokens = static_cast<uint32_t>(r.tokens[row.position + 1]);
      }
    } else if (r.run.wants_logits) {
      rows_.push_back({r.run.seq, end - 1, false, true, tokens});
    }
  }
}

StepSampler::Choices StepSampler::choices_of(const State& state) {
  if (state.forked || state.admission.choices <= 1) return {state.choice, state.choice};
  return {0, state.admission.choices - 1};
}

bool StepSampler::choose_on_device(int32_t row_on_device, Row& row) {
  State& state = states_.at(row.seq);
  if (!row.samples || row.scores || !DeviceBatch::can_choose(state.admission.params) ||
      !state.constraint_failure.empty())
    return false;
  std::span<const uint32_t> mask;
  if (state.constraint != nullptr) {
    mask_.resize((static_cast<size_t>(vocab_) + 31) / 32);
    if (!state.constraint->fill_mask(mask_).ok()) return false;  // the host says what is wrong
    mask = mask_;
  }
  row.on_device = static_cast<int32_t>(device_batch_.batch().rows.size());
  const auto [first, last] = choices_of(state);
  for (uint32_t choice = first; choice <= last; ++choice)
    device_batch_.add(row_on_device, state.admission.params, state.penalties, eos_, choice,
                      row.position + 1, mask);
  return true;
}

Status StepSampler::queue(int64_t first, ConstTensorView on_device, std::vector<uint8_t>& wanted) {
  if (device_ == nullptr) return Status::ok_status();
  device_batch_.clear();
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (choose_on_device(static_cast<int32_t>(i), rows_.at(static_cast<size_t>(first) + i)))
      wanted[i] = 0;
  }
  return device_->sample(on_device, device_batch_.batch());
}

bool StepSampler::settle(int64_t first, std::vector<uint8_t>& wanted) {
  bool any = false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    Row& row = rows_.at(static_cast<size_t>(first) + i);
    wanted[i] = 0;
    if (row.on_device < 0) continue;
    const auto [choice, last] = choices_of(states_.at(row.seq));
    const auto tokens =
        device_->tokens().subspan(static_cast<size_t>(row.on_device), last - choice + 1);
    if (std::find(tokens.begin(), tokens.end(), -1) == tokens.end()) continue;
    row.on_device = -1;  // the host finds out what is wrong with it
    wanted[i] = 1;
    any = true;
  }
  return any;
}

Status StepSampler::take(int64_t first, TensorView logits) {
  for (int64_t i = 0; i < logits.rows; ++i) {
    const Row& row = rows_.at(static_cast<size_t>(first + i));
    State& state = states_.at(row.seq);
    ++rows_done_;
    if (row.on_device >= 0) {
      StepResult::Sampled sampled;
      sampled.seq = row.seq;
      const auto [choice, last] = choices_of(state);
      for (uint32_t c = 0; c <= last - choice; ++c)
        sampled.tokens.emplace_back().token =
            device_->tokens()[static_cast<size_t>(row.on_device) + c];
      result_.sampled.push_back(std::move(sampled));
      continue;
    }
    const std::span<const float> values(logits.f32_row(i), static_cast<size_t>(logits.cols));
    if (row.scores) score(state, row, values);
    if (row.samples) result_.sampled.push_back(sample_choices(state, row, values));
  }
  return Status::ok_status();
}

// The host's sampler says what is wrong with a row that has no token: of a row like it.
Status StepSampler::take_likeliest(int64_t first, std::span<const int32_t> tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Row& row = rows_.at(static_cast<size_t>(first) + i);
    CHECK(row.samples && !row.scores) << "more than a token is wanted of a row";
    ++rows_done_;
    if (tokens[i] < 0) {
      const float logit = tokens[i] == BestLogit::kBroken ? NAN : -INFINITY;
      const std::vector<float> like(static_cast<size_t>(vocab_), logit);
      result_.sampled.push_back(sample_choices(states_.at(row.seq), row, like));
      continue;
    }
    StepResult::Sampled sampled;
    sampled.seq = row.seq;
    sampled.tokens.emplace_back().token = tokens[i];
    result_.sampled.push_back(std::move(sampled));
  }
  return Status::ok_status();
}

void StepSampler::score(State& state, const Row& row, std::span<const float> logits) {
  const auto target = static_cast<int32_t>(row.tokens);
  const Result<SampledToken> scored =
      trireme::score(logits, target, state.admission.prompt_logprobs, scratch_);
  // A row that cannot be scored cannot be sampled from either: the sampling below reports it.
  SampledToken unknown;
  unknown.token = target;
  if (row.position < state.scores.size()) return;  // sent already, computed again
  state.scores.push_back(scored.ok() ? *scored : unknown);
}

StepResult::Sampled StepSampler::sample_choices(State& state, const Row& row,
                                                std::span<const float> logits) {
  StepResult::Sampled sampled;
  sampled.seq = row.seq;
  const auto [first, last] = choices_of(state);
  for (uint32_t choice = first; choice <= last; ++choice) {
    Result<SampledToken> token = sample_one(state, choice, row.position + 1, logits);
    if (!token.ok()) {
      sampled.tokens.clear();
      sampled.failure = token.status();
      return sampled;
    }
    sampled.tokens.push_back(token.take());
  }
  return sampled;
}

Result<SampledToken> StepSampler::sample_one(State& state, uint32_t choice, uint32_t position,
                                             std::span<const float> logits) {
  if (!state.constraint_failure.empty()) return invalid_argument(state.constraint_failure);
  if (state.constraint == nullptr)
    return sample(logits, state.admission.params, state.penalties, eos_, choice, position,
                  scratch_);
  mask_.resize((static_cast<size_t>(vocab_) + 31) / 32);
  if (Status s = state.constraint->fill_mask(mask_); !s.ok()) return s;
  return sample(logits, state.admission.params, state.penalties, eos_, choice, position, scratch_,
                mask_);
}

StepResult StepSampler::finish() {
  CHECK(rows_done_ == rows_.size()) << rows_.size() - rows_done_ << " rows of logits did not come";
  for (const Row& row : rows_) {
    State& state = states_.at(row.seq);
    const size_t wanted = state.admission.prompt.size() - 1;
    if (!state.scores_prompt() || state.scores_sent || state.scores.size() < wanted) continue;
    result_.scores.push_back({row.seq, state.scores});
    state.scores_sent = true;
  }
  return std::move(result_);
}

}  // namespace trireme
