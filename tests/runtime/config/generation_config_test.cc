// Request over deployment over the model's generation_config.json over neutral: the middle two.
#include "runtime/config/generation_config.h"

#include <gtest/gtest.h>

#include "runtime/config/config_reader.h"

namespace trireme {
namespace {

TEST(GenerationConfig, FillsWhatTheUserDidNotSay) {
  Deployment deployment;
  ASSERT_TRUE(
      read_config("version: 1\nsampling: {top_p: 1, top_k: null}\n", "f.yaml", "", deployment)
          .ok());
  ASSERT_TRUE(apply_override("sampling.min_p=0", deployment).ok());
  const Status status = apply_generation_config(
      R"({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05,
          "do_sample": false, "eos_token_id": [1, 2], "transformers_version": "4.37.0"})",
      "g.json", deployment);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_FLOAT_EQ(deployment.sampling.temperature, 0.6f);
  EXPECT_FLOAT_EQ(deployment.sampling.repetition_penalty, 1.05f);
  // Said, even though it is the default that was said.
  EXPECT_EQ(deployment.sampling.top_p, 1.0f);
  EXPECT_EQ(deployment.sampling.top_k, 0);
  EXPECT_EQ(deployment.sampling.min_p, 0.0f);
}

TEST(GenerationConfig, NullAndAbsentAreNotSaid) {
  Deployment deployment;
  EXPECT_TRUE(apply_generation_config(R"({"temperature": null})", "g.json", deployment).ok());
  EXPECT_TRUE(deployment == Deployment{});
}

TEST(GenerationConfig, WhatIsWrongInItIsNamedWithAWayOut) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"temperature": 3})", "g.json: temperature is 3: it must be from 0 (greedy) to 2"},
      {R"({"top_k": 1.5})", "g.json: top_k: expected an integer"},
      {R"({"top_k": 1e300})", "g.json: top_k: expected an integer"},
      {R"({"top_p": "0.9"})", "g.json: top_p: expected a number, found string"},
      {R"({"top_p": 0.5, "temperature": -1})",
       "g.json: temperature is -1: it must be from 0 (greedy) to 2"},
      {R"([])", "g.json: expected a JSON object"}};
  for (const auto& [text, message] : cases) {
    Deployment deployment;
    const Status status = apply_generation_config(text, "g.json", deployment);
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_EQ(status.message(),
              std::string(message) + ": mend it, or set model.generation_config: none");
    EXPECT_TRUE(deployment == Deployment{});
  }
  Deployment deployment;
  EXPECT_FALSE(apply_generation_config("{", "g.json", deployment).ok());
}

}  // namespace
}  // namespace trireme
