#include "kernels/base/weight_format.h"

#include <fmt/format.h>

namespace trireme {

std::string weight_format_name(WeightFormat format) {
  if (!format.quantized()) return std::string(dtype_name(format.dtype()));
  const char* name = format.type == WeightType::kInt8   ? "int8"
                     : format.type == WeightType::kInt4 ? "int4"
                                                        : "fp8";
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
