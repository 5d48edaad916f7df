// How the elements of a weight matrix are kept: as floating-point numbers, or as codes of 4 or 8
// bits that share scales.
//
// A quantized element is   W[o][k] = scale * (code - zero)   rounded once to f32, with one scale
// and one zero for each `group` inputs of an output:
//
//   type    code                       zero
//   kInt8   -128 .. 127                -128 .. 127; 0 where codes are symmetric
//   kInt4   0 .. 15                    0 .. 16; 8 where they are symmetric
//   kFp8    e4m3fn, +-448, no infinity always 0        (arXiv 2209.05433; OCP 8-bit FP, table 1)
//
// This is what GPTQ, AWQ, compressed-tensors and block-scaled fp8 checkpoints hold, each in an
// arrangement of its own, and what quantize.h makes of any other checkpoint.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/base/check.h"
#include "kernels/base/dtype.h"

namespace trireme {

enum class WeightType : uint8_t { kF32, kBF16, kF16, kInt8, kInt4, kFp8 };

struct WeightFormat {
  WeightType type = WeightType::kF32;
  // Inputs that share a scale, counted from the first: 32, 64 or 128; 0: all of a row.
  // INVARIANT: 0 where the type is a floating-point dtype.
  int32_t group = 0;

  constexpr WeightFormat() = default;
  constexpr WeightFormat(WeightType t, int32_t g) : type(t), group(g) {}
  // REQUIRES: kF32, kBF16 or kF16.
  constexpr WeightFormat(DType dtype)  // NOLINT: a floating-point dtype is a format
      : type(dtype == DType::kF32    ? WeightType::kF32
             : dtype == DType::kBF16 ? WeightType::kBF16
                                     : WeightType::kF16) {
    CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16);
  }

  constexpr bool quantized() const { return type >= WeightType::kInt8; }
  // REQUIRES: not quantized.
  constexpr DType dtype() const {
    CHECK(!quantized());
    return type == WeightType::kF32    ? DType::kF32
           : type == WeightType::kBF16 ? DType::kBF16
                                       : DType::kF16;
  }
  // Scales of a row of `cols` inputs; 0 where the format has none.
  constexpr int64_t groups(int64_t cols) const {
    if (!quantized() || cols == 0) return 0;
    return group == 0 ? 1 : (cols + group - 1) / group;
  }
  friend constexpr bool operator==(const WeightFormat&, const WeightFormat&) = default;
};

constexpr int64_t weight_bits(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 32;
    case WeightType::kBF16:
    case WeightType::kF16:
      return 16;
    case WeightType::kInt8:
    case WeightType::kFp8:
      return 8;
    case WeightType::kInt4:
      return 4;
  }
  return 0;
}

// Bytes of a matrix, scales included, without what a device pads.
constexpr uint64_t weight_bytes(int64_t rows, int64_t cols, WeightFormat format) {
  return static_cast<uint64_t>(rows) *
         (static_cast<uint64_t>(cols * weight_bits(format.type) + 7) / 8 +
          4 * static_cast<uint64_t>(format.groups(cols)));
}

// "bfloat16", "int4".
std::string_view weight_type_name(WeightType type);

// "bfloat16", "int4 in groups of 64", "fp8 by rows".
std::string weight_format_name(WeightFormat format);

// The scale and the zero of a group in one word: the upper 24 bits of the scale as f32, and the
// zero as a signed byte. All scales of f16 and bf16 are kept as they are; one of f32 is rounded to
// 16 significant bits.
using GroupScale = uint32_t;

// REQUIRES: the scale is finite and not negative; zero is in [-128, 127].
constexpr GroupScale make_group_scale(float scale, int zero) {
  const uint32_t bits = std::bit_cast<uint32_t>(scale);
  const uint32_t rounded = (bits + 0x7fu + ((bits >> 8) & 1u)) & ~0xffu;
  return rounded | static_cast<uint8_t>(static_cast<int8_t>(zero));
}
constexpr float scale_of(GroupScale word) { return std::bit_cast<float>(word & ~0xffu); }
constexpr int zero_of(GroupScale word) { return static_cast<int8_t>(word & 0xffu); }

// The code as a number: what `zero` is taken from and `scale` multiplies.
float code_value(WeightType type, uint8_t code);

// An element of a quantized matrix.
inline float decode_weight(WeightType type, uint8_t code, GroupScale word) {
  return scale_of(word) * (code_value(type, code) - static_cast<float>(zero_of(word)));
}

}  // namespace trireme
