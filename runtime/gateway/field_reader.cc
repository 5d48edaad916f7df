#include "runtime/gateway/field_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace trireme {

std::optional<int64_t> integer_of(const Json& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_uint64()) {
    if (value.get_uint64() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(value.get_uint64());
  }
  if (!value.is_double()) return std::nullopt;
  const double d = value.get_double();
  if (d != std::floor(d) || std::abs(d) > 9007199254740992.0) return std::nullopt;
  return static_cast<int64_t>(d);
}

const Json* FieldReader::find(std::string_view name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->value().is_null() ? nullptr : &it->value();
}

std::string FieldReader::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void FieldReader::fail(std::string_view name, std::string message, std::string code) {
  if (error_.has_value()) return;
  const std::string path = path_of(name);
  error_ = api_error(400, std::move(code), fmt::format("{} {}", path, message), path);
}

void FieldReader::wrong_kind(std::string_view name, const Json& value, std::string_view wanted) {
  fail(name,
       fmt::format(
           "is {} {}: it must be {}",
           value.is_array() || value.is_object() || json_kind(value) == "integer" ? "an" : "a",
           json_kind(value), wanted));
}

int64_t FieldReader::integer(std::string_view name, int64_t otherwise, int64_t min, int64_t max) {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  const std::optional<int64_t> number = integer_of(*value);
  if (!number.has_value()) {
    wrong_kind(name, *value, "an integer");
    return otherwise;
  }
  if (*number < min || *number > max) {
    fail(name, max == INT64_MAX
                   ? fmt::format("is {}: it must be at least {}", *number, min)
                   : fmt::format("is {}: it must be from {} to {}", *number, min, max));
    return otherwise;
  }
  return *number;
}

double FieldReader::number(std::string_view name, double otherwise, double min, double max,
                           bool above) {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) {
    wrong_kind(name, *value, "a number");
    return otherwise;
  }
  const double d = value->to_number<double>();
  const bool low = above ? !(d > min) : !(d >= min);
  if (low || !(d <= max)) {
    const std::string range = max == std::numeric_limits<double>::max()
                                  ? fmt::format("{} {}", above ? "above" : "at least", min)
                                  : fmt::format("{} {} {} {}", above ? "above" : "from", min,
                                                above ? "and at most" : "to", max);
    fail(name, fmt::format("is {}: it must be {}", d, range));
    return otherwise;
  }
  return d;
}

bool FieldReader::boolean(std::string_view name, bool otherwise) {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) {
    wrong_kind(name, *value, "true or false");
    return otherwise;
  }
  return value->get_bool();
}

std::string FieldReader::string(std::string_view name, std::string otherwise) {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) {
    wrong_kind(name, *value, "a string");
    return otherwise;
  }
  return std::string(value->get_string());
}

std::string FieldReader::choice(std::string_view name, std::string otherwise,
                                const std::vector<std::string_view>& values) {
  const std::string value = string(name, otherwise);
  if (std::find(values.begin(), values.end(), value) == values.end())
    fail(name, fmt::format("is '{}': it must be one of {}", value.substr(0, 100),
                           fmt::join(values, ", ")));
  return value;
}

std::vector<std::string> FieldReader::strings(std::string_view name, size_t count_max) {
  const Json* value = find(name);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  if (value->is_string()) {
    strings.emplace_back(value->get_string());
    return strings;
  }
  const JsonArray* list = array(name, count_max);
  if (list == nullptr) return strings;
  for (const Json& entry : *list) {
    if (!entry.is_string()) {
      fail(name, fmt::format("has an entry that is no string but {}", json_kind(entry)));
      return strings;
    }
    strings.emplace_back(entry.get_string());
  }
  return strings;
}

std::vector<int32_t> FieldReader::tokens(std::string_view name, size_t count_max) {
  std::vector<int32_t> ids;
  const JsonArray* list = array(name, count_max);
  if (list == nullptr) return ids;
  for (const Json& entry : *list) {
    const std::optional<int64_t> id = integer_of(entry);
    if (!id.has_value() || *id < 0 || *id > INT32_MAX) {
      fail(name, "has an entry that is no token id: ids are integers from 0");
      return ids;
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

const JsonObject* FieldReader::object(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (value->is_object()) return &value->get_object();
  wrong_kind(name, *value, "an object");
  return nullptr;
}

const JsonArray* FieldReader::array(std::string_view name, size_t count_max) {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    wrong_kind(name, *value, "a list");
    return nullptr;
  }
  if (value->get_array().size() > count_max) {
    fail(name, fmt::format("has {} entries: at most {} are allowed", value->get_array().size(),
                           count_max));
    return nullptr;
  }
  return &value->get_array();
}

}  // namespace trireme
