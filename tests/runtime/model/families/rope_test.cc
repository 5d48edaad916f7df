// Rotary tables against values written out by hand from the formulas of transformers
// (modeling_rope_utils.py), YaRN's paper and unilm's YOCO.
#include "runtime/model/families/rope.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace trireme {
namespace {

RopeSpec rope_of(std::string_view text, int64_t head_dim, int64_t context_max) {
  const auto json = parse_json(text);
  CHECK(json.ok());
  ConfigReader config(*json, "config.json");
  RopeSpec rope = read_rope(config, head_dim, context_max, 10000.0);
  CHECK(config.status().ok()) << config.status().message();
  return rope;
}

void expect_frequencies(const RopeSpec& rope, const std::vector<double>& expected) {
  ASSERT_EQ(rope.inverse_frequencies.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(rope.inverse_frequencies[i] / expected[i], 1.0, 2e-7) << "frequency " << i;
}

TEST(Rope, Default) {
  const RopeSpec rope = rope_of("{}", 8, 2048);
  EXPECT_EQ(rope.style, RopeStyle::kHalves);
  EXPECT_EQ(rope.scale, 1.0f);
  expect_frequencies(rope, {1, 0.1, 0.01, 0.001});
}

TEST(Rope, ThetaBesideOrInside) {
  expect_frequencies(rope_of(R"({"rope_theta": 16.0})", 4, 64), {1, 0.25});
  expect_frequencies(
      rope_of(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 16.0}})", 4, 64),
      {1, 0.25});
}

TEST(Rope, Partial) {
  expect_frequencies(rope_of(R"({"partial_rotary_factor": 0.5})", 8, 64), {1, 0.01});
}

TEST(Rope, TooFewRotatedDimensionsAreRefused) {
  for (const std::string_view text :
       {R"({"partial_rotary_factor": 0.0})", R"({"partial_rotary_factor": 0.1})",
        R"({"partial_rotary_factor": 0.25, "rope_scaling": {"type": "dynamic", "factor": 2.0}})"}) {
    const auto json = parse_json(text);
    ConfigReader config(*json, "config.json");
    (void)read_rope(config, 8, 64, 10000.0);
    EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(config.status().message().find("partial_rotary_factor"), std::string::npos);
  }
}

TEST(Rope, Linear) {
  expect_frequencies(rope_of(R"({"rope_scaling": {"type": "linear", "factor": 4.0}})", 8, 64),
                     {0.25, 0.025, 0.0025, 0.00025});
}

// theta' = theta (s L / L0 - (s - 1))^(r / (r - 2)): s 2, L 32, L0 8, r 4: 10000 * 7^2 = 490000.
TEST(Rope, DynamicWithItsOriginalLength) {
  expect_frequencies(rope_of(R"({"rope_scaling": {"type": "dynamic", "factor": 2.0,
                                 "original_max_position_embeddings": 8}})",
                             4, 32),
                     {1, 1 / 700.0});
}

TEST(Rope, DynamicWithoutItChangesNothing) {
  expect_frequencies(rope_of(R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})", 4, 32),
                     {1, 0.01});
}

// Llama 3.1 with L0 64, low 1, high 4: wavelengths below 16 are kept, above 64 divided by 8;
// between them smooth = (64 / wavelength - 1) / 3. theta 16^4 and 8 dimensions: 1, 1/16, 1/256,
// 1/4096, of wavelengths 6.28 (kept), 100.5 and more (divided); with theta 81: 1 (kept), 1/3 and
// 1/9 (18.8 and 56.5: mixed), 1/27 (divided).
TEST(Rope, Llama3) {
  const char* scaling = R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
  expect_frequencies(rope_of(std::string(R"({"rope_theta": 65536.0, )") + scaling + "}", 8, 512),
                     {1, 1 / 128.0, 1 / 2048.0, 1 / 32768.0});
  const auto mixed = [](double third) {
    const double smooth = (64 / (2 * std::numbers::pi * third) - 1) / 3;
    return (1 - smooth) / third / 8 + smooth / third;
  };
  expect_frequencies(rope_of(std::string(R"({"rope_theta": 81.0, )") + scaling + "}", 8, 512),
                     {1, mixed(3), mixed(9), 1 / 216.0});
}

// YaRN: theta 10000, 8 dimensions, factor 4, L0 512, beta 32 and 1. The dimension that turns b
// times in L0 tokens is 8 ln(512 / (2 pi b)) / (2 ln 10000): b = 32: 0.41, floor 0; b = 1: 1.91,
// ceil 2. The ramp over i = 0..3 is 0, 1/2, 1, 1; the attention factor 0.1 ln 4 + 1.
TEST(Rope, Yarn) {
  const RopeSpec rope = rope_of(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                    "original_max_position_embeddings": 512}})",
                                8, 2048);
  expect_frequencies(rope, {1, 0.1 * (0.5 + 0.5 / 4), 0.01 / 4, 0.001 / 4});
  EXPECT_FLOAT_EQ(rope.scale, 0.1f * std::log(4.0f) + 1.0f);
}

TEST(Rope, YarnsAttentionFactor) {
  const auto scale = [](const std::string& more) {
    return rope_of(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                       "original_max_position_embeddings": 512)" +
                       more + "}}",
                   8, 2048)
        .scale;
  };
  EXPECT_FLOAT_EQ(scale(R"(, "attention_factor": 1.5)"), 1.5f);
  const float l = std::log(4.0f);
  EXPECT_FLOAT_EQ(scale(R"(, "mscale": 2.0, "mscale_all_dim": 1.0)"),
                  (0.2f * l + 1) / (0.1f * l + 1));
}

// unilm: linspace(0, 1, n) as exponents, pairs side by side.
TEST(Rope, Yoco) {
  const RopeSpec rope = yoco_rope(8, 1000.0);
  EXPECT_EQ(rope.style, RopeStyle::kInterleaved);
  expect_frequencies(rope, {1, 0.1, 0.01, 0.001});
  expect_frequencies(yoco_rope(2, 1000.0), {1});
}

}  // namespace
}  // namespace trireme
