// Each field's range, from both sides of its ends, and that the error names the field.
#include "runtime/sample/sampling_params.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

namespace trireme {
namespace {

constexpr int32_t kVocab = 100;
const float kNan = std::nanf("");
const float kInf = std::numeric_limits<float>::infinity();

using Change = std::function<void(SamplingParams&)>;

std::string message_of(const Change& change) {
  SamplingParams params;
  change(params);
  const Status status = validate(params, kVocab);
  return status.ok() ? "" : status.message();
}

TEST(SamplingParams, DefaultsAreValid) { EXPECT_TRUE(validate(SamplingParams{}, 1).ok()); }

TEST(SamplingParams, EndsOfRangesAreValid) {
  for (const Change& change : std::vector<Change>{
           [](auto& p) { p.temperature = 0; },
           [](auto& p) { p.temperature = 2; },
           [](auto& p) { p.top_p = 1e-6f; },
           [](auto& p) { p.min_p = 1; },
           [](auto& p) { p.top_k = -1; },
           [](auto& p) { p.top_k = 1; },
           [](auto& p) { p.top_k = std::numeric_limits<int32_t>::max(); },
           [](auto& p) { p.repetition_penalty = 1e-3f; },
           [](auto& p) { p.presence_penalty = -2; },
           [](auto& p) { p.frequency_penalty = 2; },
           [](auto& p) {
             p.logit_bias = {{0, -100.0f}, {kVocab - 1, 100.0f}};
           },
           [](auto& p) {
             p.stop_token_ids = {0, kVocab - 1};
           },
           [](auto& p) { p.stop = {"x"}; },
           [](auto& p) {
             p.allowed_token_ids = {0, kVocab - 1};
           },
           [](auto& p) {
             p.bad_words = {{0}, std::vector<int32_t>(64, kVocab - 1)};
           },
           [](auto& p) { p.min_tokens = p.max_tokens; },
           [](auto& p) { p.logprobs = 20; },
           [](auto& p) { p.max_tokens = 1; },
       }) {
    EXPECT_EQ(message_of(change), "");
  }
}

TEST(SamplingParams, ErrorsNameTheField) {
  const struct {
    Change change;
    const char* begins;
  } cases[] = {
      {[](auto& p) { p.temperature = -0.1f; }, "temperature is -0.1: "},
      {[](auto& p) { p.temperature = 2.1f; }, "temperature is 2.1: "},
      {[](auto& p) { p.temperature = kNan; }, "temperature is nan: "},
      {[](auto& p) { p.temperature = kInf; }, "temperature is inf: "},
      {[](auto& p) { p.top_p = 0; }, "top_p is 0: "},
      {[](auto& p) { p.top_p = 1.01f; }, "top_p is 1.01: "},
      {[](auto& p) { p.top_p = kNan; }, "top_p is nan: "},
      {[](auto& p) { p.min_p = -0.1f; }, "min_p is -0.1: "},
      {[](auto& p) { p.min_p = kNan; }, "min_p is nan: "},
      {[](auto& p) { p.top_k = -2; }, "top_k is -2: "},
      {[](auto& p) { p.repetition_penalty = 0; }, "repetition_penalty is 0: "},
      {[](auto& p) { p.repetition_penalty = kInf; }, "repetition_penalty is inf: "},
      {[](auto& p) { p.presence_penalty = 2.5f; }, "presence_penalty is 2.5: "},
      {[](auto& p) { p.frequency_penalty = kNan; }, "frequency_penalty is nan: "},
      {[](auto& p) {
         p.logit_bias = {{kVocab, 1.0f}};
       },
       "logit_bias names token 100: "},
      {[](auto& p) {
         p.logit_bias = {{-1, 1.0f}};
       },
       "logit_bias names token -1: "},
      {[](auto& p) {
         p.logit_bias = {{3, 101.0f}};
       },
       "logit_bias of token 3 is 101: "},
      {[](auto& p) {
         p.logit_bias = {{3, 1.0f}, {2, 1.0f}, {3, 2.0f}};
       },
       "logit_bias names token 3 twice"},
      {[](auto& p) {
         p.stop_token_ids = {5, kVocab};
       },
       "stop_token_ids names token 100: "},
      {[](auto& p) {
         p.stop = {"a", ""};
       },
       "stop has an empty string"},
      {[](auto& p) { p.stop = {std::string(5000, 'x')}; }, "stop has a string of 5000 bytes"},
      {[](auto& p) { p.stop.assign(65, "x"); }, "stop or stop_token_ids has more than 64"},
      {[](auto& p) {
         p.allowed_token_ids = {5, -1};
       },
       "allowed_token_ids names token -1: "},
      {[](auto& p) { p.allowed_token_ids.assign(kAllowedTokensMax + 1, 0); },
       "allowed_token_ids has 1048577 entries"},
      {[](auto& p) {
         p.bad_words = {{1}, {}};
       },
       "bad_words has an entry without tokens"},
      {[](auto& p) { p.bad_words = {std::vector<int32_t>(65, 0)}; },
       "bad_words has an entry of 65 tokens"},
      {[](auto& p) { p.bad_words.assign(1025, {0}); }, "bad_words has 1025 entries"},
      {[](auto& p) { p.bad_words = {{kVocab}}; }, "bad_words names token 100: "},
      {[](auto& p) { p.min_tokens = p.max_tokens + 1; }, "min_tokens is 65: "},
      {[](auto& p) { p.max_tokens = 0; }, "max_tokens is 0: "},
      {[](auto& p) { p.logprobs = 21; }, "logprobs is 21: "},
      {[](auto& p) { p.logprobs = -2; }, "logprobs is -2: "},
  };
  for (const auto& c : cases) {
    const std::string message = message_of(c.change);
    EXPECT_TRUE(message.starts_with(c.begins)) << "got '" << message << "' for " << c.begins;
  }
}

TEST(SamplingParams, WithoutAVocabularyIdsAreUnbounded) {
  SamplingParams params;
  params.stop_token_ids = {200'000};
  EXPECT_TRUE(validate(params).ok());
  EXPECT_FALSE(validate(params, kVocab).ok());
}

}  // namespace
}  // namespace trireme
