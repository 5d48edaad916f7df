#include "runtime/model/weights/quantization_fields.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <fmt/format.h>

#include "runtime/model/weights/tensor_info.h"

namespace trireme {

void QuantizationFields::fail(StatusCode code, std::string message) {
  if (status_.ok()) status_ = Status(code, where_ + ": " + std::move(message));
}

void QuantizationFields::wrong_kind(std::string_view key, const Json& value,
                                    std::string_view expected) {
  fail(StatusCode::kInvalidArgument,
       fmt::format("field '{}' is a {}, expected {}", key, json_kind(value), expected));
}

void QuantizationFields::not_read(std::string_view key, std::string_view value,
                                  std::string_view read) {
  fail(StatusCode::kUnimplemented,
       fmt::format("field '{}' is {}; {}", key, printable(value), read));
}

std::optional<int64_t> QuantizationFields::integer(std::string_view key) {
  const Json* value = find(object_, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64()) return value->get_int64();
  wrong_kind(key, *value, "an integer");
  return std::nullopt;
}

bool QuantizationFields::boolean_or(std::string_view key, bool fallback) {
  const Json* value = find(object_, key);
  if (value == nullptr) return fallback;
  if (value->is_bool()) return value->get_bool();
  wrong_kind(key, *value, "true or false");
  return fallback;
}

std::string QuantizationFields::string_or(std::string_view key, std::string fallback) {
  const Json* value = find(object_, key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    wrong_kind(key, *value, "a string");
    return fallback;
  }
  std::string text(value->get_string());
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::optional<std::pair<int64_t, int64_t>> QuantizationFields::block(std::string_view key) {
  const Json* value = find(object_, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array() && value->get_array().size() == 2) {
    const Json& rows = value->get_array()[0];
    const Json& cols = value->get_array()[1];
    if (rows.is_int64() && cols.is_int64() && rows.get_int64() >= 1 && cols.get_int64() >= 1)
      return std::pair(rows.get_int64(), cols.get_int64());
  }
  fail(StatusCode::kInvalidArgument,
       fmt::format("field '{}' must be a list of two whole numbers, such as [128, 128]", key));
  return std::nullopt;
}

void QuantizationFields::refuse(std::string_view key, std::string_view what) {
  const Json* value = find(object_, key);
  if (value == nullptr) return;
  if (value->is_bool() && !value->get_bool()) return;
  if (value->is_object() && value->get_object().empty()) return;
  if (value->is_array() && value->get_array().empty()) return;
  fail(StatusCode::kUnimplemented, fmt::format("field '{}': {} is not read", key, what));
}

}  // namespace trireme
