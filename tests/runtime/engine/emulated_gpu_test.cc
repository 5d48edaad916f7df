// The serving engine on the emulated GPU, whose memory the host cannot touch and which does nothing
// before it is waited for: forks, cached prefixes and sequences that yield to host memory give the
// tokens that they give on the CPU.
#include <gtest/gtest.h>

#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/emulator/memory.h"
#include "tests/support/engine_harness.h"

namespace trireme::test {
namespace {

EngineHarnessOptions harness(const std::string& golden, const std::string& isa) {
  EngineHarnessOptions o;
  o.path = std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + golden;
  o.ranks.isa = isa;
  o.ranks.rows_max = 24;
  o.ranks.tokens_max = 28;
  o.ranks.block_tokens = 4;
  o.ranks.prefixes = {true, 8};
  o.engine.budget.tokens_max = 24;
  o.engine.budget.sequences_max = 4;
  o.engine.budget.prefill_chunk_max = 16;
  o.engine.budget.decode_first = true;
  o.engine.budget.chunk_align = 4;
  o.engine.budget.admission = Admission::kOptimistic;
  o.engine.preemption = PreemptionPolicy::kSpill;
  o.engine.swap_bytes = uint64_t{1} << 30;
  o.engine.pipeline_depth = 1;
  o.cache.granule = 4;
  return o;
}

// Room for two sequences of the greatest length, which one request's choices are, and little more.
uint64_t little_cache(const EngineHarnessOptions& options) {
  EngineHarnessOptions o = options;
  o.ranks.prefixes = {};
  o.ranks.cache_bytes = uint64_t{1} << 30;
  EngineHarness probe(o);
  const EngineInfo& info = probe.engine().info();
  uint64_t one = 0;
  for (size_t c = 0; c < info.blocks_total.size(); ++c)
    one += info.blocks_total[c] / o.ranks.sequences_max * info.block_bytes[c];
  return one * 2 + one / 4;
}

std::vector<Request> requests() {
  std::vector<Request> made;
  for (size_t i = 0; i < 4; ++i) {
    Request r;
    for (size_t t = 0; t < 9 + 2 * i; ++t)  // all begin alike
      r.prompt.push_back(static_cast<int32_t>(3 + (t < 8 ? 11 * t : 7 * t + i) % 40));
    r.params.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    r.params.seed = 77 + i;
    r.params.max_tokens = 12;
    r.params.ignore_eos = true;
    r.choices = i == 1 ? 2 : 1;
    made.push_back(std::move(r));
  }
  return made;
}

struct Served {
  std::vector<std::vector<int32_t>> tokens;
  EngineStats stats;
};

Served serve(const EngineHarnessOptions& options) {
  EngineHarness worker(options);
  Served served;
  std::vector<Request> all = requests();
  for (int round = 0; round < 2; ++round) {
    if (round == 1) all.erase(all.begin(), all.end() - 1);  // finds what the first round left
    std::vector<std::shared_ptr<Collector>> collectors;
    for (const Request& r : all) {
      collectors.push_back(std::make_shared<Collector>(r.choices));
      const auto id = worker.engine().submit(r, collectors.back());
      CHECK(id.ok()) << id.status().message();
    }
    for (const auto& collector : collectors) {
      collector->wait();
      for (const Collector::Choice& choice : collector->choices()) {
        EXPECT_TRUE(choice.failure.ok()) << choice.failure.message();
        served.tokens.emplace_back();
        for (const SampledToken& t : choice.tokens) served.tokens.back().push_back(t.token);
      }
    }
  }
  const Status stopped = worker.stop();
  EXPECT_TRUE(stopped.ok()) << stopped.message();
  served.stats = worker.engine().stats();
  return served;
}

TEST(EmulatedGpuEngine, ForksPrefixesAndSpilledSequencesAreThoseOfTheCpu) {
  for (const std::string golden : {"llama-tied", "rwkv4-tiny"}) {
    SCOPED_TRACE(golden);
    EngineHarnessOptions cpu = harness(golden, ""), gpu = harness(golden, "emulated");
    // Memory of constant size does not run short later.
    const bool constant = golden == "rwkv4-tiny";
    const uint64_t bytes = constant ? uint64_t{1} << 20 : little_cache(cpu);
    cpu.ranks.cache_bytes = gpu.ranks.cache_bytes = bytes;
    const Served expected = serve(cpu);
    for (const uint64_t pinned : {uint64_t{1} << 20, uint64_t{0}}) {
      gpu.ranks.swap_bytes = pinned;
      const Served served = serve(gpu);
      EXPECT_EQ(served.tokens, expected.tokens);
      EXPECT_GT(served.stats.prompt_tokens_cached, 0u);
      EXPECT_GT(served.stats.steps_replayed, 0u);
      EXPECT_TRUE(served.stats.preemptions > 0 || constant);
      EXPECT_EQ(served.stats.spilled_bytes, 0u);
    }
  }
}

// A step that finds no memory on the GPU ends the engine. The one who runs it reads what to do; to
// its clients it is gone, which is no fault of theirs and no reason to ask again soon.
TEST(EmulatedGpuEngine, AStepWithoutMemoryEndsIt) {
  EngineHarnessOptions options = harness("llama-tied", "emulated");
  options.ranks.cache_bytes = uint64_t{1} << 20;
  EngineHarness worker(options);
  const size_t bytes = emulator::device_bytes_total();
  emulator::set_device_bytes(emulator::device_bytes_used());
  const auto collector = std::make_shared<Collector>();
  ASSERT_TRUE(worker.engine().submit(requests()[0], collector).ok());
  collector->wait();
  const Collector::Choice choice = collector->choices()[0];
  EXPECT_EQ(choice.finish, FinishReason::kFailed);
  EXPECT_EQ(choice.failure.code(), StatusCode::kUnavailable);
  const Status ended = worker.stop();
  EXPECT_EQ(ended.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(ended.message().find("lower gpu_memory_utilization"), std::string::npos)
      << ended.message();
  EXPECT_EQ(choice.failure.message(), ended.message());
  emulator::set_device_bytes(bytes);
}

}  // namespace
}  // namespace trireme::test
