// The serving engine with ranks as threads, on goldens of every kind of memory: whatever arrives
// together, is cut, cached, forked, preempted, put into host memory or runs through a pipeline, a
// request gets the very tokens, with the very log-probabilities, that it gets alone.
#include "runtime/engine/engine.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/engine_harness.h"

namespace trireme::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}

// One of each kind of state: full, windowed, both, fixed (two sorts), fixed and shared, windowed
// and shared.
const std::vector<std::string> kGoldens = {"llama-tied",   "mistral-window", "qwen2-swa-partial",
                                           "rwkv4-tiny",   "rwkv7-tiny",     "yoco-gret-tiny",
                                           "yoco-swa-tiny"};

EngineHarnessOptions harness(const std::string& name, Mesh mesh = {1, 1}) {
  EngineHarnessOptions o;
  o.path = golden(name);
  o.ranks.mesh = mesh;
  o.ranks.rows_max = 64;
  o.ranks.tokens_max = 64;
  o.ranks.block_tokens = 4;
  o.ranks.cache_bytes = uint64_t{8} << 20;
  o.ranks.prefixes = {true, 8};
  o.engine.budget.tokens_max = 24;
  o.engine.budget.sequences_max = 8;
  o.engine.budget.prefill_chunk_max = 16;
  o.engine.budget.decode_first = true;
  o.engine.budget.admission = Admission::kReserve;
  o.engine.budget.chunk_align = 4;
  o.engine.pipeline_depth = static_cast<uint32_t>(mesh.stages);
  o.cache.granule = 4;
  return o;
}

Request request(size_t i, size_t prompt_tokens) {
  Request r;
  for (size_t t = 0; t < prompt_tokens; ++t)
    r.prompt.push_back(static_cast<int32_t>(3 + (11 * t + 5 * i) % 40));
  r.params.temperature = i % 3 == 0 ? 0.0f : 0.9f;
  r.params.top_p = i % 2 == 0 ? 1.0f : 0.95f;
  r.params.repetition_penalty = i % 4 == 1 ? 1.2f : 1.0f;
  r.params.seed = 77 + i;
  r.params.max_tokens = 9 + static_cast<uint32_t>(i % 7);
  r.params.ignore_eos = true;
  r.params.logprobs = 2;
  return r;
}
std::vector<Request> mixed_requests(size_t count) {
  std::vector<Request> requests;
  for (size_t i = 0; i < count; ++i) requests.push_back(request(i, 1 + 7 * i % 33));
  return requests;
}

std::string text_of(const Collector::Choice& choice) {
  std::string text;
  for (const SampledToken& t : choice.tokens) text += fmt::format("{}:{:a} ", t.token, t.logprob);
  return text + std::string(finish_reason_name(choice.finish));
}

// All at once; the texts of every choice of every request.
std::vector<std::string> serve_together(EngineHarness& worker,
                                        const std::vector<Request>& requests) {
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const Request& r : requests) {
    collectors.push_back(std::make_shared<Collector>(r.choices));
    const auto id = worker.engine().submit(r, collectors.back());
    CHECK(id.ok()) << id.status().message();
  }
  std::vector<std::string> texts;
  for (const auto& c : collectors) {
    c->wait();
    for (const Collector::Choice& choice : c->choices()) {
      EXPECT_EQ(choice.finishes, 1u);
      texts.push_back(text_of(choice));
    }
    EXPECT_EQ(c->scheduled(), 1u);
  }
  return texts;
}

// One after the other, each by a worker that has seen nothing before.
std::vector<std::string> serve_alone(const EngineHarnessOptions& options,
                                     const std::vector<Request>& requests) {
  EngineHarnessOptions plain = options;
  plain.cache.prefix_caching = false;
  plain.engine.budget.tokens_max = 64;
  plain.engine.budget.prefill_chunk_max = 64;
  plain.ranks.cache_bytes = uint64_t{64} << 20;
  EngineHarness worker(plain);
  std::vector<std::string> texts;
  for (const Request& r : requests) {
    for (std::string& text : serve_together(worker, {r})) texts.push_back(std::move(text));
  }
  EXPECT_TRUE(worker.stop().ok());
  return texts;
}

// What is cached may stay; nothing is live.
void expect_at_rest(EngineHarness& worker) {
  const Status stopped = worker.stop();
  EXPECT_TRUE(stopped.ok()) << stopped.message();
  for (const ClassUsage& u : worker.usage_at_end()) {
    EXPECT_EQ(u.live, 0u);
    EXPECT_EQ(u.free + u.cached, u.total);
  }
}

TEST(Engine, TogetherEqualsAlone) {
  const std::vector<Request> requests = mixed_requests(12);
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}, Mesh{1, 2}, Mesh{2, 2}}) {
      SCOPED_TRACE(fmt::format("{} pp {} tp {}", name, mesh.stages, mesh.shards));
      const auto expected = serve_alone(harness(name, {1, mesh.shards}), requests);
      EngineHarness worker(harness(name, mesh));
      EXPECT_EQ(serve_together(worker, requests), expected);
      EXPECT_EQ(serve_together(worker, requests), expected) << "with what the first round cached";
      expect_at_rest(worker);
    }
  }
}

}  // namespace
}  // namespace trireme::test
