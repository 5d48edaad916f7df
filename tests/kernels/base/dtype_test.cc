// Conversions, held against the definitions of the formats: a half or a bfloat16 is sign, exponent
// and mantissa, and rounding goes to the nearest value, to the even one of two equally near.
#include "kernels/base/dtype.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"

namespace trireme {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The value of the bits of a format with this many exponent and mantissa bits, by its definition.
double defined_value(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const double sign = (bits >> (exponent_bits + mantissa_bits)) != 0 ? -1.0 : 1.0;
  const int exponent = int(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = int(bits) & ((1 << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

double defined_f16(uint32_t bits) { return defined_value(bits, 5, 10); }
double defined_bf16(uint32_t bits) { return defined_value(bits, 8, 7); }

struct Format {
  const char* name;
  double (*defined)(uint32_t);
  float (*to_f32)(uint16_t);
  uint16_t (*from_f32)(float);
  uint16_t infinity;  // the bits; the finite values lie below
};
void PrintTo(const Format& format, std::ostream* out) { *out << format.name; }
const Format kFormats[] = {{"f16", defined_f16, f16_to_f32, f32_to_f16, 0x7c00},
                           {"bf16", defined_bf16, bf16_to_f32, f32_to_bf16, 0x7f80}};

class Formats : public testing::TestWithParam<Format> {};

TEST_P(Formats, EveryValueIsReadAsDefined) {
  const Format& format = GetParam();
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const double want = format.defined(bits);
    const float got = format.to_f32(uint16_t(bits));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << std::hex << bits;
    } else {
      ASSERT_EQ(want, double(got)) << std::hex << bits;
      ASSERT_EQ(std::signbit(want), std::signbit(got)) << std::hex << bits;
    }
  }
}

TEST_P(Formats, EveryValueComesBackFromF32) {
  const Format& format = GetParam();
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const uint16_t back = format.from_f32(format.to_f32(uint16_t(bits)));
    if (std::isnan(format.defined(bits))) {
      ASSERT_TRUE(std::isnan(format.defined(back))) << std::hex << bits;
      ASSERT_EQ(back >> 15, bits >> 15) << std::hex << bits;
    } else {
      ASSERT_EQ(back, bits) << std::hex << bits;
    }
  }
}

// Between every two neighbours: just below the middle rounds down, just above rounds up, the middle
// itself goes to the neighbour with an even mantissa. Both signs; the last "neighbour" is infinity,
// whose place on the scale is the next power of two.
TEST_P(Formats, RoundsToTheNearestAndTiesToEven) {
  const Format& format = GetParam();
  for (uint32_t low = 0; low < format.infinity; ++low) {
    const uint32_t high = low + 1;
    const double a = format.defined(low);
    const double b =
        high < format.infinity ? format.defined(high) : 2 * a - format.defined(low - 1);
    const auto middle = float(a + (b - a) / 2);
    if (double(middle) != a + (b - a) / 2) continue;  // f32 has no such value (bf16 subnormals do)
    for (float sign : {1.0f, -1.0f}) {
      const uint32_t s = sign < 0 ? 0x8000 : 0;
      const float below = std::nextafter(middle, 0.0f), above = std::nextafter(middle, kInf);
      ASSERT_EQ(format.from_f32(sign * middle), s | (low % 2 == 0 ? low : high)) << middle;
      ASSERT_EQ(format.from_f32(sign * below), s | low) << below;
      ASSERT_EQ(format.from_f32(sign * above), s | high) << above;
    }
  }
}

// A million random f32 patterns: the result is one of the two neighbours, and the nearer one.
TEST_P(Formats, RandomPatternsGoToTheNearest) {
  const Format& format = GetParam();
  for (uint32_t i = 0; i < 250'000; ++i) {
    for (uint32_t bits : philox4x32({7, 7}, {i, 0, 0, 0})) {
      const float value = std::bit_cast<float>(bits);
      const uint16_t got = format.from_f32(value);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(format.defined(got))) << std::hex << bits;
        continue;
      }
      ASSERT_EQ(got >> 15, int(std::signbit(value))) << std::hex << bits;
      const uint16_t magnitude = got & 0x7fff;
      if (magnitude == format.infinity) continue;  // the bound is checked between neighbours
      const double distance = std::abs(format.defined(got) - double(value));
      for (int step : {-1, 1}) {
        if (magnitude == 0 && step == -1) continue;
        const auto other = uint16_t(got + step);
        if ((other & 0x7fff) < format.infinity) {
          ASSERT_LE(distance, std::abs(format.defined(other) - double(value))) << std::hex << bits;
        }
      }
    }
  }
}

TEST_P(Formats, InfinityAndOverflow) {
  const Format& format = GetParam();
  EXPECT_EQ(format.from_f32(kInf), format.infinity);
  EXPECT_EQ(format.from_f32(-kInf), 0x8000 | format.infinity);
  EXPECT_EQ(format.from_f32(std::numeric_limits<float>::max()), format.infinity);
  // A NaN whose payload lies in the bits that are cut off must not become infinity.
  EXPECT_TRUE(std::isnan(format.defined(format.from_f32(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(format.defined(format.from_f32(std::bit_cast<float>(0xff800001u)))));
}

INSTANTIATE_TEST_SUITE_P(Dtype, Formats, testing::ValuesIn(kFormats),
                         [](const testing::TestParamInfo<Format>& f) { return f.param.name; });

// e4m3fn: like the others but for its top, which holds 256 to 448 and one NaN.
double defined_f8(uint32_t bits) {
  const double sign = (bits & 0x80u) != 0 ? -1.0 : 1.0;
  const int exponent = int(bits >> 3) & 15, mantissa = int(bits) & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, -9);
  return sign * std::ldexp(8 + mantissa, exponent - 10);
}

TEST(F8, EveryValueIsReadAsDefinedAndComesBack) {
  for (uint32_t bits = 0; bits < 256; ++bits) {
    const float value = f8_to_f32(static_cast<uint8_t>(bits));
    if (std::isnan(defined_f8(bits))) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_EQ(f32_to_f8(value) & 0x7f, 0x7f) << bits;
      continue;
    }
    EXPECT_EQ(value, defined_f8(bits)) << bits;
    EXPECT_EQ(std::signbit(value), bits >= 128) << bits;
    EXPECT_EQ(f32_to_f8(value), bits);
  }
}

TEST(F8, RoundsToTheNearestTiesToEvenAndSaturates) {
  for (uint8_t bits = 0; bits < 0x7e; ++bits) {
    const float low = f8_to_f32(bits), high = f8_to_f32(static_cast<uint8_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(f32_to_f8(middle), bits % 2 == 0 ? bits : bits + 1) << int(bits);
    EXPECT_EQ(f32_to_f8(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(f32_to_f8(std::nextafter(middle, kInf)), bits + 1);
    EXPECT_EQ(f32_to_f8(-std::nextafter(middle, kInf)), (bits + 1) | 0x80);
  }
  EXPECT_EQ(f32_to_f8(1e9f), 0x7e);
  EXPECT_EQ(f32_to_f8(-kInf), 0xfe);
}

TEST(Dtype, KnownValues) {
  EXPECT_EQ(f32_to_f16(1.0f), 0x3c00);
  EXPECT_EQ(f32_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 0x0001);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(f32_to_f16(0.1f), 0x2e66);
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(3.14159265f), 0x4049);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // 1 + 2^-8, a tie: to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);  // 1 + 3 * 2^-8, a tie: to even
  EXPECT_EQ(bf16_to_f32(0xc2f7), -123.5f);
  EXPECT_EQ(f16_to_f32(0x3555), 0.333251953125f);
}

TEST(Dtype, NamesAndSizes) {
  const struct {
    DType dtype;
    const char* name;
    size_t bytes;
  } all[] = {{DType::kF32, "float32", 4}, {DType::kBF16, "bfloat16", 2},
             {DType::kF16, "float16", 2}, {DType::kI8, "int8", 1},
             {DType::kI32, "int32", 4},   {DType::kI64, "int64", 8}};
  for (const auto& t : all) {
    EXPECT_EQ(dtype_name(t.dtype), t.name);
    EXPECT_EQ(parse_dtype(t.name), t.dtype);
    EXPECT_EQ(dtype_bytes(t.dtype), t.bytes);
  }
  EXPECT_EQ(parse_dtype("fp32"), DType::kF32);
  EXPECT_EQ(parse_dtype("f32"), DType::kF32);
  EXPECT_EQ(parse_dtype("bf16"), DType::kBF16);
  EXPECT_EQ(parse_dtype("fp16"), DType::kF16);
  EXPECT_EQ(parse_dtype("f16"), DType::kF16);
  for (const char* wrong : {"", "Float32", "float", "float64", "bf", "int8 "})
    EXPECT_EQ(parse_dtype(wrong), std::nullopt) << wrong;
}

TEST(Dtype, LoadAndStoreTouchOneElement) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    unsigned char bytes[20];
    std::memset(bytes, 0xee, sizeof bytes);
    store_f32(bytes + 1, dtype, 2, -1.5f);  // no alignment is asked for
    EXPECT_EQ(load_f32(bytes + 1, dtype, 2), -1.5f);
    const size_t size = dtype_bytes(dtype);
    for (size_t i = 0; i < sizeof bytes; ++i)
      if (i < 1 + 2 * size || i >= 1 + 3 * size) {
        ASSERT_EQ(bytes[i], 0xee) << i;
      }
  }
}

// Converting an array is converting each element, for every pair of formats; lengths that are and
// are not whole vectors.
TEST(Dtype, ArraysConvertElementByElement) {
  const DType dtypes[] = {DType::kF32, DType::kBF16, DType::kF16};
  for (DType from : dtypes) {
    for (DType to : dtypes) {
      for (size_t count : {0, 1, 7, 8, 9, 31, 32, 33, 1000}) {
        std::vector<unsigned char> source(count * dtype_bytes(from));
        std::vector<unsigned char> result(count * dtype_bytes(to) + 4, 0xee), want = result;
        for (size_t i = 0; i < count; ++i) {
          const float value = i % 5 == 4 ? kInf : normal(3, i) * std::ldexp(1.0f, int(i % 40) - 28);
          store_f32(source.data(), from, i, value);
          store_f32(want.data(), to, i, load_f32(source.data(), from, i));
        }
        convert_floats(source.data(), from, result.data(), to, count);
        ASSERT_EQ(result, want) << dtype_name(from) << " to " << dtype_name(to) << " " << count;
      }
    }
  }
}

TEST(DtypeDeathTest, IntegersAreNotFloats) {
  int32_t x = 0;
  EXPECT_DEATH((void)load_f32(&x, DType::kI32, 0), "not a floating-point dtype: int32");
  EXPECT_DEATH(store_f32(&x, DType::kI8, 0, 1.0f), "not a floating-point dtype: int8");
}

}  // namespace
}  // namespace trireme
