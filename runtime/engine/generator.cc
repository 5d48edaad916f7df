#include "runtime/engine/generator.h"

#include <algorithm>

#include "kernels/device_sampler.h"
#include "runtime/engine/logits_user.h"

namespace trireme {
namespace {

constexpr int32_t kNotANumber = -1;

}  // namespace

// Chooses the tokens of a step's rows: on the device where it can, else from the row.
class Generator::Chooser final : public LogitsUser {
 public:
  // Row i of the step is the next of sequence wanting[i], and its token goes to tokens[i].
  Chooser(Generator& generator, const std::vector<size_t>& wanting, std::vector<int32_t>& tokens)
      : g_(generator), wanting_(wanting), tokens_(tokens) {}

  Status queue(int64_t first, ConstTensorView on_device, std::vector<uint8_t>& wanted) override {
    DeviceSampler* device = g_.executor_.sampler();
    on_device_.assign(wanted.size(), kOnHost);
    if (device == nullptr) return Status::ok_status();
    g_.device_batch_.clear();
    int32_t batched = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const size_t index = wanting_[static_cast<size_t>(first) + i];
      const SamplingParams& params = g_.requests_[index].params;
      if (!DeviceBatch::can_choose(params)) continue;
      g_.device_batch_.add(static_cast<int32_t>(i), params, g_.sequences_[index].penalties,
                           g_.options_.eos_token_ids, 0, position(index));
      on_device_[i] = batched++;
      wanted[i] = 0;
    }
    return device->sample(on_device, g_.device_batch_.batch());
  }

  // Rows that the device would not choose from: the host finds out why.
  bool settle(int64_t /*first*/, std::vector<uint8_t>& wanted) override {
    bool any = false;
    for (size_t i = 0; i < wanted.size(); ++i) {
      wanted[i] = on_device_[i] != kOnHost && chosen(i) < 0 ? 1 : 0;
      if (wanted[i] == 0) continue;
      on_device_[i] = kOnHost;
      any = true;
    }
    return any;
  }

  Status take_likeliest(int64_t first, std::span<const int32_t> tokens) override {
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens_[static_cast<size_t>(first) + i] = tokens[i] < 0 ? kNotANumber : tokens[i];
    return Status::ok_status();
  }

  Status take(int64_t first, TensorView logits) override {
    for (int64_t i = 0; i < logits.rows; ++i) {
      const auto at = static_cast<size_t>(i);
      const bool there = at < on_device_.size() && on_device_[at] != kOnHost;
      tokens_[static_cast<size_t>(first + i)] =
          there ? chosen(at)
                : choose(wanting_[static_cast<size_t>(first + i)],
                         std::span(logits.f32_row(i), static_cast<size_t>(logits.cols)));
    }
    return Status::ok_status();
  }

 private:
  static constexpr int32_t kOnHost = -1;

  uint32_t position(size_t index) const {
    return static_cast<uint32_t>(g_.sequences_[index].tokens.size());
  }
  int32_t chosen(size_t i) const {
    return g_.executor_.sampler()->tokens()[static_cast<size_t>(on_device_[i])];
  }
  int32_t choose(size_t index, std::span<const float> logits) {
    const SamplingParams& params = g_.requests_[index].params;
    const Result<SampledToken> token =
        sample(logits, params, g_.sequences_[index].penalties, g_.options_.eos_token_ids, 0,
               position(index), g_.scratch_);
    if (token.ok() && params.logprobs >= 0) g_.results_[index].sampled.push_back(*token);
    return token.ok() ? token->token : kNotANumber;
  }

  Generator& g_;
  const std::vector<size_t>& wanting_;
  std::vector<int32_t>& tokens_;
  // Of the rows that were queued last: where the device's batch has them.
  std::vector<int32_t> on_device_;
};

Generator::Generator(Executor& executor, Communicator& world, const Groups& groups,
                     std::vector<GenerateRequest> requests, GeneratorOptions options)
    : executor_(executor),
      world_(world),
      groups_(groups),
      requests_(std::move(requests)),
      options_(std::move(options)),
      device_batch_(executor.model().spec().vocab) {
  for (uint32_t total : executor.blocks_total()) pools_.emplace_back(total);
  // Nobody waits for a single answer here, so the cache is filled and a few yield.
  options_.budget.admission = Admission::kOptimistic;
  results_.resize(requests_.size());
  for (const GenerateRequest& r : requests_) {
    CHECK(!r.prompt.empty() && r.prompt.size() < options_.tokens_max);
    sequences_.push_back(
        {r.prompt, 0, false, SequenceBlocks(executor.layout()), PenaltyState(r.params, r.prompt)});
  }
}

Status Generator::run(const OnToken& on_token) {
  for (;;) {
    const StepPlan next = plan();
    if (next.runs.empty() && next.preempted.empty()) break;
    const bool prefill = std::any_of(next.runs.begin(), next.runs.end(),
                                     [](const StepPlan::Run& r) { return r.count > 1; });
    const auto start = std::chrono::steady_clock::now();
    if (Status s = step(next, on_token); !s.ok()) return s;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    uint64_t rows = 0;
    for (const StepPlan::Run& r : next.runs) rows += r.count;
    (prefill ? stats_.prefill_tokens : stats_.decode_tokens) += rows;
    (prefill ? stats_.prefill_seconds : stats_.decode_seconds) += seconds.count();
    (prefill ? stats_.prefill_steps : stats_.decode_steps) += 1;
  }
  for (const GeneratedSequence& r : results_)
    CHECK(r.finish != FinishReason::kNone) << "a request was left behind";
  for (const BlockPool& pool : pools_) CHECK(pool.live_count() == 0) << "blocks are live at rest";
  return Status::ok_status();
}

StepPlan Generator::plan() const {
  std::vector<SeqView> views;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (results_[i].finish != FinishReason::kNone) continue;
    const Sequence& s = sequences_[i];
    views.push_back({i, static_cast<uint32_t>(s.tokens.size()), s.computed, s.resident,
                     static_cast<uint32_t>(requests_[i].prompt.size())});
  }
  return plan_step({views, executor_.blocks_total(), &executor_.layout()}, options_.budget);
}

void Generator::preempt(const StepPlan& plan) {
  for (SeqId id : plan.preempted) {
    Sequence& s = sequences_[id];
    s.blocks.release(pools_);
    s.computed = 0;  // computed again later, to the same bits
    s.resident = false;
    ++stats_.preemptions;
  }
}

Status Generator::step(const StepPlan& plan, const OnToken& on_token) {
  preempt(plan);
  std::vector<int32_t> tokens;
  if (Status s = sample_all(plan, tokens); !s.ok()) return s;
  size_t next = 0;
  for (const StepPlan::Run& run : plan.runs) {
    Sequence& s = sequences_[run.seq];
    s.computed = run.first + run.count;
    if (run.wants_logits) accept(run.seq, tokens[next++], on_token);
    // Blocks that left the window go back now, so that the planner's count of what stays is true.
    if (s.resident) CHECK(s.blocks.advance(pools_, s.computed, s.computed));
  }
  return Status::ok_status();
}

Status Generator::sample_all(const StepPlan& plan, std::vector<int32_t>& tokens) {
  std::vector<SequenceRun> runs;
  std::vector<size_t> wanting;
  for (const StepPlan::Run& run : plan.runs) {
    Sequence& s = sequences_[run.seq];
    CHECK(s.blocks.advance(pools_, run.first, run.first + run.count))
        << "the plan does not fit the pools";
    s.resident = true;
    using Logits = SequenceRun::Logits;
    runs.push_back({&s.blocks, run.first, std::span(s.tokens).subspan(run.first, run.count),
                    run.wants_logits ? Logits::kLast : Logits::kNone,
                    wants_likeliest_only(requests_[run.seq].params)});
    if (run.wants_logits) wanting.push_back(run.seq);
  }
  tokens.assign(wanting.size(), 0);
  const int sampler = groups_.mesh.rank({groups_.mesh.stages - 1, 0});
  Chooser chooser(*this, wanting, tokens);
  executor_.prepare(runs);
  const Status status = executor_.compute(world_.rank() == sampler ? &chooser : nullptr);
  if (!status.ok()) return status;
  if (tokens.empty()) return Status::ok_status();
  if (Status s = world_.broadcast(
          tensor(tokens.data(), 1, static_cast<int64_t>(tokens.size()), DType::kI32), sampler);
      !s.ok())
    return s;
  if (std::find(tokens.begin(), tokens.end(), kNotANumber) != tokens.end()) {
    return data_loss(
        "the model produced a logit that is not a number: its weights, or their dtype, are unfit");
  }
  return Status::ok_status();
}

void Generator::accept(size_t index, int32_t token, const OnToken& on_token) {
  Sequence& s = sequences_[index];
  GeneratedSequence& result = results_[index];
  const SamplingParams& params = requests_[index].params;
  const auto contains = [&](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  const bool may_stop = result.tokens.size() >= params.min_tokens;
  const bool ends = may_stop && (contains(params.stop_token_ids) ||
                                 (!params.ignore_eos && contains(options_.eos_token_ids)));
  s.tokens.push_back(token);
  s.penalties.add_output(token);
  if (ends) {
    result.finish = FinishReason::kStop;
  } else {
    result.tokens.push_back(token);
    if (on_token(index, token)) {
      result.finish = FinishReason::kStop;
    } else if (result.tokens.size() >= params.max_tokens ||
               s.tokens.size() >= options_.tokens_max) {
      result.finish = FinishReason::kLength;
    }
  }
  if (result.finish == FinishReason::kNone) return;
  s.blocks.release(pools_);
  s.resident = false;
}

}  // namespace trireme
