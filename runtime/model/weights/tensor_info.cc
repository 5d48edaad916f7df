#include "runtime/model/weights/tensor_info.h"

#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/base/check.h"

namespace trireme {
namespace {

constexpr std::array<SafetensorsDType, 22> kDTypes = {{
    {"BOOL", 8, std::nullopt},        {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},     {"F6_E3M2", 6, std::nullopt},
    {"U8", 8, std::nullopt},          {"I8", 8, DType::kI8},
    {"F8_E5M2", 8, std::nullopt},     {"F8_E4M3", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},     {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt}, {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},        {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},       {"I32", 32, DType::kI32},
    {"U32", 32, std::nullopt},        {"F32", 32, DType::kF32},
    {"C64", 64, std::nullopt},        {"F64", 64, std::nullopt},
    {"I64", 64, DType::kI64},         {"U64", 64, std::nullopt},
}};

}  // namespace

const SafetensorsDType* find_safetensors_dtype(std::string_view name) {
  for (const SafetensorsDType& entry : kDTypes)
    if (entry.name == name) return &entry;
  return nullptr;
}

std::string_view safetensors_dtype_name(DType dtype) {
  for (const SafetensorsDType& entry : kDTypes)
    if (entry.dtype == dtype) return entry.name;
  CHECK(false) << "safetensors has no name for " << dtype_name(dtype);
  return {};
}

Result<size_t> tensor_bytes(const std::vector<int64_t>& shape, int bits) {
  // The reference multiplies from left to right and stops at the first overflow, even where a later
  // dimension is 0; so do we, so that both accept the same files.
  uint64_t count = 1;
  bool overflow = false;
  for (const int64_t dimension : shape) {
    CHECK(dimension >= 0);
    overflow |= __builtin_mul_overflow(count, static_cast<uint64_t>(dimension), &count);
  }
  overflow |= __builtin_mul_overflow(count, static_cast<uint64_t>(bits), &count);
  if (overflow) {
    return data_loss(
        fmt::format("shape {} overflows: no file can hold that many elements; the file is damaged",
                    shape_text(shape)));
  }
  if (count % 8 != 0) {
    return data_loss(fmt::format("shape {} of {}-bit elements is no whole number of bytes",
                                 shape_text(shape), bits));
  }
  return static_cast<size_t>(count / 8);
}

TensorInfo make_tensor_info(std::string name, DType dtype, std::vector<int64_t> shape) {
  const Result<size_t> bytes = tensor_bytes(shape, static_cast<int>(8 * dtype_bytes(dtype)));
  CHECK(bytes.ok()) << bytes.status().message();
  return {std::move(name), safetensors_dtype_name(dtype), dtype, std::move(shape), *bytes};
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string printable(std::string_view name) {
  constexpr size_t kLongest = 160;
  std::string text;
  for (const char c : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  if (name.size() > kLongest) text += "...";
  return text;
}

}  // namespace trireme
