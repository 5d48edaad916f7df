// The meaning of every parameter on logits small enough to compute by hand, and the distribution of
// the draws against a second, naive implementation (full sort, f64) by chi-square with fixed seeds.
#include "runtime/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/base/random.h"

namespace trireme {
namespace {

const float kInf = std::numeric_limits<float>::infinity();

class Sampler {
 public:
  explicit Sampler(SamplingParams params = {}, std::vector<int32_t> prompt = {},
                   std::vector<int32_t> eos = {})
      : params_(std::move(params)), state_(params_, prompt), eos_(std::move(eos)) {}

  Result<SampledToken> try_sample(const std::vector<float>& logits, uint32_t position = 0,
                                  uint32_t choice = 0, std::vector<uint32_t> allowed = {}) {
    const Status valid = validate(params_, static_cast<int32_t>(logits.size()));
    EXPECT_TRUE(valid.ok()) << valid.message();
    return sample(logits, params_, state_, eos_, choice, position, scratch_, allowed);
  }
  // The token under a mask of the first 32 tokens.
  int32_t token_of(uint32_t mask, const std::vector<float>& logits) {
    const Result<SampledToken> result = try_sample(logits, 0, 0, {mask});
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? result->token : -1;
  }
  int32_t token(const std::vector<float>& logits, uint32_t position = 0, uint32_t choice = 0) {
    const Result<SampledToken> result = try_sample(logits, position, choice);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? result->token : -1;
  }
  Sampler& after(std::initializer_list<int32_t> output) {
    for (int32_t t : output) state_.add_output(t);
    return *this;
  }
  // How often each token comes in `draws` positions.
  std::map<int32_t, int> histogram(const std::vector<float>& logits, int draws) {
    std::map<int32_t, int> counts;
    for (int i = 0; i < draws; ++i) ++counts[token(logits, static_cast<uint32_t>(i))];
    return counts;
  }

 private:
  SamplingParams params_;
  PenaltyState state_;
  std::vector<int32_t> eos_;
  SamplerScratch scratch_;
};

SamplingParams greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}
SamplingParams with(const std::function<void(SamplingParams&)>& change) {
  SamplingParams params;
  change(params);
  return params;
}
SamplingParams greedy_with(const std::function<void(SamplingParams&)>& change) {
  SamplingParams params = greedy();
  change(params);
  return params;
}

// The probabilities that temperature, min_p, top_k and top_p leave, by sorting everything.
std::vector<double> expected_probabilities(const std::vector<float>& logits,
                                           const SamplingParams& p) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> w(logits.size());
  for (size_t i = 0; i < w.size(); ++i)
    w[i] = std::exp((static_cast<double>(logits[i]) - static_cast<double>(logits[order[0]])) /
                    static_cast<double>(p.temperature));
  const size_t k =
      p.top_k >= 1 ? std::min<size_t>(static_cast<size_t>(p.top_k), w.size()) : w.size();
  for (size_t r = 0; r < order.size(); ++r) {
    if (r >= k || w[order[r]] < static_cast<double>(p.min_p)) w[order[r]] = 0;
  }
  const double total = std::accumulate(w.begin(), w.end(), 0.0);
  double sum = 0;
  for (size_t t : order) {
    if (p.top_p < 1 && sum >= static_cast<double>(p.top_p) * total) w[t] = 0;
    sum += w[t];
  }
  const double kept = std::accumulate(w.begin(), w.end(), 0.0);
  for (double& x : w) x /= kept;
  return w;
}

// Chi-square of the draws against the probabilities. With d degrees of freedom it has mean d and
// variance 2d; d + 6 sqrt(2d) + 12 is beyond the 1e-6 quantile for every d, and seeds are fixed.
void expect_fits(const std::map<int32_t, int>& counts, const std::vector<double>& probabilities,
                 int draws) {
  double chi_square = 0;
  int degrees = -1;
  for (size_t t = 0; t < probabilities.size(); ++t) {
    const auto at = counts.find(static_cast<int32_t>(t));
    const int seen = at == counts.end() ? 0 : at->second;
    const double expected = probabilities[t] * draws;
    if (expected == 0) {
      EXPECT_EQ(seen, 0) << "token " << t << " cannot come";
      continue;
    }
    ASSERT_GT(expected, 5) << "too few draws for token " << t;
    chi_square += (seen - expected) * (seen - expected) / expected;
    ++degrees;
  }
  EXPECT_LT(chi_square, degrees + 6 * std::sqrt(2.0 * std::max(degrees, 1)) + 12);
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, 2.0f, 1.5f, -0.5f};
  const std::vector<SamplingParams> all = {
      SamplingParams{},
      with([](auto& p) { p.temperature = 0.7f; }),
      with([](auto& p) {
        p.temperature = 2.0f;
        p.seed = 99;
      }),
      with([](auto& p) { p.top_k = 3; }),
      with([](auto& p) { p.top_p = 0.8f; }),
      with([](auto& p) { p.min_p = 0.3f; }),
      with([](auto& p) {
        p.top_k = 5;
        p.top_p = 0.7f;
        p.temperature = 1.5f;
      }),
      with([](auto& p) {
        p.top_k = 6;
        p.top_p = 0.9f;
        p.min_p = 0.15f;
        p.seed = 7;
      }),
  };
  for (const SamplingParams& params : all) {
    SCOPED_TRACE(::testing::Message()
                 << "temperature " << params.temperature << " top_k " << params.top_k << " top_p "
                 << params.top_p << " min_p " << params.min_p);
    constexpr int kDraws = 20'000;
    expect_fits(Sampler(params).histogram(logits, kDraws), expected_probabilities(logits, params),
                kDraws);
  }
}

// A wide vocabulary: a heap for top_k 40, a selection for 3000, buckets for top_p.
TEST(Sampler, KeepsTheSameSetAsAFullSortOnAWideVocabulary) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = 0.5f * normal(3, i);
  for (float top_p : {0.01f, 0.1f, 0.5f, 0.9f, 0.999f}) {
    for (int32_t top_k : {0, 3000, 40}) {
      const SamplingParams params = with([&](auto& p) {
        p.top_p = top_p;
        p.top_k = top_k;
      });
      const std::vector<double> probabilities = expected_probabilities(logits, params);
      Sampler sampler(params);
      for (uint32_t position = 0; position < 60; ++position) {
        // The draw itself: the inverse of the cumulative sum in id order at uniform().
        const double u = uniform(params.seed, 0, position);
        double sum = 0;
        size_t expected = 0;
        while (expected + 1 < logits.size() && (sum += probabilities[expected]) <= u) ++expected;
        ASSERT_EQ(sampler.token(logits, position), static_cast<int32_t>(expected))
            << "top_p " << top_p << " top_k " << top_k << " position " << position;
      }
    }
  }
}

TEST(Sampler, GreedyTakesTheLargestAndOfEqualsTheLowestId) {
  EXPECT_EQ(Sampler(greedy()).token({1, 5, 3}), 1);
  EXPECT_EQ(Sampler(greedy()).token({1, 5, 5}), 1);
  EXPECT_EQ(Sampler(greedy()).token({-kInf, -3, -kInf}), 1);
  // Filters do not move it.
  EXPECT_EQ(Sampler(greedy_with([](auto& p) {
              p.top_p = 0.01f;
              p.min_p = 1;
            })).token({1, 5, 3}),
            1);
}

TEST(Sampler, TopKOneIsGreedyEvenAmongEquals) {
  Sampler sampler(with([](auto& p) { p.top_k = 1; }));
  for (uint32_t position = 0; position < 50; ++position)
    EXPECT_EQ(sampler.token({1, 5, 5, 5, 0}, position), 1);
}

TEST(Sampler, TopKKeepsExactlyK) {
  Sampler sampler(with([](auto& p) { p.top_k = 2; }));
  const auto counts = sampler.histogram({4, 4, 4, 4}, 400);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(0) && counts.contains(1));
}

TEST(Sampler, TopPKeepsTheTokenThatReachesIt) {
  // Probabilities 0.5, 0.25, 0.25.
  const std::vector<float> logits = {std::log(2.0f), 0, 0};
  EXPECT_EQ(Sampler(with([](auto& p) { p.top_p = 0.4f; })).histogram(logits, 300).size(), 1u);
  EXPECT_EQ(Sampler(with([](auto& p) { p.top_p = 0.6f; })).histogram(logits, 300).size(), 2u);
  EXPECT_EQ(Sampler(with([](auto& p) { p.top_p = 0.8f; })).histogram(logits, 300).size(), 3u);
}

TEST(Sampler, TopPCountsOnlyWhatTopKLeft) {
  // 0.4, 0.3, 0.3: top_k 2 leaves 4/7 and 3/7. top_p 0.5 is then reached by the first alone, though
  // of the whole it has only 0.4.
  const std::vector<float> logits = {std::log(4.0f), std::log(3.0f), std::log(3.0f)};
  Sampler sampler(with([](auto& p) {
    p.top_k = 2;
    p.top_p = 0.5f;
  }));
  EXPECT_EQ(sampler.histogram(logits, 300).size(), 1u);
}

TEST(Sampler, MinPIsRelativeToTheLikeliestAfterTemperature) {
  // Ratios to the likeliest at temperature 1: 1, 0.5, 0.25; at temperature 2: 1, 0.71, 0.5.
  const std::vector<float> logits = {std::log(4.0f), std::log(2.0f), 0};
  EXPECT_EQ(Sampler(with([](auto& p) { p.min_p = 0.4f; })).histogram(logits, 400).size(), 2u);
  EXPECT_EQ(Sampler(with([](auto& p) {
              p.min_p = 0.4f;
              p.temperature = 2;
            }))
                .histogram(logits, 400)
                .size(),
            3u);
  EXPECT_EQ(Sampler(with([](auto& p) { p.min_p = 1; })).histogram(logits, 100).size(), 1u);
}

TEST(Sampler, LogitBiasForcesAndForbids) {
  const std::vector<float> logits = {1, 5, 3};
  EXPECT_EQ(Sampler(greedy_with([](auto& p) { p.logit_bias = {{0, 100.0f}}; })).token(logits), 0);
  EXPECT_EQ(Sampler(greedy_with([](auto& p) { p.logit_bias = {{1, -100.0f}}; })).token(logits), 2);
  EXPECT_EQ(Sampler(greedy_with([](auto& p) { p.logit_bias = {{2, 1.9f}}; })).token(logits), 1);
  EXPECT_EQ(Sampler(greedy_with([](auto& p) { p.logit_bias = {{2, 2.1f}}; })).token(logits), 2);
}

TEST(Sampler, MinTokensHoldsBackEndAndStopTokens) {
  const std::vector<float> logits = {1, 2, 5, 4};
  const SamplingParams params = greedy_with([](auto& p) {
    p.min_tokens = 2;
    p.stop_token_ids = {3};
  });
  EXPECT_EQ(Sampler(params, {}, {2}).token(logits), 1);
  EXPECT_EQ(Sampler(params, {}, {2}).after({0}).token(logits), 1);
  EXPECT_EQ(Sampler(params, {}, {2}).after({0, 0}).token(logits), 2);
  // ignore_eos: the end token is a token like others, the stop ids are not.
  SamplingParams ignoring = params;
  ignoring.ignore_eos = true;
  EXPECT_EQ(Sampler(ignoring, {}, {2}).token(logits), 2);
  EXPECT_EQ(Sampler(ignoring, {}, {}).token({1, 2, 0, 4}), 1);
}

TEST(Sampler, OnlyWhatAMaskAllowsComes) {
  const std::vector<float> logits = {1, 5, 3, 4};
  EXPECT_EQ(Sampler(greedy()).token_of(0b1111, logits), 1);
  EXPECT_EQ(Sampler(greedy()).token_of(0b1101, logits), 3);
  EXPECT_EQ(Sampler(greedy()).token_of(0b0001, logits), 0);
  // No bias brings back what is masked; draws stay inside too.
  EXPECT_EQ(Sampler(greedy_with([](auto& p) {
              p.logit_bias = {{1, 100.0f}};
            })).token_of(5, logits),
            2);
  for (uint32_t i = 0; i < 200; ++i) {
    Sampler sampler{SamplingParams{}};
    const Result<SampledToken> drawn = sampler.try_sample(logits, i, 0, {0b0101});
    ASSERT_TRUE(drawn.ok());
    EXPECT_TRUE(drawn->token == 0 || drawn->token == 2) << drawn->token;
  }
  const Result<SampledToken> none = Sampler(greedy()).try_sample(logits, 0, 0, {0});
  EXPECT_EQ(none.status().code(), StatusCode::kInvalidArgument);
}

TEST(Sampler, AMaskGoesBeforeTheMinimum) {
  const std::vector<float> logits = {1, 2, 5, 4};
  const SamplingParams params = greedy_with([](auto& p) {
    p.min_tokens = 2;
    p.logit_bias = {{2, -1.5f}};
  });
  EXPECT_EQ(Sampler(params, {}, {2, 3}).token_of(0b1110, logits), 1);
  // Only end tokens are left: the likelier of them, bias and all.
  EXPECT_EQ(Sampler(params, {}, {2, 3}).token_of(0b1100, logits), 3);
  EXPECT_EQ(Sampler(params, {}, {2, 3}).after({0, 0}).token_of(0b1110, logits), 3);
}

TEST(Sampler, AllowedTokenIdsAreAllThatComes) {
  const std::vector<float> logits = {1, 5, 3, 4};
  const SamplingParams params = greedy_with([](auto& p) { p.allowed_token_ids = {2, 0, 2}; });
  EXPECT_EQ(Sampler(params).token(logits), 2);
  EXPECT_EQ(Sampler(params).token_of(0b1011, logits), 0);
  EXPECT_FALSE(Sampler(params).try_sample(logits, 0, 0, {0b1010}).ok());
  EXPECT_FALSE(Sampler(params).try_sample({-kInf, 1, -kInf, 1}).ok());
}

TEST(Sampler, BadWordsNeverComeAsAWhole) {
  const std::vector<float> logits = {1, 5, 3, 4};
  const SamplingParams params = greedy_with([](auto& p) {
    p.bad_words = {{1}, {0, 2, 3}, {3, 3}};
  });
  EXPECT_EQ(Sampler(params).token(logits), 3);
  EXPECT_EQ(Sampler(params).after({3}).token(logits), 2);
  EXPECT_EQ(Sampler(params).after({2}).token(logits), 3);
  EXPECT_EQ(Sampler(params).after({0, 2}).token(logits), 2);
  EXPECT_EQ(Sampler(params).after({1, 1, 0, 2}).token(logits), 2);
  EXPECT_EQ(Sampler(params).after({0, 2, 0}).token(logits), 3);
  // The prompt does not count.
  EXPECT_EQ(Sampler(params, {0, 2}).token(logits), 3);
  EXPECT_FALSE(Sampler(params).try_sample({-kInf, 1, -kInf, -kInf}).ok());
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  const SamplingParams params = greedy_with([](auto& p) { p.repetition_penalty = 2; });
  // Prompt {0}: 5 -> 2.5, which is below 3.
  EXPECT_EQ(Sampler(params, {0}).token({5, 3, -1}), 1);
  EXPECT_EQ(Sampler(params, {0}).token({5, 2.4f, -1}), 0);
  // Output {1}: -1 -> -2, which is below -1.5; how often does not matter.
  EXPECT_EQ(Sampler(params).after({1, 1, 1}).token({-9, -1, -1.5f}), 2);
  EXPECT_EQ(Sampler(params).after({1, 1, 1}).token({-9, -1, -2.5f}), 1);
  // A token in both is divided once: 5 -> 2.5 > 2.4.
  EXPECT_EQ(Sampler(params, {0}).after({0}).token({5, 2.4f, -1}), 0);
}

TEST(Sampler, PresenceAndFrequencyCountTheOutputAlone) {
  const SamplingParams presence = greedy_with([](auto& p) { p.presence_penalty = 1; });
  EXPECT_EQ(Sampler(presence, {0}).token({5, 4.5f}), 0);
  EXPECT_EQ(Sampler(presence).after({0}).token({5, 4.5f}), 1);
  EXPECT_EQ(Sampler(presence).after({0, 0, 0}).token({5, 3.9f}), 0);  // once, however often
  const SamplingParams frequency = greedy_with([](auto& p) { p.frequency_penalty = 0.5f; });
  EXPECT_EQ(Sampler(frequency, {0, 0, 0}).token({5, 4.5f}), 0);
  EXPECT_EQ(Sampler(frequency).after({0, 0}).token({5, 4.1f}), 1);  // 5 - 2 * 0.5 = 4
  EXPECT_EQ(Sampler(frequency).after({0, 0}).token({5, 3.9f}), 0);
  const SamplingParams reward = greedy_with([](auto& p) { p.frequency_penalty = -2; });
  EXPECT_EQ(Sampler(reward).after({1}).token({5, 3.5f}), 1);
}

// 8 / 2 - 0.5 * 2 - 1 = 2, in this order; the other way round it would be (8 - 2) / 2 = 3.
TEST(Sampler, RepetitionComesBeforeTheOtherPenalties) {
  const SamplingParams params = greedy_with([](auto& p) {
    p.repetition_penalty = 2;
    p.frequency_penalty = 0.5f;
    p.presence_penalty = 1;
  });
  EXPECT_EQ(Sampler(params).after({0, 0}).token({8, 1.9f}), 0);
  EXPECT_EQ(Sampler(params).after({0, 0}).token({8, 2.1f}), 1);
}

TEST(Sampler, TheSameArgumentsGiveTheSameTokenAndOthersDiffer) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = normal(5, i);
  const auto text = [&](uint64_t seed, uint32_t choice) {
    Sampler sampler(with([&](auto& p) {
      p.seed = seed;
      p.top_p = 0.95f;
    }));
    std::vector<int32_t> tokens;
    for (uint32_t position = 0; position < 64; ++position)
      tokens.push_back(sampler.token(logits, position, choice));
    return tokens;
  };
  EXPECT_EQ(text(1, 0), text(1, 0));
  EXPECT_NE(text(1, 0), text(2, 0));
  EXPECT_NE(text(1, 0), text(1, 1));
  EXPECT_NE(text(1, 0), text(uint64_t{1} << 32, 0));
  // The scratch carries nothing over: the draw at one position does not need those before it.
  Sampler fresh(with([](auto& p) {
    p.seed = 1;
    p.top_p = 0.95f;
  }));
  EXPECT_EQ(fresh.token(logits, 63), text(1, 0)[63]);
}

// The numbers come from Philox and the sum written again in Python.
TEST(Sampler, TheTextDoesNotChangeFromReleaseToRelease) {
  std::vector<float> logits(50);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7);
  Sampler sampler(with([](auto& p) { p.seed = 42; }));
  std::vector<int32_t> tokens;
  for (uint32_t position = 0; position < 8; ++position)
    tokens.push_back(sampler.token(logits, position));
  const std::vector<int32_t> golden = {33, 48, 41, 39, 19, 19, 13, 20};
  EXPECT_EQ(tokens, golden);
}

TEST(Sampler, WhatIsNoLogitIsAnError) {
  for (float bad : {std::nanf(""), kInf}) {
    for (const SamplingParams& params : {greedy(), SamplingParams{}}) {
      const Result<SampledToken> result = Sampler(params).try_sample({1, 2, bad, 3});
      ASSERT_FALSE(result.ok());
      EXPECT_EQ(result.status().code(), StatusCode::kDataLoss);
      EXPECT_TRUE(result.status().message().starts_with(
          "the model produced a logit that is not a number (token 2: "))
          << result.status().message();
    }
  }
}

TEST(Sampler, NothingLeftToChooseIsAnError) {
  EXPECT_FALSE(Sampler().try_sample({-kInf, -kInf}).ok());
  const SamplingParams params = with([](auto& p) { p.min_tokens = 1; });
  EXPECT_FALSE(Sampler(params, {}, {0}).try_sample({1.0f}).ok());
}

TEST(Sampler, ExtremeNumbersStayNumbers) {
  const float max = std::numeric_limits<float>::max();
  EXPECT_EQ(Sampler().token({max, -max, 0}), 0);
  EXPECT_EQ(Sampler(with([](auto& p) { p.temperature = 1e-30f; })).token({1, 1.0001f, 1}), 1);
  EXPECT_EQ(Sampler(with([](auto& p) { p.repetition_penalty = 1e-30f; }), {0}).token({max, 1}), 0);
  EXPECT_EQ(Sampler(with([](auto& p) { p.top_p = 1e-30f; })).token({0, 3, 1}), 1);
  // -inf is never drawn, whatever the temperature.
  const auto counts =
      Sampler(with([](auto& p) { p.temperature = 2; })).histogram({0, -kInf, 0}, 300);
  EXPECT_FALSE(counts.contains(1));
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(4.0f), std::log(2.0f), 0, 0};
  Sampler sampler(greedy_with([](auto& p) {
    p.logprobs = 3;
    p.logit_bias = {{2, 50.0f}};
  }));
  const Result<SampledToken> result = sampler.try_sample(logits);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->token, 2);
  EXPECT_NEAR(result->logprob, std::log(0.125), 1e-6);
  ASSERT_EQ(result->top_logprobs.size(), 3u);
  const int32_t ids[] = {0, 1, 2};  // 2 and 3 are equal: the lower id first
  const double probabilities[] = {0.5, 0.25, 0.125};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(result->top_logprobs[i].first, ids[i]);
    EXPECT_NEAR(result->top_logprobs[i].second, std::log(probabilities[i]), 1e-6);
  }
}

TEST(Sampler, MoreLogprobsThanTokensAreAllTokens) {
  const Result<SampledToken> result =
      Sampler(with([](auto& p) { p.logprobs = 20; })).try_sample({0, 0});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->top_logprobs.size(), 2u);
}

TEST(Sampler, ScoreIsTheLogSoftmax) {
  SamplerScratch scratch;
  const std::vector<float> logits = {1000, 1000, -kInf};
  const Result<SampledToken> half = score(logits, 1, 0, scratch);
  ASSERT_TRUE(half.ok());
  EXPECT_NEAR(half->logprob, std::log(0.5), 1e-6);
  const Result<SampledToken> never = score(logits, 2, 0, scratch);
  ASSERT_TRUE(never.ok());
  EXPECT_EQ(never->logprob, -kInf);
  EXPECT_FALSE(score(std::vector<float>{std::nanf("")}, 0, 0, scratch).ok());
}

}  // namespace
}  // namespace trireme
