#include "tests/bench/device/model_bench.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "kernels/base/random.h"
#include "kernels/device_sampler.h"
#include "runtime/engine/executor.h"
#include "runtime/model/families/families.h"
#include "tests/bench/device/made_up_weights.h"
#include "tests/bench/device/work.h"

namespace trireme::bench {
namespace {

using boost::json::object;

constexpr uint32_t kBlockTokens = 32;
// Kept free beside weights and cache: what a step allocates at its first run.
constexpr uint64_t kSpareBytes = uint64_t{2} << 30;
// Of a device that does not know its memory, which is the host's.
constexpr uint64_t kHostBytes = uint64_t{8} << 30;

bool grows_with_context(const CacheLayout& layout) {
  return std::any_of(layout.classes.begin(), layout.classes.end(), [](const SlotClass& c) {
    return c.growth == StateSpec::Growth::kPerToken && c.window_tokens == 0;
  });
}

// Every block gets random bytes, of which each two are a bf16 number within 0.03 and 2: zeros would
// make a GPU faster than it is.
Status fill_cache(Device& device, Executor& executor) {
  const CacheLayout& layout = executor.layout();
  std::vector<BlockPool> pools;
  for (const uint32_t total : executor.blocks_total()) pools.emplace_back(total);
  SequenceBlocks one(layout);
  if (!one.advance(pools, 0, 1)) return resource_exhausted("no block is free");
  CacheTraffic& traffic = executor.traffic();
  PagedBytes saved = traffic.save(one);
  traffic.settle();
  if (Status s = device.synchronize(); !s.ok()) return s;
  uint32_t state = 12345;
  HostPages::for_each_part(
      saved.pages, 0, saved.bytes, [&](std::byte* bytes, uint64_t, uint64_t count) {
        for (uint64_t i = 0; i + 1 < count; i += 2) {
          state = state * 1664525u + 1013904223u;
          const uint32_t bits = 0x3d00u + (state >> 16) % 0x300u + (state & 0x8000u);
          bytes[i] = static_cast<std::byte>(bits & 0xff);
          bytes[i + 1] = static_cast<std::byte>(bits >> 8);
        }
      });
  traffic.restore(std::move(saved), one);
  traffic.settle();
  for (size_t c = 0; c < pools.size(); ++c) {
    const BlockId from = one.table(c).ids.front();
    for (uint32_t to = 0; to < executor.blocks_total()[c]; ++to) {
      if (static_cast<BlockId>(to) != from) executor.copy_block(c, from, static_cast<BlockId>(to));
    }
  }
  return device.synchronize();
}

// Chooses the most likely tokens where the logits are, as the engine does for greedy requests.
class Chooser final : public LogitsUser {
 public:
  explicit Chooser(DeviceSampler* sampler) : sampler_(sampler) {}
  Status queue(int64_t, ConstTensorView on_device, std::vector<uint8_t>& wanted) override {
    if (sampler_ == nullptr) return Status::ok_status();
    rows_.clear();
    for (size_t i = 0; i < wanted.size(); ++i) {
      SampleRow row;
      row.row = static_cast<int32_t>(i);
      row.temperature = 0;
      rows_.push_back(row);
    }
    std::fill(wanted.begin(), wanted.end(), uint8_t{0});
    return sampler_->sample(on_device, {rows_, {}, {}});
  }
  Status take(int64_t, TensorView) override { return Status::ok_status(); }
  Status take_likeliest(int64_t, std::span<const int32_t>) override { return Status::ok_status(); }

 private:
  DeviceSampler* sampler_;
  std::vector<SampleRow> rows_;
};

// What figures call a model.
std::string label(const ModelPlan& plan, int shards) {
  if (shards > 1) return fmt::format("{}, tp {}", plan.name, shards);
  return plan.weights ? fmt::format("{}, {}", plan.name,
                                    weight_format_name(quantizing_format(*plan.weights)))
                      : plan.name;
}

void print_skip(const std::string& model, const std::string& what, const std::string& why) {
  print_figure({{"kind", "skip"}, {"model", model}, {"what", what}, {"why", why}});
}

class ModelBench {
 public:
  ModelBench(Communicator& world, Device& device, ModelSpec spec, const ModelPlan& plan,
             const Deadline& deadline)
      : world_(world),
        device_(device),
        plan_(plan),
        deadline_(deadline),
        name_(label(plan, world.size()) + plan.variant),
        spec_(std::move(spec)) {}

  Status run() {
    if (Status s = load(); !s.ok()) return s;
    if (Status s = prefills(); !s.ok()) return s;
    bool first = true;
    for (const int64_t context : plan_.contexts) {
      if (!first && !grows_with_context(model_->layout())) {
        skip(fmt::format("decode at {}", context), "its state has one size: as at the first one");
        continue;
      }
      first = false;
      if (Status s = decodes(context); !s.ok()) return s;
    }
    for (const ServePlan& serve : plan_.serves) {
      if (Status s = served(serve); !s.ok()) return s;
    }
    return Status::ok_status();
  }

 private:
  Status load() {
    Result<Groups> groups = make_groups(world_, {1, world_.size()});
    if (!groups.ok()) return groups.status();
    groups_ = std::make_unique<Groups>(groups.take());
    const Result<uint64_t> predicted =
        weight_bytes(spec_, nullptr, choice(), groups_->mesh, groups_->here);
    if (!predicted.ok()) return predicted.status();
    const Result<uint64_t> free = budget();
    if (!free.ok()) return free.status();
    if (*free < *predicted)
      return resource_exhausted(
          fmt::format("its weights have {} bytes, {} are free", *predicted, *free));

    const DeviceMemory before = device_.memory();
    const double begin = now_seconds();
    Result<std::unique_ptr<Checkpoint>> weights = make_up_weights(device_, spec_);
    if (!weights.ok()) return weights.status();
    ModelLoad load;
    load.weights.choice = choice();
    load.weights.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    load.cache_dtype = DType::kBF16;
    load.rows_max = *std::max_element(plan_.prefills.begin(), plan_.prefills.end());
    load.logit_rows_max = *std::max_element(plan_.batches.begin(), plan_.batches.end());
    load.rows_max = std::max(load.rows_max, load.logit_rows_max);
    load.block_tokens = kBlockTokens;
    Result<std::unique_ptr<Model>> model = Model::load(spec_, **weights, device_, *groups_, load);
    if (!model.ok()) return model.status();
    model_ = model.take();
    if (Status s = device_.synchronize(); !s.ok()) return s;
    print({{"kind", "load"},
           {"model", name_},
           {"seconds", now_seconds() - begin},
           {"bytes", *predicted}});
    memory("weights and workspace", *predicted + model_->workspace_bytes(), before);
    return Status::ok_status();
  }

  WeightChoice choice() const { return {DType::kBF16, plan_.weights}; }

  void print(const object& figure) const {
    if (world_.rank() == 0) print_figure(figure);
  }

  // Rank 0's number, on every rank: what the ranks do next must not depend on the clock of each.
  Result<int64_t> agreed(int64_t mine) const {
    if (Status s = world_.broadcast(tensor(&mine, 1, 1, DType::kI64), 0); !s.ok()) return s;
    return mine;
  }

  // Bytes that weights or a cache may take now, on rank 0's device as on the others.
  Result<uint64_t> budget() const {
    uint64_t free = plan_.memory_bytes;
    if (free == 0) {
      const DeviceMemory memory = device_.memory();
      free = memory.bytes_free > kSpareBytes ? memory.bytes_free - kSpareBytes : 0;
      if (memory.bytes_total == 0) free = kHostBytes;
    }
    const Result<int64_t> all = agreed(static_cast<int64_t>(free));
    if (!all.ok()) return all.status();
    return static_cast<uint64_t>(*all);
  }

  void memory(const std::string& what, uint64_t predicted, const DeviceMemory& before) const {
    const DeviceMemory after = device_.memory();
    if (after.bytes_total == 0) return;  // the host's memory is everybody's
    print({{"kind", "memory"},
           {"model", name_},
           {"what", what},
           {"predicted", predicted},
           {"used", before.bytes_free - after.bytes_free}});
  }

  void skip(const std::string& what, const std::string& why) const {
    if (world_.rank() == 0) print_skip(name_, what, why);
  }

  Result<std::unique_ptr<Executor>> make_executor(int64_t tokens, int64_t chunk,
                                                  int64_t sequences) {
    ExecutorOptions options;
    options.tokens_max = static_cast<uint32_t>(tokens);
    options.chunk_max = static_cast<uint32_t>(chunk);
    options.sequences_max = static_cast<uint32_t>(sequences);
    options.cache_bytes =
        bytes_peak(model_->layout(), static_cast<uint32_t>(tokens), static_cast<uint32_t>(chunk)) *
        static_cast<uint64_t>(sequences);
    const DeviceMemory before = device_.memory();
    Result<std::unique_ptr<Executor>> executor =
        Executor::make(device_, world_, *groups_, *model_, options);
    if (!executor.ok()) return executor;
    memory(fmt::format("cache of {} x {}", sequences, tokens),
           options.cache_bytes + (*executor)->workspace_bytes(), before);
    if (Status s = fill_cache(device_, **executor); !s.ok()) return s;
    return executor;
  }

  Status prefills() {
    const int64_t longest = *std::max_element(plan_.prefills.begin(), plan_.prefills.end());
    Result<std::unique_ptr<Executor>> executor = make_executor(longest, longest, 1);
    if (!executor.ok()) return executor.status();
    for (const int64_t tokens : plan_.prefills) {
      std::vector<BlockPool> pools;
      for (const uint32_t total : (*executor)->blocks_total()) pools.emplace_back(total);
      SequenceBlocks blocks(model_->layout());
      CHECK(blocks.advance(pools, 0, static_cast<uint32_t>(tokens)));
      const std::vector<int32_t> ids = tokens_of(tokens);
      const std::vector<SequenceRun> runs = {{&blocks, 0, ids, SequenceRun::Logits::kLast, true}};
      const Result<double> seconds = step_seconds(**executor, runs, 5);
      if (!seconds.ok()) return seconds.status();
      const Result<Work> work = prefill_work(spec_, tokens, DType::kBF16, DType::kBF16);
      if (!work.ok()) return work.status();
      print({{"kind", "prefill"},
             {"model", name_},
             {"gpus", world_.size()},
             {"tokens", tokens},
             {"seconds", *seconds},
             {"flops", work->flops},
             {"tokens_per_second", static_cast<double>(tokens) / *seconds}});
    }
    return Status::ok_status();
  }

  Status decodes(int64_t context) {
    const uint64_t each = bytes_peak(model_->layout(), static_cast<uint32_t>(context + 1), 1);
    const Result<uint64_t> budget_now = budget();
    if (!budget_now.ok()) return budget_now.status();
    const uint64_t free = *budget_now;
    int64_t most = 0;
    for (const int64_t batch : plan_.batches) {
      const uint64_t wanted = each * static_cast<uint64_t>(batch);
      if (wanted <= free) most = std::max(most, batch);
      if (wanted > free) {
        skip(fmt::format("decode of {} at {}", batch, context),
             fmt::format("its cache takes {} MiB, {} are free", wanted >> 20, free >> 20));
      }
    }
    if (most == 0) return Status::ok_status();
    Result<std::unique_ptr<Executor>> executor = make_executor(context + 1, 1, most);
    if (!executor.ok()) return executor.status();
    for (const int64_t batch : plan_.batches) {
      if (batch > most) continue;
      const Result<int64_t> late = agreed(deadline_.left() < 2 * plan_.decode_seconds ? 1 : 0);
      if (!late.ok()) return late.status();
      if (*late != 0) {
        skip(fmt::format("decode of {} at {}", batch, context), "no time was left");
        continue;
      }
      if (Status s = decode(**executor, batch, context); !s.ok()) return s;
    }
    return Status::ok_status();
  }

  // A token each of `batch` sequences that have `context` tokens.
  struct DecodeRuns {
    std::vector<BlockPool> pools;
    std::vector<SequenceBlocks> blocks;
    std::vector<int32_t> ids;
    std::vector<SequenceRun> runs;
  };
  DecodeRuns decode_runs(const Executor& executor, int64_t batch, int64_t context) const {
    DecodeRuns d;
    for (const uint32_t total : executor.blocks_total()) d.pools.emplace_back(total);
    const auto first = static_cast<uint32_t>(context);
    d.blocks.assign(static_cast<size_t>(batch), SequenceBlocks(model_->layout()));
    d.ids = tokens_of(batch);
    for (size_t i = 0; i < d.blocks.size(); ++i) {
      CHECK(d.blocks[i].advance(d.pools, first, first + 1));
      d.runs.push_back(
          {&d.blocks[i], first, std::span(d.ids).subspan(i, 1), SequenceRun::Logits::kLast, true});
    }
    return d;
  }

  Status decode(Executor& executor, int64_t batch, int64_t context) {
    const DecodeRuns decode = decode_runs(executor, batch, context);
    const Result<double> seconds = step_seconds(executor, decode.runs, 200);
    if (!seconds.ok()) return seconds.status();
    const Result<Work> work = decode_work(spec_, batch, context, choice(), DType::kBF16);
    if (!work.ok()) return work.status();
    object figure = {{"kind", "decode"},
                     {"model", name_},
                     {"gpus", world_.size()},
                     {"batch", batch},
                     {"context", context},
                     {"seconds", *seconds},
                     {"bytes", work->bytes},
                     {"flops", work->flops},
                     {"tokens_per_second", static_cast<double>(batch) / *seconds}};
    const Result<double> device_seconds = replayed_seconds(executor);
    if (!device_seconds.ok()) return device_seconds.status();
    if (*device_seconds > 0) figure["device_seconds"] = *device_seconds;
    print(figure);
    return Status::ok_status();
  }

  // What the engine adds to a step: requests, plans, tokens for clients.
  Status served(const ServePlan& plan) {
    const Result<int64_t> late = agreed(deadline_.left() < 3 ? 1 : 0);
    if (!late.ok()) return late.status();
    if (*late != 0) {
      skip(fmt::format("serving of {}", plan.requests), "no time was left");
      return Status::ok_status();
    }
    Result<std::unique_ptr<Executor>> executor = make_executor(
        plan.prompt + plan.answer + 1, std::min(plan.prompt, model_->rows_max()), plan.requests);
    if (!executor.ok()) return executor.status();
    const Result<double> seconds = served_step_seconds(**executor, world_, *groups_, plan);
    if (!seconds.ok()) return seconds.status();
    // The same step by hand.
    const DecodeRuns decode = decode_runs(**executor, plan.requests, plan.prompt + plan.answer);
    const Result<double> bare_seconds = step_seconds(**executor, decode.runs, 50);
    if (!bare_seconds.ok()) return bare_seconds.status();
    const Result<double> device_seconds = replayed_seconds(**executor);
    if (!device_seconds.ok()) return device_seconds.status();
    object figure = {{"kind", "served"},
                     {"model", name_},
                     {"gpus", world_.size()},
                     {"batch", plan.requests},
                     {"context", plan.prompt + plan.answer},
                     {"seconds", *seconds},
                     {"bare_seconds", *bare_seconds},
                     {"tokens_per_second", static_cast<double>(plan.requests) / *seconds}};
    if (*device_seconds > 0) figure["device_seconds"] = *device_seconds;
    print(figure);
    return Status::ok_status();
  }

  // The median of whole steps, until their tokens are on the host.
  Result<double> step_seconds(Executor& executor, const std::vector<SequenceRun>& runs,
                              size_t steps_max) {
    Chooser chooser(executor.sampler());
    const auto step = [&]() -> Result<double> {
      const double begin = now_seconds();
      executor.prepare(runs);
      if (Status s = executor.compute(&chooser); !s.ok()) return s;
      return now_seconds() - begin;
    };
    for (int warm = 0; warm < 3; ++warm) {  // scratch memory grows, then the step is recorded
      if (const Result<double> s = step(); !s.ok()) return s;
    }
    std::vector<double> samples;
    const double begin = now_seconds();
    for (;;) {
      const bool enough = samples.size() >= 3 && (samples.size() >= steps_max ||
                                                  now_seconds() - begin >= plan_.decode_seconds);
      const Result<int64_t> over = agreed(enough ? 1 : 0);
      if (!over.ok()) return over.status();
      if (*over != 0) break;
      const Result<double> s = step();
      if (!s.ok()) return s;
      samples.push_back(*s);
    }
    std::nth_element(samples.begin(),
                     samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2),
                     samples.end());
    return samples[samples.size() / 2];
  }

  // What the device alone takes for the step that ran last; 0 where it was not recorded.
  Result<double> replayed_seconds(Executor& executor) {
    constexpr int kTimes = 20;
    const double begin = now_seconds();
    if (!executor.repeat(kTimes)) return 0.0;
    if (Status s = device_.synchronize(); !s.ok()) return s;
    return (now_seconds() - begin) / kTimes;
  }

  std::vector<int32_t> tokens_of(int64_t count) const {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) {
      const double u = uniform(20261127, 1, static_cast<uint32_t>(i));
      ids.push_back(static_cast<int32_t>(u * static_cast<double>(spec_.vocab)));
    }
    return ids;
  }

  Communicator& world_;
  Device& device_;
  const ModelPlan& plan_;
  const Deadline& deadline_;
  std::string name_;
  ModelSpec spec_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Model> model_;
};

}  // namespace

Status run_model(Communicator& world, Device& device, const ModelPlan& plan,
                 const Deadline& deadline) {
  const std::string path = std::string(TRIREME_SOURCE_DIR "/tests/bench/models/") + plan.name;
  Result<ModelSpec> spec = read_model_spec(path, nullptr);
  if (!spec.ok()) return spec.status();
  if (plan.weights) {
    if (const Result<Matrix> one = device.make_matrix(1, 1, quantizing_format(*plan.weights));
        !one.ok()) {
      print_skip(label(plan, world.size()), "all of it", std::string(one.status().message()));
      return Status::ok_status();
    }
  }
  return ModelBench(world, device, spec.take(), plan, deadline).run();
}

}  // namespace trireme::bench
