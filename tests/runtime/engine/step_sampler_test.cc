// Steps of which nothing but the likeliest tokens is wanted: what a user of logits is told instead
// of rows, and whose requests may be told so.
#include "runtime/engine/step_sampler.h"

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr int32_t kVocab = 12;

StepSampler sampler_of(const SamplingParams& params) {
  StepSampler sampler(kVocab, {2}, nullptr, nullptr);
  SequenceOp op;
  op.kind = SequenceOp::Kind::kAdmit;
  op.seq = 1;
  op.admission.prompt = {3, 4};
  op.admission.params = params;
  sampler.apply(op);
  return sampler;
}

SamplingParams greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

StepResult step(const std::function<Status(StepSampler&)>& give) {
  StepSampler sampler = sampler_of(greedy());
  const std::vector<int32_t> tokens = {3, 4};
  StepPlan::Run run{};
  run.seq = 1;
  run.count = 2;
  run.wants_logits = true;
  sampler.begin(1, std::vector<StepSampler::Run>{{run, tokens}});
  EXPECT_TRUE(give(sampler).ok());
  return sampler.finish();
}

StepResult told(int32_t token) {
  return step([&](StepSampler& s) { return s.take_likeliest(0, std::vector<int32_t>{token}); });
}
StepResult given(float logit) {
  std::vector<float> row(kVocab, logit);
  return step([&](StepSampler& s) { return s.take(0, tensor(row.data(), 1, kVocab)); });
}

TEST(StepSamplerTest, TakesLikeliestTokens) {
  const StepResult result = told(7);
  ASSERT_EQ(result.sampled.size(), 1u);
  EXPECT_EQ(result.sampled[0].seq, 1u);
  ASSERT_EQ(result.sampled[0].tokens.size(), 1u);
  EXPECT_EQ(result.sampled[0].tokens[0].token, 7);
  EXPECT_TRUE(result.sampled[0].failure.ok());
}

TEST(StepSamplerTest, SaysOfRowsWithoutATokenWhatItSaysOfTheRows) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const struct {
    int32_t token;
    float logit;
  } cases[] = {{BestLogit::kBroken, NAN}, {BestLogit::kNone, kNever}};
  for (const auto& c : cases) {
    const StepResult result = told(c.token), want = given(c.logit);
    ASSERT_EQ(result.sampled.size(), 1u);
    EXPECT_TRUE(result.sampled[0].tokens.empty());
    EXPECT_FALSE(result.sampled[0].failure.ok());
    EXPECT_EQ(result.sampled[0].failure.message(), want.sampled.at(0).failure.message());
  }
}

TEST(StepSamplerTest, OnlyPlainGreedyRequestsWantNothingElse) {
  EXPECT_TRUE(wants_likeliest_only(greedy()));
  // Nothing of these matters where nothing is drawn.
  SamplingParams same = greedy();
  same.top_k = 3, same.top_p = 0.5f, same.min_p = 0.1f, same.seed = 9, same.max_tokens = 3;
  same.stop_token_ids = {5}, same.stop = {"x"}, same.ignore_eos = true;
  EXPECT_TRUE(wants_likeliest_only(same));
  const std::function<void(SamplingParams&)> more[] = {
      [](SamplingParams& p) { p.temperature = 0.5f; },
      [](SamplingParams& p) { p.logprobs = 0; },
      [](SamplingParams& p) { p.min_tokens = 1; },
      [](SamplingParams& p) { p.repetition_penalty = 1.1f; },
      [](SamplingParams& p) { p.presence_penalty = 0.1f; },
      [](SamplingParams& p) { p.frequency_penalty = -0.1f; },
      [](SamplingParams& p) {
        p.logit_bias = {{1, 1.0f}};
      },
      [](SamplingParams& p) {
        p.allowed_token_ids = {1, 2};
      },
      [](SamplingParams& p) { p.bad_words = {{1}}; }};
  for (const auto& change : more) {
    SamplingParams params = greedy();
    change(params);
    EXPECT_FALSE(wants_likeliest_only(params));
  }
}

}  // namespace
}  // namespace trireme
