// The serving engine under load, on the demo models of every family: several hundred requests of
// all lengths from two clients at once, over a cache so small that sequences are preempted and
// prefixes give way. A third of them is cancelled or ended early, at a moment that the clients
// choose by what they have read, and they read late. Every choice ends exactly once, nothing is
// live when all is over, the engine's counts are the clients', and a request that is served alone
// by a worker that has seen nothing gets the very same tokens. TRIREME_SEED=<seed> replays what
// failed (but for the order in which threads come).
#include <algorithm>
#include <array>
#include <deque>
#include <latch>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/runtime/engine/load_clients.h"

namespace trireme::test {
namespace {

struct Family {
  std::string name;
  Mesh mesh;
  // The cache, in sequences of the greatest length; sixteen may run. Rows run short while they run,
  // so that sequences are preempted; of states there are too few from the start.
  uint64_t room;
  bool preempts;
};

const std::array<Family, 5> kFamilies = {{{"gqa", {2, 2}, 2, true},
                                          {"rwkv4", {1, 1}, 12, false},
                                          {"rwkv7", {2, 1}, 12, false},
                                          {"yoco-gret", {1, 1}, 12, false},
                                          {"yoco-swa", {1, 2}, 2, true}}};
constexpr uint32_t kTokensMax = 160;

EngineHarnessOptions plain(const Family& family) {
  EngineHarnessOptions o;
  o.path = TRIREME_SOURCE_DIR "/configs/models/" + family.name;
  o.ranks.mesh = {1, family.mesh.shards};
  o.ranks.rows_max = kTokensMax;
  o.ranks.tokens_max = kTokensMax;
  o.ranks.sequences_max = 16;
  o.ranks.block_tokens = 8;
  o.engine.budget.tokens_max = kTokensMax;
  o.engine.budget.sequences_max = 16;
  o.engine.budget.prefill_chunk_max = kTokensMax;
  o.cache.prefix_caching = false;
  return o;
}

EngineHarnessOptions crowded(const Family& family) {
  EngineHarnessOptions o = plain(family);
  uint64_t bytes = 0;
  {
    const EngineHarness probe(o);
    const EngineInfo& info = probe.info();
    for (size_t c = 0; c < info.blocks_total.size(); ++c)
      bytes += info.blocks_total[c] / o.ranks.sequences_max * info.block_bytes[c];
  }
  o.ranks.mesh = family.mesh;
  o.ranks.rows_max = 64;
  o.ranks.cache_bytes = family.room * bytes;
  o.ranks.prefixes = {true, 2};
  o.engine.budget.tokens_max = 40;
  o.engine.budget.prefill_chunk_max = 24;
  o.engine.budget.chunk_align = 8;
  o.engine.budget.admission = Admission::kOptimistic;
  o.engine.pipeline_depth = static_cast<uint32_t>(family.mesh.stages);
  o.engine.swap_bytes = bytes / 4;  // some are copied out, the others are computed again
  o.engine.requests_waiting_max = 30;
  o.engine.aging_ms = 20;
  o.cache.prefix_caching = true;
  o.cache.granule = 8;
  return o;
}

std::string text_of(std::span<const SampledToken> tokens) {
  std::string text;
  for (const SampledToken& t : tokens) text += fmt::format("{}:{:a} ", t.token, t.logprob);
  return text;
}

// Every `nth` request again, alone: who had a whole answer had the same, who was ended early had
// its beginning.
size_t compare_with_alone(const Family& family, std::span<const Job> jobs, size_t nth) {
  EngineHarness worker(plain(family));
  size_t tokens = 0;
  for (size_t i = 0; i < jobs.size(); i += nth) {
    const Job& job = jobs[i];
    SCOPED_TRACE(fmt::format("request {}", i));
    const auto alone = std::make_shared<Collector>(job.request.choices);
    CHECK(worker.engine().submit(job.request, alone).ok());
    alone->wait();
    for (size_t c = 0; c < job.choices.size(); ++c) {
      const Collector::Choice& got = job.choices[c];
      const Collector::Choice expected = alone->choices()[c];
      EXPECT_LE(got.tokens.size(), expected.tokens.size());
      const auto same =
          std::span(expected.tokens).first(std::min(got.tokens.size(), expected.tokens.size()));
      EXPECT_EQ(text_of(got.tokens), text_of(same));
      if (job.manner == Manner::kWhole) {
        EXPECT_EQ(got.tokens.size(), expected.tokens.size());
        EXPECT_EQ(got.finish, expected.finish);
      }
      tokens += got.tokens.size();
    }
  }
  EXPECT_TRUE(worker.stop().ok());
  return tokens;
}

// When all is over, the first request has its answer once more, and the next turn finds it.
constexpr size_t kAfter = 2;
void expect_cache_serves(Engine& engine, const Job& job) {
  Request request = job.request;
  std::vector<SampledToken> tokens;
  uint32_t cached = 0;
  for (size_t i = 0; i < kAfter; ++i) {
    const auto answer = std::make_shared<Collector>();
    CHECK(engine.submit(request, answer).ok());
    answer->wait();
    cached = answer->cached_tokens();
    if (i > 0) break;
    tokens = answer->choices()[0].tokens;
    for (const SampledToken& t : tokens) request.prompt.push_back(t.token);
    request.prompt.push_back(3);
    request.params.max_tokens = 5;
  }
  EXPECT_EQ(text_of(tokens), text_of(job.choices[0].tokens));
  EXPECT_EQ(cached, request.prompt.size() - 2) << "all but the answer's last token was computed";
}

void expect_counts(const EngineStats& stats, std::span<const Job> jobs) {
  uint64_t stop = 0, length = 0, cancelled = 0;
  for (const Job& job : jobs) {
    EXPECT_LE(job.scheduled, 1u);
    for (const Collector::Choice& c : job.choices) {
      EXPECT_EQ(c.finishes, 1u);
      stop += c.finish == FinishReason::kStop;
      length += c.finish == FinishReason::kLength;
      cancelled += c.finish == FinishReason::kCancelled;
    }
  }
  EXPECT_EQ(stats.requests, jobs.size() + kAfter);
  EXPECT_EQ(stats.finished_stop, stop);
  EXPECT_EQ(stats.finished_length, length + kAfter);
  EXPECT_EQ(stats.finished_cancelled, cancelled);
  EXPECT_EQ(stats.finished_failed, 0u);
  EXPECT_EQ(stats.running, 0u);
  EXPECT_EQ(stats.waiting, 0u);
  EXPECT_EQ(stats.spilled_bytes, 0u);
  for (const ClassUsage& u : stats.classes) {
    EXPECT_EQ(u.live, 0u);
    EXPECT_EQ(u.free + u.cached, u.total);
  }
}

TEST(EngineLoad, EveryRequestEndsOnceWithTheTokensThatItGetsAlone) {
  for (const uint64_t seed : seeds(2)) {
    for (const Family& family : kFamilies) {
      SCOPED_TRACE(fmt::format("{}: replay with TRIREME_SEED={}", family.name, seed));
      const Load load;
      Random random(seed);
      std::vector<Job> jobs = make_jobs(load, random);
      EngineHarness worker(crowded(family));
      std::latch gate(static_cast<std::ptrdiff_t>(load.clients));
      worker.engine().ping([&gate](const Status&) { gate.wait(); });  // holds the engine up
      const size_t share = jobs.size() / load.clients;
      std::deque<LoadClient> clients;
      for (size_t c = 0; c < load.clients; ++c)
        clients.emplace_back(worker.engine(), std::span(jobs).subspan(c * share, share), 24,
                             load.crowd, gate, seed + c);
      std::vector<std::thread> threads;
      for (LoadClient& client : clients) threads.emplace_back([&client] { client.run(); });
      for (std::thread& thread : threads) thread.join();
      expect_cache_serves(worker.engine(), jobs[0]);
      const Status stopped = worker.stop();
      EXPECT_TRUE(stopped.ok()) << stopped.message();

      const EngineStats stats = worker.engine().stats();
      expect_counts(stats, jobs);
      EXPECT_GT(stats.finished_cancelled, 10u);
      EXPECT_GT(worker.cache_stats_at_end().blocks_evicted, 0u);
      EXPECT_TRUE(stats.preemptions > 0 || !family.preempts);
      EXPECT_GT(compare_with_alone(family, jobs, 5), 100u);
    }
  }
}

}  // namespace
}  // namespace trireme::test
