// Quantized weights: each code is the nearest, scales survive their word, parts are parts.
#include "kernels/base/quantize.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"

namespace trireme {
namespace {

std::vector<float> draw(uint64_t seed, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = normal(seed, i);
  return values;
}

// A value in which errors are counted: half the distance of neighbouring codes, at most.
float half_step(WeightType type, float value, GroupScale word) {
  if (type != WeightType::kFp8) return 0.5f * scale_of(word);
  const float in_codes = std::max(std::abs(value) / scale_of(word), 0x1p-6f);
  return std::ldexp(1.0f, std::ilogb(in_codes) - 3) * 0.5f * scale_of(word) * 1.001f;
}

TEST(GroupScale, KeepsScalesOfSixteenBitsAndZeros) {
  for (uint32_t bits = 0; bits < 0x7c00; bits += 7) {
    const float f16 = f16_to_f32(static_cast<uint16_t>(bits));
    const float bf16 = bf16_to_f32(static_cast<uint16_t>(bits));
    for (const int zero : {-128, -1, 0, 8, 16, 127}) {
      EXPECT_EQ(scale_of(make_group_scale(f16, zero)), f16);
      EXPECT_EQ(scale_of(make_group_scale(bf16, zero)), bf16);
      EXPECT_EQ(zero_of(make_group_scale(f16, zero)), zero);
    }
  }
  const float third = 1.0f / 3.0f;
  EXPECT_NEAR(scale_of(make_group_scale(third, 0)), third, third * 0x1p-16f);
}

TEST(WeightFormat, CountsBytesAndNamesItself) {
  EXPECT_EQ(weight_bytes(3, 100, DType::kBF16), 600u);
  EXPECT_EQ(weight_bytes(3, 100, {WeightType::kInt4, 64}), 3u * (50 + 8));
  EXPECT_EQ(weight_bytes(3, 100, {WeightType::kFp8, 0}), 3u * 104);
  EXPECT_EQ(weight_format_name({WeightType::kInt4, 64}), "int4 in groups of 64");
  EXPECT_EQ(weight_format_name({WeightType::kFp8, 0}), "fp8 by rows");
  EXPECT_EQ(weight_format_name(DType::kBF16), "bfloat16");
}

class Quantize : public testing::TestWithParam<WeightFormat> {};

TEST_P(Quantize, TakesTheNearestCode) {
  const WeightFormat format = GetParam();
  constexpr int64_t kRows = 5, kCols = 300;
  const std::vector<float> x = draw(3, kRows * kCols);
  const QuantizedRows q =
      quantize(ConstTensorView(x.data(), kRows, kCols, DType::kF32), format).take();
  std::vector<float> back(kCols);
  int cut_off = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    dequantize_row(q.view(), r, back.data());
    for (int64_t c = 0; c < kCols; ++c) {
      const float want = x[static_cast<size_t>(r * kCols + c)];
      const float miss = std::abs(back[static_cast<size_t>(c)] - want);
      const GroupScale word = q.view().scale_at(r, c);
      if (miss <= half_step(format.type, want, word) * 1.0001f) continue;
      // The largest of a group lose what a narrower range or a rounded scale does not reach.
      const float reach = format.type == WeightType::kInt4 ? 2.0f : 0.51f;
      EXPECT_LE(miss, reach * scale_of(word) * (format.type == WeightType::kFp8 ? 16.0f : 1.0f));
      ++cut_off;
    }
  }
  EXPECT_LE(cut_off, kRows * kCols / 20);
}

TEST_P(Quantize, PartsAreParts) {
  const WeightFormat format = GetParam();
  constexpr int64_t kRows = 4, kCols = 256;
  const std::vector<float> x = draw(4, kRows * kCols);
  const ConstTensorView source(x.data(), kRows, kCols, DType::kF32);
  const QuantizedRows whole = quantize(source, format).take();
  const QuantizedRows row = quantize(source.row_range(2, 1), format).take();
  std::vector<float> want(kCols), got(kCols);
  dequantize_row(whole.view(), 2, want.data());
  dequantize_row(row.view(), 0, got.data());
  EXPECT_EQ(got, want);
  const QuantizedRows finer = with_smaller_groups(whole.view(), 32);
  dequantize_row(finer.view(), 2, got.data());
  EXPECT_EQ(got, want);
  dequantize_row(finer.view().row_range(1, 3).col_range(96, 160), 1, got.data());
  for (int64_t c = 0; c < 160; ++c)
    EXPECT_EQ(got[static_cast<size_t>(c)], want[static_cast<size_t>(96 + c)]);
}

TEST_P(Quantize, ZerosStayZerosAndWhatIsNotFiniteIsNamed) {
  std::vector<float> x(2 * 40, 0.0f);
  const ConstTensorView source(x.data(), 2, 40, DType::kF32);
  const QuantizedRows q = quantize(source, GetParam()).take();
  std::vector<float> back(40, 1.0f);
  dequantize_row(q.view(), 1, back.data());
  for (const float v : back) EXPECT_EQ(v, 0.0f);
  x[47] = std::numeric_limits<float>::infinity();
  const auto refused = quantize(source, GetParam());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("row 1, column 7 is inf"), std::string::npos)
      << refused.status().message();
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Quantize,
    testing::Values(WeightFormat{WeightType::kInt8, 128}, WeightFormat{WeightType::kInt8, 0},
                    WeightFormat{WeightType::kInt4, 32}, WeightFormat{WeightType::kInt4, 64},
                    WeightFormat{WeightType::kInt4, 128}, WeightFormat{WeightType::kFp8, 128},
                    WeightFormat{WeightType::kFp8, 0}),
    [](const auto& given) {
      std::string name = weight_format_name(given.param);
      for (char& c : name) c = c == ' ' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace trireme
