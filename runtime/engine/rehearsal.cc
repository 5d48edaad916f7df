#include "runtime/engine/rehearsal.h"

#include <algorithm>
#include <vector>

#include "kernels/device_sampler.h"
#include "runtime/engine/step_runner.h"

namespace trireme {
namespace {

// Chooses as many tokens as a step has sequences, with all that a choice may need.
class Chooser final : public LogitsUser {
 public:
  Chooser(DeviceSampler* sampler, int64_t tokens) : sampler_(sampler) {
    for (int32_t i = 0; i < tokens; ++i) {
      SampleRow row;
      row.first_edit = i;
      row.edits = 1;
      row.top_k = 2;
      row.top_p = 0.5f;
      row.u = 0.5;
      rows_.push_back(row);
      edits_.emplace_back();
    }
  }
  Status queue(int64_t /*first*/, ConstTensorView logits, std::vector<uint8_t>& wanted) override {
    if (sampler_ == nullptr) return Status::ok_status();
    std::fill(wanted.begin(), wanted.end(), uint8_t{0});
    // Twice: what the host writes for a device may lie in two pieces of memory in turns.
    const Status once = sampler_->sample(logits, {rows_, edits_, {}});
    return once.ok() ? sampler_->sample(logits, {rows_, edits_, {}}) : once;
  }
  Status take(int64_t /*first*/, TensorView /*logits*/) override { return Status::ok_status(); }
  Status take_likeliest(int64_t, std::span<const int32_t>) override { return Status::ok_status(); }

 private:
  DeviceSampler* sampler_;
  std::vector<SampleRow> rows_;  // all of the first row of logits
  std::vector<LogitEdit> edits_;
};

// Sequences that have `rows` tokens together, made up, each `tokens` of them or, the last one, what
// is left; as many as the cache holds.
class Made {
 public:
  Made(const Executor& executor, uint32_t rows, uint32_t tokens) {
    std::vector<BlockPool> pools;
    for (const uint32_t total : executor.blocks_total()) pools.emplace_back(total);
    const auto vocab = static_cast<uint32_t>(executor.model().spec().vocab);
    for (uint32_t i = 0; i < tokens; ++i) ids_.push_back(static_cast<int32_t>(i % vocab));
    blocks_.reserve(rows / tokens + 1);  // runs point to them
    for (uint32_t left = rows; left > 0;) {
      const uint32_t count = std::min(left, tokens);
      SequenceBlocks blocks(executor.layout());
      if (!blocks.advance(pools, 0, count)) break;
      blocks_.push_back(std::move(blocks));
      prompts_.push_back({&blocks_.back(), 0, std::span(ids_).first(count)});
      left -= count;
    }
    CHECK(!prompts_.empty()) << "a rehearsal does not fit its own cache";
    const SequenceRun& first = prompts_.front();
    decode_ = first;
    decode_.first = static_cast<uint32_t>(first.tokens.size()) - 1;
    decode_.tokens = first.tokens.last(1);
  }

  std::span<const SequenceRun> prompts() const { return prompts_; }
  // The last token of the first.
  std::span<const SequenceRun> decode() const { return {&decode_, 1}; }

 private:
  std::vector<int32_t> ids_;
  std::vector<SequenceBlocks> blocks_;  // of pools that go with them: nobody else has any
  std::vector<SequenceRun> prompts_;
  SequenceRun decode_;
};

uint64_t used(const Device& device) {
  const DeviceMemory memory = device.memory();
  return memory.bytes_total - memory.bytes_free;
}

// What recordings of all sizes take. A size is run plainly, then recorded, then replayed.
Result<uint64_t> decodes(Device& device, Executor& executor, const Made& made) {
  const int32_t most = executor.recorded_max();
  uint64_t largest = 0;
  for (const int32_t size : {most, std::min(most, 64), 1}) {
    uint64_t before = 0;
    for (int step = 0; step < 3; ++step) {
      if (step == 1) before = used(device);
      executor.prepare(made.decode(), size);
      if (Status s = executor.compute(nullptr); !s.ok()) return s;
      if (Status s = device.synchronize(); !s.ok()) return s;
    }
    const uint64_t after = used(device);
    largest = std::max(largest, after - std::min(after, before));
  }
  uint64_t sizes = 0;
  for (int32_t size = 1; size <= most; ++size) sizes += recorded_size(size, most) == size ? 1 : 0;
  return largest * sizes;
}

}  // namespace

Result<uint64_t> rehearse(Device& device, Communicator& world, const Groups& groups, Model& model,
                          const ExecutorOptions& options) {
  const auto rows = static_cast<uint32_t>(model.rows_max());
  const uint32_t tokens = std::min(rows, options.tokens_max);
  const uint32_t sequences = std::min((rows + tokens - 1) / tokens, options.sequences_max);
  ExecutorOptions trial = options;
  trial.chunk_max = tokens;
  trial.prefixes = {};
  trial.swap_bytes = 0;
  trial.cache_bytes = std::min(options.cache_bytes,
                               sequences * bytes_peak(model.layout(), options.tokens_max, tokens));
  Result<std::unique_ptr<Executor>> made_executor =
      Executor::make(device, world, groups, model, trial);
  if (!made_executor.ok()) return made_executor.status();
  Executor& executor = **made_executor;
  const Made made(executor, std::min(rows, sequences * tokens), tokens);
  const bool samples = world.rank() == StepRunner::sampling_rank(groups.mesh);
  Chooser user(executor.sampler(),
               std::min<int64_t>(model.logit_rows_max(), options.sequences_max));
  executor.prepare(made.prompts());
  if (Status s = executor.compute(samples ? &user : nullptr); !s.ok()) return s;
  if (Status s = device.synchronize(); !s.ok()) return s;
  uint64_t recordings = 0;
  if (executor.recorded_max() > 0) {
    const Result<uint64_t> measured = decodes(device, executor, made);
    if (!measured.ok()) return measured.status();
    recordings = *measured;
  }
  return executor.workspace_bytes() + recordings;
}

}  // namespace trireme
