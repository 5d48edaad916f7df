// The serving engine with ranks as threads, on goldens of every kind of memory: whatever arrives
// together, is cut, cached, forked, preempted, put into host memory or runs through a pipeline, a
// request gets the very tokens, with the very log-probabilities, that it gets alone.
#include "runtime/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>

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

// What a second request finds of the first, and the same tokens with it as without.
TEST(Engine, ResumesFromCachedPrefixes) {
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 2}}) {
      SCOPED_TRACE(fmt::format("{} pp {} tp {}", name, mesh.stages, mesh.shards));
      Request first = request(3, 40);
      first.params.max_tokens = 6;
      const auto answer = std::make_shared<Collector>();
      EngineHarness worker(harness(name, mesh));
      ASSERT_TRUE(worker.engine().submit(first, answer).ok());
      answer->wait();
      EXPECT_EQ(answer->cached_tokens(), 0u);
      // The next turn: prompt, answer and something new. All but the answer's last token was
      // computed.
      Request next = first;
      const Collector::Choice said = answer->choices()[0];
      for (const SampledToken& t : said.tokens) next.prompt.push_back(t.token);
      for (int32_t t = 0; t < 5; ++t) next.prompt.push_back(4 + t);
      const auto turn = std::make_shared<Collector>();
      ASSERT_TRUE(worker.engine().submit(next, turn).ok());
      turn->wait();
      EXPECT_EQ(turn->cached_tokens(), 45u) << "the end of the turn is remembered";
      // Another prompt with the same beginning: the first of its kind marks where they part, and
      // the one after resumes there, whatever kind of memory the model has.
      Request other = first;
      other.prompt.resize(24);
      for (int32_t t = 0; t < 9; ++t) other.prompt.push_back(7 + t);
      Request third = other;
      third.prompt.back() += 1;
      const auto parted = std::make_shared<Collector>(), resumed = std::make_shared<Collector>();
      ASSERT_TRUE(worker.engine().submit(other, parted).ok());
      parted->wait();
      ASSERT_TRUE(worker.engine().submit(third, resumed).ok());
      resumed->wait();
      EXPECT_GE(resumed->cached_tokens(), 24u);
      const auto expected =
          serve_alone(harness(name, {1, mesh.shards}), {first, next, other, third});
      EXPECT_EQ(text_of(answer->choices()[0]), expected[0]);
      EXPECT_EQ(text_of(turn->choices()[0]), expected[1]);
      EXPECT_EQ(text_of(parted->choices()[0]), expected[2]);
      EXPECT_EQ(text_of(resumed->choices()[0]), expected[3]);
      // Another tenant finds nothing.
      next.cache_salt = "another";
      const auto salted = std::make_shared<Collector>();
      ASSERT_TRUE(worker.engine().submit(next, salted).ok());
      salted->wait();
      EXPECT_EQ(salted->cached_tokens(), 0u);
      EXPECT_EQ(text_of(salted->choices()[0]), expected[1]);
      expect_at_rest(worker);
    }
  }
}

// Choices share the prompt and differ by their number alone: the first is what n = 1 gives, and all
// are what a cache too small for forks, with another company, gives.
TEST(Engine, ChoicesShareThePrompt) {
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}}) {
      SCOPED_TRACE(fmt::format("{} pp {}", name, mesh.stages));
      Request r = request(1, 22);
      r.choices = 4;
      Request one = r;
      one.choices = 1;
      const auto alone = serve_alone(harness(name), {one, r});
      ASSERT_EQ(alone.size(), 5u);
      EXPECT_EQ(alone[1], alone[0]);
      EXPECT_NE(alone[2], alone[1]);
      std::vector<Request> company = mixed_requests(6);
      company.push_back(r);
      EngineHarness worker(harness(name, mesh));
      const auto together = serve_together(worker, company);
      EXPECT_EQ(std::vector(together.end() - 4, together.end()),
                std::vector(alone.begin() + 1, alone.end()));
      expect_at_rest(worker);
    }
  }
}

// Room for so many sequences of the greatest length, and for nothing beside them.
void make_tight(EngineHarnessOptions& o, uint64_t sequences) {
  o.ranks.prefixes = {};
  o.ranks.cache_bytes = uint64_t{1} << 30;
  EngineHarness probe(o);
  const EngineInfo& info = probe.engine().info();
  uint64_t bytes = 0;
  for (size_t c = 0; c < info.blocks_total.size(); ++c)
    bytes += info.blocks_total[c] / o.ranks.sequences_max * info.block_bytes[c];
  o.ranks.cache_bytes = sequences * bytes;
}

// Whoever has to yield goes on later with the very same tokens: from host memory, or computed
// again.
TEST(Engine, PreemptedRequestsGetTheSameTokens) {
  for (const std::string& name : kGoldens) {
    std::vector<Request> requests = mixed_requests(10);
    requests[2].choices = 2;
    for (Request& r : requests) r.params.max_tokens += 18;
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 2}}) {
      const auto expected = serve_alone(harness(name, {1, mesh.shards}), requests);
      for (const PreemptionPolicy policy :
           {PreemptionPolicy::kSpill, PreemptionPolicy::kRecompute, PreemptionPolicy::kAuto}) {
        SCOPED_TRACE(
            fmt::format("{} policy {} pp {}", name, static_cast<int>(policy), mesh.stages));
        EngineHarnessOptions o = harness(name, mesh);
        o.engine.budget.admission = Admission::kOptimistic;
        o.engine.preemption = policy;
        o.engine.swap_bytes = uint64_t{1} << 30;
        make_tight(o, 2);
        EngineHarness worker(o);
        EXPECT_EQ(serve_together(worker, requests), expected);
        const EngineStats stats = worker.engine().stats();
        // Memory of constant size, or of one window, does not run short later; and where states are
        // short, so few sequences run that rows are not.
        const bool constant =
            name.starts_with("rwkv") || name == "mistral-window" || name == "yoco-gret-tiny";
        EXPECT_TRUE(stats.preemptions > 0 || constant);
        EXPECT_EQ(stats.spilled_bytes, 0u);
        expect_at_rest(worker);
      }
    }
  }
}

// Requests come and go at any time, from several threads; some are cancelled at a random event,
// some end a choice themselves. Each choice ends exactly once, and nothing is left behind.
TEST(Engine, EveryRequestEndsOnceUnderCancels) {
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}}) {
      SCOPED_TRACE(fmt::format("{} pp {}", name, mesh.stages));
      EngineHarnessOptions o = harness(name, mesh);
      o.engine.budget.admission = Admission::kOptimistic;
      o.engine.swap_bytes = 1 << 20;
      make_tight(o, 3);
      EngineHarness worker(o);
      Engine& engine = worker.engine();
      std::mutex mutex;
      std::vector<std::pair<std::shared_ptr<Collector>, size_t>> all;  // and which request it was
      const auto client = [&](uint64_t seed) {
        std::mt19937_64 random(seed);
        for (int i = 0; i < 40; ++i) {
          const size_t which = random() % 12;
          Request r = request(which, 1 + 7 * which % 33);
          r.choices = which % 5 == 4 ? 2 : 1;
          auto collector = std::make_shared<Collector>(r.choices);
          const uint64_t manner = random() % 3;
          auto countdown = std::make_shared<std::atomic<int>>(static_cast<int>(random() % 12));
          auto hurt = std::make_shared<std::atomic<bool>>(false);
          if (manner == 1) {
            collector->on_event = [hurt, countdown](const Event&) {
              if (--*countdown == 0) *hurt = true;
            };
          }
          const auto id = engine.submit(r, collector);
          ASSERT_TRUE(id.ok()) << id.status().message();
          if (manner == 0) engine.cancel(*id);  // at once, maybe before its first step
          while (manner == 1 && !*hurt) {
            const auto choices = collector->choices();
            if (std::all_of(choices.begin(), choices.end(),
                            [](const Collector::Choice& c) { return c.finishes > 0; }))
              break;
            std::this_thread::yield();
          }
          if (manner == 1) engine.finish_choice(*id, r.choices - 1);
          if (manner == 1) engine.cancel(*id);
          const std::lock_guard lock(mutex);
          all.emplace_back(collector, manner == 2 ? which : SIZE_MAX);
        }
      };
      std::vector<std::thread> clients;
      for (uint64_t seed = 1; seed <= 3; ++seed) clients.emplace_back(client, seed);
      for (std::thread& c : clients) c.join();
      std::vector<Request> wholes;
      for (size_t which = 0; which < 12; ++which) {
        wholes.push_back(request(which, 1 + 7 * which % 33));
        if (which % 5 == 4) wholes.back().choices = 2;
      }
      std::map<size_t, std::vector<std::string>> expected;
      for (size_t which = 0; which < 12; ++which)
        expected[which] = serve_alone(harness(name, {1, 1}), {wholes[which]});
      size_t left_alone = 0;
      for (const auto& [collector, which] : all) {
        collector->wait();
        std::vector<std::string> texts;
        for (const Collector::Choice& c : collector->choices()) {
          EXPECT_EQ(c.finishes, 1u);
          texts.push_back(text_of(c));
        }
        if (which == SIZE_MAX) continue;
        ++left_alone;
        EXPECT_EQ(texts, expected[which]);
      }
      EXPECT_GT(left_alone, 20u);
      const EngineStats stats = engine.stats();
      EXPECT_EQ(stats.requests, all.size());
      EXPECT_EQ(stats.waiting, 0u);
      expect_at_rest(worker);
    }
  }
}

// The scores of a prompt are those of scoring it alone, whatever its chunks and company; with and
// without tokens after it.
TEST(Engine, ScoresPrompts) {
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}}) {
      SCOPED_TRACE(fmt::format("{} pp {}", name, mesh.stages));
      Request scored = request(0, 37);
      scored.prompt_logprobs = 3;
      Request only = scored;
      only.score_only = true;
      RankOptions plain = harness(name).ranks;
      const auto logits = score_sequences(golden(name), plain, {scored.prompt}, 0);
      ASSERT_TRUE(logits.ok()) << logits.status().message();
      const size_t vocab = logits->at(0).size() / scored.prompt.size();
      EngineHarness worker(harness(name, mesh));
      const auto first = std::make_shared<Collector>(), second = std::make_shared<Collector>();
      const auto company = std::make_shared<Collector>();
      ASSERT_TRUE(worker.engine().submit(request(5, 30), company).ok());
      ASSERT_TRUE(worker.engine().submit(scored, first).ok());
      first->wait();
      ASSERT_TRUE(worker.engine().submit(only, second).ok());
      second->wait();
      company->wait();
      EXPECT_EQ(text_of(first->choices()[0]), serve_alone(harness(name), {request(0, 37)})[0]);
      EXPECT_TRUE(second->choices()[0].tokens.empty());
      EXPECT_EQ(second->choices()[0].finish, FinishReason::kLength);
      SamplerScratch scratch;
      for (const auto& collector : {first, second}) {
        const std::vector<SampledToken> scores = collector->prompt_scores();
        ASSERT_EQ(scores.size(), scored.prompt.size() - 1);
        for (size_t i = 0; i < scores.size(); ++i) {
          const std::span<const float> row(logits->at(0).data() + i * vocab, vocab);
          const auto expected = score(row, scored.prompt[i + 1], 3, scratch);
          ASSERT_TRUE(expected.ok());
          EXPECT_EQ(scores[i].token, expected->token);
          EXPECT_EQ(scores[i].logprob, expected->logprob) << "token " << i + 1;
          EXPECT_EQ(scores[i].top_logprobs, expected->top_logprobs);
        }
      }
      expect_at_rest(worker);
    }
  }
}

TEST(Engine, RefusesWhatCanNeverRun) {
  EngineHarnessOptions o = harness("llama-tied");
  o.engine.choices_max = 4;
  EngineHarness worker(o);
  const auto refused = [&](const std::function<void(Request&)>& edit) {
    Request r = request(0, 5);
    edit(r);
    const auto id = worker.engine().submit(r, std::make_shared<Collector>(9));
    EXPECT_FALSE(id.ok());
    EXPECT_EQ(id.status().code(), StatusCode::kInvalidArgument);
    return id.status().message();
  };
  EXPECT_EQ(refused([](Request& r) { r.prompt.clear(); }),
            "the prompt is empty: it must have a token");
  EXPECT_NE(
      refused([](Request& r) { r.prompt[2] = 1 << 20; }).find("the vocabulary has tokens 0 to"),
      std::string::npos);
  EXPECT_NE(refused([](Request& r) { r.prompt.resize(64, 1); }).find("holds 64"),
            std::string::npos);
  EXPECT_EQ(refused([](Request& r) { r.choices = 5; }), "n is 5: it must be from 1 to 4");
  EXPECT_EQ(refused([](Request& r) { r.params.top_p = 2; }),
            "top_p is 2: it must be above 0 and at most 1 (1 = off)");
  EXPECT_NE(refused([](Request& r) {
              r.constraint.kind = ConstraintSpec::Kind::kJsonObject;
            }).find("no constrained output"),
            std::string::npos);
  expect_at_rest(worker);
}

TEST(Engine, LetsNoMoreWaitThanItSaid) {
  EngineHarnessOptions o = harness("llama-tied");
  o.engine.requests_waiting_max = 3;
  o.engine.budget.sequences_max = 1;
  EngineHarness worker(o);
  std::vector<std::shared_ptr<Collector>> accepted;
  uint32_t refusals = 0;
  for (size_t i = 0; i < 50; ++i) {
    const auto collector = std::make_shared<Collector>();
    const auto id = worker.engine().submit(request(i, 30), collector);
    if (id.ok()) {
      accepted.push_back(collector);
    } else {
      EXPECT_EQ(id.status().code(), StatusCode::kResourceExhausted);
      ++refusals;
    }
  }
  EXPECT_GT(refusals, 0u);
  EXPECT_GE(accepted.size(), 3u);
  for (const auto& collector : accepted) {
    collector->wait();
    EXPECT_EQ(collector->choices()[0].finish, FinishReason::kLength);
  }
  expect_at_rest(worker);
}

TEST(Engine, PriorityGoesFirstAndWaitingMakesUpForIt) {
  EngineHarnessOptions o = harness("llama-tied");
  o.engine.budget.sequences_max = 1;
  EngineHarness worker(o);
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::shared_ptr<Collector>> collectors;
  for (int i = 0; i < 6; ++i) {
    auto collector = std::make_shared<Collector>();
    collector->on_event = [&, i](const Event& e) {
      const std::lock_guard lock(mutex);
      if (e.kind == Event::Kind::kScheduled) order.push_back(i);
    };
    Request r = request(static_cast<size_t>(i), i == 0 ? 50 : 8);
    r.priority = i < 3 ? 1 : 0;
    ASSERT_TRUE(worker.engine().submit(r, collector).ok());
    collectors.push_back(collector);
  }
  for (const auto& collector : collectors) collector->wait();
  // The first may have begun before the others came; those that waited went by priority.
  const auto at = [&](int i) { return std::find(order.begin(), order.end(), i) - order.begin(); };
  for (const int high : {3, 4, 5}) {
    EXPECT_LT(at(high), at(2)) << "priority 0 goes before priority 1";
  }
  EXPECT_LT(at(3), at(4));
  EXPECT_LT(at(4), at(5));
  expect_at_rest(worker);
}

// scheduling_policy: fcfs.
TEST(Engine, WherePrioritiesDoNotCountTheFirstIsServedFirst) {
  EngineHarnessOptions o = harness("llama-tied");
  o.engine.budget.sequences_max = 1;
  o.engine.priorities = false;
  EngineHarness worker(o);
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::shared_ptr<Collector>> collectors;
  for (int i = 0; i < 4; ++i) {
    auto collector = std::make_shared<Collector>();
    collector->on_event = [&, i](const Event& e) {
      const std::lock_guard lock(mutex);
      if (e.kind == Event::Kind::kScheduled) order.push_back(i);
    };
    Request r = request(static_cast<size_t>(i), i == 0 ? 50 : 8);
    r.priority = -1000 * i;
    ASSERT_TRUE(worker.engine().submit(r, collector).ok());
    collectors.push_back(collector);
  }
  for (const auto& collector : collectors) collector->wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  expect_at_rest(worker);
}

TEST(Engine, AnswersPingsAndDrains) {
  EngineHarness worker(harness("llama-tied", {2, 2}));
  const auto ping = [&] {
    std::promise<Status> answer;
    worker.engine().ping([&](const Status& s) { answer.set_value(s); });
    return answer.get_future().get();
  };
  EXPECT_TRUE(ping().ok());
  const auto collector = std::make_shared<Collector>();
  ASSERT_TRUE(worker.engine().submit(request(1, 20), collector).ok());
  EXPECT_TRUE(ping().ok());
  std::promise<void> drained;
  worker.engine().drain([&] { drained.set_value(); });
  const auto late = worker.engine().submit(request(1, 20), std::make_shared<Collector>());
  EXPECT_EQ(late.status().code(), StatusCode::kUnavailable);
  drained.get_future().get();
  EXPECT_EQ(collector->choices()[0].finish, FinishReason::kLength)
      << "what ran has its whole answer";
  EXPECT_TRUE(ping().ok());
  expect_at_rest(worker);
  EXPECT_FALSE(ping().ok());
}

// stop() does not wait for what runs: it fails, once.
TEST(Engine, StopFailsWhatIsLeft) {
  EngineHarness worker(harness("llama-tied"));
  std::vector<std::shared_ptr<Collector>> collectors;
  for (size_t i = 0; i < 20; ++i) {
    collectors.push_back(std::make_shared<Collector>());
    ASSERT_TRUE(worker.engine().submit(request(i, 30), collectors.back()).ok());
  }
  EXPECT_TRUE(worker.stop().ok());
  size_t failed = 0;
  for (const auto& collector : collectors) {
    collector->wait();
    const Collector::Choice choice = collector->choices()[0];
    EXPECT_EQ(choice.finishes, 1u);
    failed += choice.finish == FinishReason::kFailed;
  }
  EXPECT_GT(failed, 0u);
}

// A rank whose tables differ is found out at the next step, and everybody is told.
TEST(Engine, ARankThatComesApartEndsTheWorker) {
  EngineHarnessOptions o = harness("llama-tied", {1, 2});
  o.cache_of_rank = [](int rank, BlockCacheOptions& cache) {
    if (rank == 1) cache.granule = 8;  // publishes other prefixes
  };
  EngineHarness worker(o);
  const auto collector = std::make_shared<Collector>();
  ASSERT_TRUE(worker.engine().submit(request(1, 20), collector).ok());
  collector->wait();
  EXPECT_EQ(collector->choices()[0].finish, FinishReason::kFailed);
  const Status stopped = worker.stop();
  EXPECT_FALSE(stopped.ok());
}

// The plan that was made while the step before computed is the one that is needed, as a rule.
TEST(Engine, PlansAhead) {
  EngineHarness worker(harness("llama-tied"));
  Request r = request(0, 10);
  r.params.max_tokens = 40;
  EXPECT_FALSE(serve_together(worker, {r})[0].empty());
  expect_at_rest(worker);
  EXPECT_GT(worker.ahead_hits(), 30u);
}

}  // namespace
}  // namespace trireme::test
