#include "kernels/base/dtype.h"

#include <cstring>

#include "kernels/base/check.h"

namespace trireme {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    case DType::kI8:
      return "int8";
    case DType::kI32:
      return "int32";
    case DType::kI64:
      return "int64";
  }
  return "unknown";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (DType dtype :
       {DType::kF32, DType::kBF16, DType::kF16, DType::kI8, DType::kI32, DType::kI64}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  if (name == "fp32" || name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "fp16" || name == "f16" || name == "half") return DType::kF16;
  return std::nullopt;
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) {  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  }
  if (exponent == 0) {  // zero, subnormal: mantissa * 2^-24, exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal; the add rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;  // ulp(0.5) is 2^-24
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float f8_to_f32(uint8_t bits) {
  const uint32_t sign = uint32_t{bits & 0x80u} << 24;
  const uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude < 8) {  // zero, subnormal: a multiple of 2^-9
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
}

uint8_t f32_to_f8(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);  // >= 448
  if (magnitude < 0x3c800000u) {  // below 2^-6: subnormal; the add rounds to a multiple of 2^-9
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;  // ulp(2^14) is 2^-9
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xffu));
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return static_cast<uint8_t>(sign | ((rounded >> 20) - (120u << 3)));
}

float load_f32(const void* data, DType dtype, size_t index) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, static_cast<const std::byte*>(data) + index * 4, 4);
      return value;
    }
    case DType::kBF16:
    case DType::kF16: {
      uint16_t bits;
      std::memcpy(&bits, static_cast<const std::byte*>(data) + index * 2, 2);
      return dtype == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
    }
    default:
      break;
  }
  CHECK(false) << "not a floating-point dtype: " << dtype_name(dtype);
  return 0;
}

void store_f32(void* data, DType dtype, size_t index, float value) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(static_cast<std::byte*>(data) + index * 4, &value, 4);
      return;
    case DType::kBF16:
    case DType::kF16: {
      const uint16_t bits = dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
      std::memcpy(static_cast<std::byte*>(data) + index * 2, &bits, 2);
      return;
    }
    default:
      break;
  }
  CHECK(false) << "not a floating-point dtype: " << dtype_name(dtype);
}

namespace {

// A loop for each pair of formats, which the compiler can make wide.
template <DType kFrom, DType kTo>
void convert_each(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) store_f32(to, kTo, i, load_f32(from, kFrom, i));
}

template <DType kFrom>
bool convert_from(const void* from, void* to, DType to_dtype, size_t count) {
  switch (to_dtype) {
    case DType::kF32:
      convert_each<kFrom, DType::kF32>(from, to, count);
      return true;
    case DType::kBF16:
      convert_each<kFrom, DType::kBF16>(from, to, count);
      return true;
    case DType::kF16:
      convert_each<kFrom, DType::kF16>(from, to, count);
      return true;
    default:
      return false;
  }
}

}  // namespace

void convert_floats(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count) {
  if (from_dtype == to_dtype) {
    if (from != to && count > 0) std::memcpy(to, from, count * dtype_bytes(to_dtype));
    return;
  }
  bool known = false;
  if (from_dtype == DType::kF32) known = convert_from<DType::kF32>(from, to, to_dtype, count);
  if (from_dtype == DType::kBF16) known = convert_from<DType::kBF16>(from, to, to_dtype, count);
  if (from_dtype == DType::kF16) known = convert_from<DType::kF16>(from, to, to_dtype, count);
  CHECK(known) << "not floating-point dtypes: " << dtype_name(from_dtype) << ", "
               << dtype_name(to_dtype);
}

}  // namespace trireme
