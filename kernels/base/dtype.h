// Element types, and conversions between them with the rounding of the formats' definitions
// (round to nearest, ties to even; NaN stays NaN; overflow becomes infinity).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace trireme {

enum class DType : uint8_t { kF32, kBF16, kF16, kI8, kI32, kI64 };

constexpr size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kF16:
      return 2;
    case DType::kI8:
      return 1;
    case DType::kI32:
      return 4;
    case DType::kI64:
      return 8;
  }
  return 0;
}

// "float32", "bfloat16", "float16", "int8", "int32", "int64".
std::string_view dtype_name(DType dtype);

// Accepts the names above and "fp32", "f32", "bf16", "fp16", "f16".
std::optional<DType> parse_dtype(std::string_view name);

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);

// Eight bits, e4m3fn: NaN is 0x7f and 0xff, there is no infinity. Larger magnitudes than 448 become
// 448, as its users' checkpoints and libraries have it.
float f8_to_f32(uint8_t bits);
uint8_t f32_to_f8(float value);

// Element `index` of an array of floating-point `dtype`. REQUIRES: dtype is kF32, kBF16 or kF16.
float load_f32(const void* data, DType dtype, size_t index);
void store_f32(void* data, DType dtype, size_t index, float value);

// to[i] = from[i] for i in [0, count), converted. Ranges do not overlap unless they are equal and
// the dtypes are equal. REQUIRES: both floating-point.
void convert_floats(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count);

}  // namespace trireme
