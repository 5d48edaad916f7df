// The serving engine on the emulated GPU, whose memory the host cannot touch and which does nothing
// before it is waited for: forks, cached prefixes and sequences that yield to host memory give the
// tokens that they give on the CPU.
#include <gtest/gtest.h>

#include "tests/support/engine_harness.h"

namespace trireme::test {
namespace {

EngineHarnessOptions harness(const std::string& golden, const std::string& isa) {
  EngineHarnessOptions o;
  o.path = std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + golden;
  o.ranks.isa = isa;
  o.ranks.rows_max = 24;
  o.ranks.tokens_max = 48;
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

// So much that few sequences have room to the end, and none is cached that does not help.
uint64_t little_cache(const EngineHarnessOptions& options) {
  EngineHarnessOptions o = options;
  o.ranks.isa = "";
  o.ranks.prefixes = {};
  EngineHarness probe(o);
  const EngineInfo& info = probe.engine().info();
  uint64_t one = 0;
  for (size_t c = 0; c < info.blocks_total.size(); ++c)
    one += info.blocks_total[c] / o.ranks.sequences_max * info.block_bytes[c];
  return one * 2 + one / 2;
}

std::vector<Request> requests() {
  std::vector<Request> made;
  for (size_t i = 0; i < 5; ++i) {
    Request r;
    for (size_t t = 0; t < 9 + 3 * i; ++t)  // all begin alike
      r.prompt.push_back(static_cast<int32_t>(3 + (t < 8 ? 11 * t : 7 * t + i) % 40));
    r.params.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    r.params.seed = 77 + i;
    r.params.max_tokens = 14;
    r.params.ignore_eos = true;
    r.choices = i == 1 ? 3 : 1;
    made.push_back(std::move(r));
  }
  return made;
}

struct Served {
  std::vector<std::vector<int32_t>> tokens;
  EngineStats stats;
  CacheStats cache;
};

Served serve(const EngineHarnessOptions& options) {
  EngineHarness worker(options);
  Served served;
  for (int round = 0; round < 2; ++round) {  // the second finds what the first has left
    std::vector<std::shared_ptr<Collector>> collectors;
    for (const Request& r : requests()) {
      collectors.push_back(std::make_shared<Collector>(r.choices));
      EXPECT_TRUE(worker.engine().submit(r, collectors.back()).ok());
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
  served.cache = worker.cache_stats_at_end();
  return served;
}

TEST(EmulatedGpuEngine, ForksPrefixesAndSpilledSequencesAreThoseOfTheCpu) {
  for (const std::string golden : {"llama-tied", "rwkv4-tiny", "yoco-swa-tiny"}) {
    SCOPED_TRACE(golden);
    EngineHarnessOptions cpu = harness(golden, ""), gpu = harness(golden, "cuda");
    cpu.ranks.cache_bytes = gpu.ranks.cache_bytes = little_cache(cpu);
    const Served expected = serve(cpu);
    const Served served = serve(gpu);
    EXPECT_EQ(served.tokens, expected.tokens);
    EXPECT_GT(served.stats.prompt_tokens_cached, 0u);
    EXPECT_GT(served.stats.steps_replayed, 0u);
    if (golden == "llama-tied") EXPECT_GT(served.stats.preemptions, 0u);
    EXPECT_EQ(served.stats.spilled_bytes, 0u);
  }
}

}  // namespace
}  // namespace trireme::test
