#include "kernels/base/weight_format.h"

#include <fmt/format.h>

namespace trireme {

std::string_view weight_type_name(WeightType type) {
  switch (type) {
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      return "int4";
    case WeightType::kFp8:
      return "fp8";
    default:
      return dtype_name(WeightFormat(type, 0).dtype());
  }
}

std::string weight_format_name(WeightFormat format) {
  const std::string_view name = weight_type_name(format.type);
  if (!format.quantized()) return std::string(name);
  if (format.group == 0) return fmt::format("{} by rows", name);
  return fmt::format("{} in groups of {}", name, format.group);
}

float code_value(WeightType type, uint8_t code) {
  switch (type) {
    case WeightType::kInt8:
      return static_cast<float>(static_cast<int8_t>(code));
    case WeightType::kInt4:
      return static_cast<float>(code);
    case WeightType::kFp8:
      return f8_to_f32(code);
    default:
      break;
  }
  CHECK(false) << "not a quantized type";
  return 0.0f;
}

}  // namespace trireme
