// Every function of simd16.h gives the same bits on every instruction set that this machine has,
// for fuzzed bits: ordinary numbers, tiny and huge ones, subnormals, zeros of both signs,
// infinities. (NaN only where simd16.h promises something about it.) And the scalar version, which
// the others are compared with, means what simd16.h says.
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/dtype.h"
#include "kernels/base/random.h"
#include "kernels/base/weight_format.h"
#include "kernels/cpu/features.h"
#include "tests/kernels/cpu/simd16_probe.h"

namespace trireme {
namespace {

constexpr int kTrials = 3000;
constexpr uint32_t kUntouched = 0x7e57ab1eu;

using Words = std::array<uint32_t, 32>;

struct Inputs {
  Words a, b, c;
  int n;
};

// Random bits, in several moods: any bits at all, moderate numbers, subnormals, special values.
uint32_t fuzz_word(uint32_t seed, uint32_t trial, uint32_t index) {
  const auto random = philox4x32({seed, 0}, {trial, index, 0, 0});
  constexpr uint32_t kSpecial[] = {0x00000000u, 0x80000000u, 0x7f800000u, 0xff800000u,
                                   0x00000001u, 0x807fffffu, 0x7f7fffffu, 0x3f800000u,
                                   0x477fefffu, 0x477ff000u, 0x387fe000u, 0x33000000u,
                                   0x33000001u, 0x3f008000u, 0x3f018000u, 0x7f7f8000u};
  uint32_t word = random[0];
  switch (random[1] % 8) {
    case 0:
    case 1:
      break;  // any bits
    case 2:
      word &= 0x807fffffu;  // subnormal
      break;
    case 3:
      word = kSpecial[random[2] % 16];
      break;
    default:  // 2^-16 .. 2^15
      word = (word & 0x807fffffu) | ((111 + random[2] % 32) << 23);
  }
  const bool nan = (word & 0x7fffffffu) > 0x7f800000u;
  return nan ? word & 0xff800000u : word;
}

Inputs fuzz(uint32_t seed, uint32_t trial) {
  Inputs in;
  for (uint32_t i = 0; i < 32; ++i) {
    in.a[i] = fuzz_word(seed, trial, i);
    in.b[i] = fuzz_word(seed, trial, 100 + i);
    in.c[i] = fuzz_word(seed, trial, 200 + i);
  }
  in.n = static_cast<int>(philox4x32({seed, 1}, {trial, 0, 0, 0})[0] % 17);
  return in;
}

Words call(Simd16Probe probe, Simd16Op op, const Inputs& in) {
  std::array<float, 32> a, b, c, out;
  for (size_t i = 0; i < 32; ++i) {
    a[i] = std::bit_cast<float>(in.a[i]);
    b[i] = std::bit_cast<float>(in.b[i]);
    c[i] = std::bit_cast<float>(in.c[i]);
    out[i] = std::bit_cast<float>(kUntouched);
  }
  if (op == Simd16Op::kScaleByPowerOfTwo) {
    for (size_t i = 0; i < 32; ++i)
      b[i] = static_cast<float>(static_cast<int>(in.b[i] % 507) - 252);
  }
  if (op == Simd16Op::kLoadE4M3LowBytes || op == Simd16Op::kLoadE4M3HighBytes) {
    for (float& word : a) {
      auto codes = std::bit_cast<std::array<uint8_t, 4>>(word);
      for (uint8_t& code : codes) code ^= (code & 0x7f) == 0x7f ? 1 : 0;  // NaN
      word = std::bit_cast<float>(codes);
    }
  }
  probe(op, a.data(), b.data(), c.data(), in.n, out.data());
  Words words;
  for (size_t i = 0; i < 32; ++i) {
    words[i] = std::bit_cast<uint32_t>(out[i]);
    // An invalid operation (inf - inf, sqrt(-1)) gives NaN; which one is not promised.
    const bool floats =
        (op < Simd16Op::kStoreN || op > Simd16Op::kStoreF16) && op != Simd16Op::kShiftRight4;
    if (floats && words[i] != kUntouched && std::isnan(out[i])) words[i] = 0x7fc00000u;
  }
  return words;
}

std::vector<std::pair<Isa, Simd16Probe>> vector_probes() {
  std::vector<std::pair<Isa, Simd16Probe>> probes;
#ifdef TRIREME_X86
  if (isa_supported(Isa::kAvx2)) probes.emplace_back(Isa::kAvx2, kSimd16Avx2);
  if (isa_supported(Isa::kAvx512)) probes.emplace_back(Isa::kAvx512, kSimd16Avx512);
#endif
  return probes;
}

TEST(Simd16, EveryInstructionSetGivesTheSameBits) {
  for (const auto& [isa, probe] : vector_probes()) {
    for (int op = 0; op < static_cast<int>(Simd16Op::kCount); ++op) {
      for (uint32_t trial = 0; trial < kTrials; ++trial) {
        const Inputs in = fuzz(static_cast<uint32_t>(op), trial);
        const Words expected = call(kSimd16Scalar, static_cast<Simd16Op>(op), in);
        const Words got = call(probe, static_cast<Simd16Op>(op), in);
        for (size_t i = 0; i < 32; ++i) {
          ASSERT_EQ(got[i], expected[i]) << isa_name(isa) << ", op " << op << ", trial " << trial
                                         << ", lane " << i << ", n " << in.n;
        }
      }
    }
  }
}

// What the scalar version says of lane i; words beyond are checked for being untouched.
void expect_lanes(Simd16Op op, float (*expected)(float a, float b, float c)) {
  for (uint32_t trial = 0; trial < 300; ++trial) {
    const Inputs in = fuzz(77 + static_cast<uint32_t>(op), trial);
    const Words got = call(kSimd16Scalar, op, in);
    for (size_t i = 0; i < 16; ++i) {
      const float want = expected(std::bit_cast<float>(in.a[i]), std::bit_cast<float>(in.b[i]),
                                  std::bit_cast<float>(in.c[i]));
      if (std::isnan(want)) {
        ASSERT_EQ(got[i], 0x7fc00000u);
      } else {
        ASSERT_EQ(got[i], std::bit_cast<uint32_t>(want)) << "op " << static_cast<int>(op);
      }
      ASSERT_EQ(got[i + 16], kUntouched);
    }
  }
}

TEST(Simd16, ArithmeticMeansWhatTheHeaderSays) {
  expect_lanes(Simd16Op::kAdd, [](float a, float b, float) { return a + b; });
  expect_lanes(Simd16Op::kSubtract, [](float a, float b, float) { return a - b; });
  expect_lanes(Simd16Op::kMultiply, [](float a, float b, float) { return a * b; });
  expect_lanes(Simd16Op::kDivide, [](float a, float b, float) { return a / b; });
  expect_lanes(Simd16Op::kFma, [](float a, float b, float c) { return std::fma(a, b, c); });
  expect_lanes(Simd16Op::kSqrt, [](float a, float, float) { return std::sqrt(a); });
  expect_lanes(Simd16Op::kNeg, [](float a, float, float) { return -a; });
  expect_lanes(Simd16Op::kAbs, [](float a, float, float) { return std::fabs(a); });
  expect_lanes(Simd16Op::kMin, [](float a, float b, float) { return a < b ? a : b; });
  expect_lanes(Simd16Op::kMax, [](float a, float b, float) { return a > b ? a : b; });
  expect_lanes(Simd16Op::kFloor, [](float a, float, float) { return std::floor(a); });
  expect_lanes(Simd16Op::kRoundEven, [](float a, float, float) { return std::nearbyint(a); });
  expect_lanes(Simd16Op::kLess, [](float a, float b, float) { return a < b ? 1.0f : 2.0f; });
  expect_lanes(Simd16Op::kLessEqual, [](float a, float b, float) { return a <= b ? 1.0f : 2.0f; });
  expect_lanes(Simd16Op::kEqual, [](float a, float b, float) { return a == b ? 1.0f : 2.0f; });
}

TEST(Simd16, ScalingByAPowerOfTwoIsLdexpWhereNothingUnderflows) {
  for (uint32_t trial = 0; trial < 1000; ++trial) {
    Inputs in = fuzz(5, trial);
    for (uint32_t& word : in.a) word = (word & 0x807fffffu) | 0x3f800000u;  // [1, 2)
    const Words got = call(kSimd16Scalar, Simd16Op::kScaleByPowerOfTwo, in);
    for (size_t i = 0; i < 16; ++i) {
      const int power = static_cast<int>(in.b[i] % 507) - 252;
      if (power < -126) continue;
      EXPECT_EQ(std::bit_cast<float>(got[i]), std::ldexp(std::bit_cast<float>(in.a[i]), power));
    }
  }
}

// All 65,536 bit patterns of each 16-bit format, and conversions back.
TEST(Simd16, ConversionsAgreeWithDtypeH) {
  std::vector<Simd16Probe> probes{kSimd16Scalar};
  for (const auto& [isa, probe] : vector_probes()) probes.push_back(probe);
  for (Simd16Probe probe : probes) {
    for (uint32_t first = 0; first < 65536; first += 16) {
      Inputs in{};
      for (uint32_t i = 0; i < 16; ++i) in.a[i / 2] |= (first + i) << (16 * (i % 2));
      in.n = 16;
      const Words bf16 = call(probe, Simd16Op::kLoadBF16N, in);
      const Words f16 = call(probe, Simd16Op::kLoadF16N, in);
      for (uint32_t i = 0; i < 16; ++i) {
        const auto bits = static_cast<uint16_t>(first + i);
        if (!std::isnan(bf16_to_f32(bits))) {
          ASSERT_EQ(bf16[i], std::bit_cast<uint32_t>(bf16_to_f32(bits)));
        }
        if (!std::isnan(f16_to_f32(bits))) {
          ASSERT_EQ(f16[i], std::bit_cast<uint32_t>(f16_to_f32(bits)));
        }
      }
    }
    for (uint32_t trial = 0; trial < kTrials; ++trial) {
      const Inputs in = fuzz(6, trial);
      const Words bf16 = call(probe, Simd16Op::kStoreBF16, in);
      const Words f16 = call(probe, Simd16Op::kStoreF16, in);
      for (size_t i = 0; i < 16; ++i) {
        const auto half = [&](const Words& words) {
          return static_cast<uint16_t>(words[(i + 1) / 2] >> (16 * ((i + 1) % 2)));
        };
        ASSERT_EQ(half(bf16), f32_to_bf16(std::bit_cast<float>(in.a[i])));
        ASSERT_EQ(half(f16), f32_to_f16(std::bit_cast<float>(in.a[i])));
      }
    }
  }
}

// All 256 codes of e4m3; words of scale and zero whose parts are any bits.
TEST(Simd16, CodesAndScalesAgreeWithWeightFormatH) {
  std::vector<Simd16Probe> probes{kSimd16Scalar};
  for (const auto& [isa, probe] : vector_probes()) probes.push_back(probe);
  for (Simd16Probe probe : probes) {
    for (uint32_t first = 0; first < 256; first += 32) {
      Inputs in{};
      // Pairs of neighbouring codes, the odd ones in the high bytes.
      for (uint32_t i = 0; i < 64; ++i) in.a[i / 4] |= (first + i) % 256 << (8 * (i % 4));
      const Words low = call(probe, Simd16Op::kLoadE4M3LowBytes, in);
      const Words high = call(probe, Simd16Op::kLoadE4M3HighBytes, in);
      for (uint32_t i = 0; i < 64; ++i) {
        const auto code = static_cast<uint8_t>(first + i);
        if ((code & 0x7f) == 0x7f) continue;
        ASSERT_EQ((i % 2 == 0 ? low : high)[i / 2],
                  std::bit_cast<uint32_t>(0x1p-8f * code_value(WeightType::kFp8, code)));
      }
    }
    for (uint32_t trial = 0; trial < kTrials; ++trial) {
      const Inputs in = fuzz(8, trial);
      const Words parts = call(probe, Simd16Op::kLoadGroupScales, in);
      const Words byte = call(probe, Simd16Op::kByteAt, in);
      const Words shifted = call(probe, Simd16Op::kShiftRight4, in);
      const Words low = call(probe, Simd16Op::kNibbleAt0, in);
      const Words high = call(probe, Simd16Op::kNibbleAt16Plus128, in);
      for (size_t i = 0; i < 16; ++i) {
        const uint32_t word = in.a[i];
        ASSERT_EQ(parts[i], std::bit_cast<uint32_t>(scale_of(word)));
        ASSERT_EQ(std::bit_cast<float>(parts[i + 16]), static_cast<float>(zero_of(word)));
        ASSERT_EQ(std::bit_cast<float>(byte[i]), static_cast<float>(word >> 8 * (in.n % 4) & 0xff));
        ASSERT_EQ(shifted[i], word >> 4);
        ASSERT_EQ(std::bit_cast<float>(low[i]), static_cast<float>(word & 15));
        ASSERT_EQ(std::bit_cast<float>(high[i]), static_cast<float>(128 + (word >> 16 & 15)));
      }
    }
  }
}

TEST(Simd16, NaNStaysNaNInConversions) {
  std::vector<Simd16Probe> probes{kSimd16Scalar};
  for (const auto& [isa, probe] : vector_probes()) probes.push_back(probe);
  for (Simd16Probe probe : probes) {
    Inputs in{};
    in.a.fill(0x7f800001u);  // a NaN whose upper bits are those of infinity
    in.n = 16;
    const Words bf16 = call(probe, Simd16Op::kStoreBF16, in);
    const Words f16 = call(probe, Simd16Op::kStoreF16, in);
    for (size_t i = 1; i < 8; ++i) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(static_cast<uint16_t>(bf16[i]))));
      EXPECT_TRUE(std::isnan(f16_to_f32(static_cast<uint16_t>(f16[i]))));
    }
  }
}

}  // namespace
}  // namespace trireme
