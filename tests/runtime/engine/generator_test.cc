// The offline engine with ranks as threads, on goldens and on the demo models: whatever company,
// chunking, preemption or number of stages, a request gets the very same tokens.
#include "runtime/engine/generator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/edited_model.h"
#include "tests/support/thread_ranks.h"

namespace trireme::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}
std::string demo(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/configs/models/") + name;
}

struct Job {
  std::string path;
  RankOptions ranks;
  StepBudget budget{64, 8, 64, true};
  std::vector<int32_t> eos;
};

struct Outcome {
  std::vector<GeneratedSequence> sequences;
  GeneratorStats stats;
  Decoder::Counters first, last;  // of the first and the last stage
  uint64_t bytes_per_sequence = 0;
};

Job job_for(const std::string& path, Mesh mesh = {1, 1}) {
  Job job;
  job.path = path;
  job.ranks.mesh = mesh;
  job.ranks.rows_max = 256;
  job.ranks.tokens_max = 64;
  job.ranks.block_tokens = 4;
  return job;
}

using OnToken = std::function<bool(size_t, int32_t)>;

Result<Outcome> try_generate(const Job& job, const std::vector<GenerateRequest>& requests,
                             const OnToken& on_token = {}) {
  Outcome outcome;
  std::mutex mutex;
  std::vector<std::vector<GeneratedSequence>> by_rank(job.ranks.mesh.size());
  const Status status = run_ranks(job.path, job.ranks, [&](Rank& rank) -> Status {
    GeneratorOptions options;
    options.budget = job.budget;
    options.tokens_max = job.ranks.tokens_max;
    options.eos_token_ids = job.eos;
    Generator generator(rank.executor, rank.world, rank.groups, requests, options);
    const Status ran =
        generator.run([&](size_t i, int32_t t) { return on_token && on_token(i, t); });
    if (!ran.ok()) return ran;
    const std::lock_guard lock(mutex);
    by_rank[rank.world.rank()] = generator.results();
    if (rank.groups.here.shard != 0) return Status::ok_status();
    if (rank.groups.first_stage()) {
      outcome.first = rank.model.counters();
      for (const SlotClass& c : rank.model.layout().classes) {
        outcome.bytes_per_sequence +=
            blocks_peak(c, job.ranks.tokens_max, job.ranks.tokens_max) * c.block_bytes;
      }
    }
    if (rank.groups.last_stage()) {
      outcome.last = rank.model.counters();
      outcome.stats = generator.stats();
      outcome.sequences = generator.results();  // with the log-probabilities
    }
    return Status::ok_status();
  });
  if (!status.ok()) return status;
  for (const auto& results : by_rank) {
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(results[i].tokens, by_rank[0][i].tokens) << "ranks disagree on request " << i;
  }
  return outcome;
}

Outcome generate(const Job& job, const std::vector<GenerateRequest>& requests,
                 const OnToken& on_token = {}) {
  auto outcome = try_generate(job, requests, on_token);
  CHECK(outcome.ok()) << outcome.status().message();
  return outcome.take();
}

// Requests of different lengths and manners, all of which run to max_tokens.
std::vector<GenerateRequest> mixed_requests(size_t count = 5) {
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < count; ++i) {
    GenerateRequest r;
    for (size_t t = 0; t < 1 + 7 * i % 33; ++t)
      r.prompt.push_back(static_cast<int32_t>(3 + (11 * t + 5 * i) % 40));
    r.params.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    r.params.top_p = i % 2 == 0 ? 1.0f : 0.95f;
    r.params.repetition_penalty = i % 4 == 1 ? 1.2f : 1.0f;
    r.params.seed = 77 + i;
    r.params.max_tokens = 9 + static_cast<uint32_t>(i);
    r.params.ignore_eos = true;
    r.params.logprobs = 2;
    requests.push_back(std::move(r));
  }
  return requests;
}

// Tokens and the bits of their log-probabilities.
std::string text_of(const GeneratedSequence& s) {
  std::string text;
  for (const SampledToken& t : s.sampled) text += fmt::format("{}:{:a} ", t.token, t.logprob);
  return text + std::string(finish_reason_name(s.finish));
}
std::vector<std::string> texts_of(const Outcome& outcome) {
  std::vector<std::string> texts;
  for (const GeneratedSequence& s : outcome.sequences) texts.push_back(text_of(s));
  return texts;
}

// One of each kind of state: full, windowed, both, fixed (two sorts), fixed and shared.
const std::vector<std::string> kGoldens = {"llama-tied",   "mistral-window", "qwen2-swa-partial",
                                           "rwkv4-tiny",   "rwkv7-tiny",     "yoco-gret-tiny",
                                           "yoco-swa-tiny"};

TEST(Generator, TogetherEqualsAlone) {
  const std::vector<GenerateRequest> requests = mixed_requests();
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}, Mesh{1, 2}, Mesh{2, 2}}) {
      const bool whole = mesh.size() == 1 || mesh.size() == 4;
      const Job job = job_for(golden(name), mesh);
      const Outcome together = generate(job, requests);
      for (size_t i = 0; i < requests.size(); i += whole ? 1 : 3) {
        SCOPED_TRACE(fmt::format("{} pp {} tp {} request {}", name, mesh.stages, mesh.shards, i));
        ASSERT_EQ(together.sequences[i].tokens.size(), requests[i].params.max_tokens);
        const Outcome alone = generate(job, {requests[i]});
        EXPECT_EQ(text_of(together.sequences[i]), text_of(alone.sequences[0]));
      }
    }
  }
}

TEST(Generator, AnyBudgetGivesTheSameTokens) {
  const std::vector<GenerateRequest> requests = mixed_requests();
  for (const std::string& name : kGoldens) {
    Job job = job_for(golden(name));
    const auto expected = texts_of(generate(job, requests));
    for (const StepBudget budget :
         {StepBudget{1, 8, 1, true}, StepBudget{3, 2, 3, true}, StepBudget{8, 8, 5, true},
          StepBudget{64, 3, 7, true}, StepBudget{200, 8, 200, true}}) {
      job.budget = budget;
      EXPECT_EQ(texts_of(generate(job, requests)), expected)
          << name << ", " << budget.tokens_max << " tokens of " << budget.sequences_max
          << " sequences, chunk " << budget.prefill_chunk_max;
    }
  }
}

TEST(Generator, AnyNumberOfStagesGivesTheSameTokens) {
  const std::vector<GenerateRequest> requests = mixed_requests();
  for (const std::string& name : kGoldens) {
    const auto expected = texts_of(generate(job_for(golden(name)), requests));
    EXPECT_EQ(texts_of(generate(job_for(golden(name), {2, 1}), requests)), expected) << name;
    const auto sharded = texts_of(generate(job_for(golden(name), {1, 2}), requests));
    EXPECT_EQ(texts_of(generate(job_for(golden(name), {2, 2}), requests)), sharded) << name;
  }
}

TEST(Generator, PreemptedSequencesGoOnWithTheSameTokens) {
  std::vector<GenerateRequest> requests = mixed_requests(8);
  for (GenerateRequest& r : requests) r.params.max_tokens = 25;  // they grow while they run
  for (const std::string& name : kGoldens) {
    for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 2}}) {
      SCOPED_TRACE(fmt::format("{} pp {}", name, mesh.stages));
      Job job = job_for(golden(name), mesh);
      const Outcome roomy = generate(job, requests);
      EXPECT_EQ(roomy.stats.preemptions, 0u);
      // Only keys and values that are all kept grow for as long as a sequence runs.
      const bool grows =
          name == "llama-tied" || name == "qwen2-swa-partial" || name == "yoco-swa-tiny";
      for (const uint64_t sequences : {1u, 2u}) {
        job.ranks.cache_bytes = sequences * roomy.bytes_per_sequence;
        const Outcome tight = generate(job, requests);
        EXPECT_EQ(texts_of(tight), texts_of(roomy)) << sequences;
        EXPECT_TRUE(!grows || tight.stats.preemptions > 0) << sequences;
      }
    }
  }
}

TEST(Generator, SayWhatDoesNotFit) {
  Job job = job_for(golden("llama-tied"), {2, 1});
  job.ranks.cache_bytes = 100;
  const auto outcome = try_generate(job, mixed_requests());
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.status().code(), StatusCode::kResourceExhausted);
}

TEST(Generator, DemoModelsSayTheSameAtEveryMesh) {
  for (const std::string name : {"gqa", "rwkv4", "rwkv7", "yoco-gret", "yoco-swa"}) {
    std::vector<GenerateRequest> requests = mixed_requests(3);
    for (GenerateRequest& r : requests) {
      r.params = SamplingParams();
      r.params.temperature = 0;
      r.params.max_tokens = 12;
    }
    Job job = job_for(demo(name));
    job.ranks.dtype = DType::kF32;
    job.ranks.sequences_max = 4;
    const Outcome one = generate(job, requests);
    for (const Mesh mesh : {Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}}) {
      job.ranks.mesh = mesh;
      const Outcome many = generate(job, requests);
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(many.sequences[i].tokens, one.sequences[i].tokens)
            << name << " pp " << mesh.stages << " tp " << mesh.shards;
      }
    }
  }
}

TEST(Generator, SeedsDecide) {
  for (const std::string& name : kGoldens) {
    std::vector<GenerateRequest> requests = mixed_requests(1);
    requests[0].params.temperature = 1.0f;
    requests[0].params.max_tokens = 20;
    requests.push_back(requests[0]);
    requests.push_back(requests[0]);
    requests[2].params.seed = 4711;
    const Outcome outcome = generate(job_for(golden(name)), requests);
    EXPECT_EQ(text_of(outcome.sequences[0]), text_of(outcome.sequences[1])) << name;
    EXPECT_NE(outcome.sequences[0].tokens, outcome.sequences[2].tokens) << name;
  }
}

// On a device that chooses tokens itself, which the emulated one does: greedily, by chance, with
// penalties; and the host does for a request that wants log-probabilities.
TEST(Generator, ADeviceThatChoosesGivesTheSameTokens) {
  std::vector<GenerateRequest> requests = mixed_requests(4);
  for (size_t i = 0; i < requests.size(); ++i) {
    SamplingParams& params = requests[i].params;
    params.max_tokens = 8;
    params.temperature = i == 0 ? 0.0f : 0.9f;
    params.top_p = i == 1 ? 0.8f : 1.0f;
    params.repetition_penalty = i == 2 ? 1.3f : 1.0f;
    params.logprobs = i == 3 ? 2 : -1;
  }
  Job job = job_for(golden("llama-tied"));
  job.ranks.cache_dtype = DType::kF32;
  const Outcome host = generate(job, requests);
  for (const Mesh mesh : {Mesh{1, 1}, Mesh{1, 2}}) {
    job.ranks.mesh = mesh;
    job.ranks.isa = "emulated";
    const Outcome device = generate(job, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(fmt::format("tp {} request {}", mesh.shards, i));
      EXPECT_EQ(device.sequences[i].tokens, host.sequences[i].tokens);
      EXPECT_EQ(device.sequences[i].sampled.size(), i == 3 ? 8u : 0u);
    }
  }
}

// ---- when a text ends ----

class GeneratorEnds : public testing::Test {
 protected:
  GeneratorEnds() {
    request_ = mixed_requests(1)[0];
    request_.params.temperature = 1.0f;
    request_.params.max_tokens = 20;
    free_ = generate(job_, {request_}).sequences[0].tokens;
    // The first token that does not occur before: stopping at it leaves exactly what precedes it.
    stop_at_ = 5;
    while (std::find(free_.begin(), free_.begin() + stop_at_, free_[stop_at_]) !=
           free_.begin() + stop_at_)
      ++stop_at_;
  }
  std::vector<int32_t> before_stop() const { return {free_.begin(), free_.begin() + stop_at_}; }

  Job job_ = job_for(golden("yoco-swa-tiny"));
  GenerateRequest request_;
  std::vector<int32_t> free_;
  std::ptrdiff_t stop_at_ = 0;
};

TEST_F(GeneratorEnds, AtMaxTokens) {
  const auto result = generate(job_, {request_}).sequences[0];
  EXPECT_EQ(result.finish, FinishReason::kLength);
  EXPECT_EQ(result.tokens.size(), 20u);
}

TEST_F(GeneratorEnds, AtAStopIdWhichIsNotPartOfTheText) {
  request_.params.stop_token_ids = {free_[stop_at_]};
  const auto result = generate(job_, {request_}).sequences[0];
  EXPECT_EQ(result.finish, FinishReason::kStop);
  EXPECT_EQ(result.tokens, before_stop());
}

TEST_F(GeneratorEnds, AtAnEndTokenUnlessItIsIgnored) {
  job_.eos = {1, free_[stop_at_]};
  EXPECT_EQ(generate(job_, {request_}).sequences[0].tokens, free_) << "ignore_eos";
  request_.params.ignore_eos = false;
  const auto result = generate(job_, {request_}).sequences[0];
  EXPECT_EQ(result.finish, FinishReason::kStop);
  // The other end token may come first.
  const auto end = std::find(free_.begin(), free_.begin() + stop_at_, 1);
  EXPECT_EQ(result.tokens, std::vector<int32_t>(free_.begin(), end));
}

TEST_F(GeneratorEnds, NotBeforeMinTokens) {
  const int32_t stop = free_[stop_at_];
  request_.params.stop_token_ids = {stop};
  request_.params.min_tokens = static_cast<uint32_t>(stop_at_) + 4;
  const auto result = generate(job_, {request_}).sequences[0];
  ASSERT_GE(result.tokens.size(), request_.params.min_tokens);
  EXPECT_EQ(std::count(result.tokens.begin(), result.tokens.end(), stop), 0);
  EXPECT_TRUE(std::equal(free_.begin(), free_.begin() + stop_at_, result.tokens.begin()));
}

TEST_F(GeneratorEnds, AtTheContextLimit) {
  job_.ranks.tokens_max = static_cast<uint32_t>(request_.prompt.size()) + 6;
  const auto result = generate(job_, {request_}).sequences[0];
  EXPECT_EQ(result.finish, FinishReason::kLength);
  EXPECT_EQ(result.tokens, std::vector<int32_t>(free_.begin(), free_.begin() + 6));
}

TEST_F(GeneratorEnds, WhenTheTextSaysSo) {
  size_t seen = 0;
  const auto result =
      generate(job_, {request_}, [&](size_t, int32_t) { return ++seen == 4; }).sequences[0];
  EXPECT_EQ(result.finish, FinishReason::kStop);
  EXPECT_EQ(result.tokens, std::vector<int32_t>(free_.begin(), free_.begin() + 4));
}

TEST_F(GeneratorEnds, OthersGoOnWhenOneEnds) {
  std::vector<GenerateRequest> requests = mixed_requests(4);
  const auto expected = texts_of(generate(job_, requests));
  requests.push_back(request_);
  requests.back().params.stop_token_ids = {free_[stop_at_]};
  const Outcome outcome = generate(job_, requests);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(text_of(outcome.sequences[i]), expected[i]);
  EXPECT_EQ(outcome.sequences.back().tokens, before_stop());
}

// ---- YOCO's early exit ----

// In prefill one row per request passes the cross-decoder, however the prompt is cut: as many rows
// as tokens are sampled, all in all.
TEST(Generator, YocoPrefillLeavesEarly) {
  const std::vector<GenerateRequest> requests = mixed_requests();
  uint64_t prompts = 0, sampled = 0;
  for (const GenerateRequest& r : requests) {
    prompts += r.prompt.size();
    sampled += r.params.max_tokens;
  }
  for (const std::string name : {"yoco-swa-tiny", "yoco-gret-tiny"}) {
    for (const Mesh mesh :
         {Mesh{1, 1}, Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}, Mesh{3, 1}, Mesh{4, 1}}) {
      for (const uint32_t chunk : {4u, 64u}) {
        SCOPED_TRACE(fmt::format("{} pp {} tp {} chunk {}", name, mesh.stages, mesh.shards, chunk));
        Job job = job_for(golden(name), mesh);
        job.budget.prefill_chunk_max = chunk;
        const Outcome outcome = generate(job, requests);
        EXPECT_EQ(outcome.last.rows_after_exit, sampled);
        EXPECT_EQ(outcome.first.rows_before_exit, prompts + sampled - requests.size());
      }
    }
  }
}

// Every other family computes every row to the end.
TEST(Generator, OtherFamiliesHaveNoExit) {
  const Outcome outcome = generate(job_for(golden("llama-tied")), mixed_requests());
  EXPECT_EQ(outcome.last.rows_after_exit, 0u);
  EXPECT_GT(outcome.last.rows_before_exit, 0u);
}

// ---- reduced precision ----

TEST(RowLaw, HoldsForWeightsAndCachesOfEveryType) {
  struct Types {
    std::optional<DType> weights, cache;
  };
  std::vector<std::vector<int32_t>> sequences(3);
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (size_t t = 0; t < 70 - 20 * s; ++t)
      sequences[s].push_back(static_cast<int32_t>((7 * t + 13 * s) % 50));
  }
  for (const std::string& name : kGoldens) {
    for (const Types types : {Types{DType::kBF16, DType::kBF16}, Types{DType::kF16, DType::kF16},
                              Types{DType::kF32, DType::kBF16}, Types{DType::kBF16, DType::kF32}}) {
      RankOptions options;
      options.dtype = types.weights;
      options.cache_dtype = types.cache;
      options.tokens_max = 80;
      options.rows_max = 256;
      const auto whole = score_sequences(golden(name), options, {sequences[0]}, 0);
      ASSERT_TRUE(whole.ok()) << whole.status().message();
      for (const float x : (*whole)[0]) ASSERT_TRUE(std::isfinite(x));
      for (const uint32_t chunk : {1u, 7u, 64u}) {
        const auto cut = score_sequences(golden(name), options, sequences, chunk);
        ASSERT_TRUE(cut.ok()) << cut.status().message();
        EXPECT_EQ((*cut)[0], (*whole)[0])
            << name << " weights " << dtype_name(*types.weights) << " cache "
            << dtype_name(*types.cache) << " chunk " << chunk;
      }
      options.mesh = {2, 1};
      options.block_tokens = 5;
      const auto staged = score_sequences(golden(name), options, {sequences[0]}, 7);
      ASSERT_TRUE(staged.ok()) << staged.status().message();
      EXPECT_EQ((*staged)[0], (*whole)[0]) << name << " pp 2";
    }
  }
}

// The types above are really in use: fewer bits give other logits.
TEST(RowLaw, TypesChangeTheLogits) {
  const std::vector<std::vector<int32_t>> tokens = {{5, 9, 2, 33, 8, 1, 7, 40}};
  for (const std::string name : {"llama-tied", "yoco-swa-tiny"}) {
    RankOptions options;
    options.tokens_max = 16;
    const auto full = score_sequences(golden(name), options, tokens, 0);
    options.cache_dtype = DType::kBF16;
    const auto cache = score_sequences(golden(name), options, tokens, 0);
    options.dtype = DType::kBF16;
    const auto both = score_sequences(golden(name), options, tokens, 0);
    ASSERT_TRUE(full.ok() && cache.ok() && both.ok());
    EXPECT_NE((*full)[0], (*cache)[0]) << name;
    EXPECT_NE((*both)[0], (*cache)[0]) << name;
    for (size_t i = 0; i < (*full)[0].size(); ++i)
      ASSERT_NEAR((*full)[0][i], (*both)[0][i], 0.15f) << name;
  }
}

// ---- unfit weights ----

TEST(Generator, ANaNAmongTheLogitsIsAnErrorOnEveryRank) {
  auto tensors = read_tensors(golden("llama-tied"));
  ASSERT_TRUE(tensors.ok());
  tensors->at("model.embed_tokens.weight").values[3 * 48 + 7] =
      std::numeric_limits<float>::quiet_NaN();
  const TempFolder folder;
  const auto config = read_json_file(golden("llama-tied") + "/config.json");
  ASSERT_TRUE(write_model(folder.path(), *config, *tensors).ok());
  for (const Mesh mesh : {Mesh{1, 1}, Mesh{2, 1}, Mesh{2, 2}}) {
    const auto outcome = try_generate(job_for(folder.path(), mesh), mixed_requests());
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.status().code(), StatusCode::kDataLoss);
    EXPECT_NE(outcome.status().message().find("not a number"), std::string::npos);
  }
}

TEST(GeneratorDeathTest, RefusesAnEmptyPrompt) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH((void)try_generate(job_for(golden("llama-tied")), {GenerateRequest()}), "prompt");
}

}  // namespace
}  // namespace trireme::test
