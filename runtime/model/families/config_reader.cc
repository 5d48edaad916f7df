#include "runtime/model/families/config_reader.h"

#include <algorithm>

#include <fmt/format.h>

namespace trireme {
namespace {

const Json kNothing{};

}  // namespace

void ConfigReader::fail(StatusCode code, std::string message) {
  if (status_.ok()) status_ = Status(code, path_ + ": " + std::move(message));
}

int64_t ConfigReader::integer(std::string_view key, int64_t min, int64_t max) {
  if (!has(key)) {
    fail(StatusCode::kInvalidArgument, fmt::format("field '{}' is missing", key));
    return min;
  }
  return integer_or(key, min, min, max);
}

int64_t ConfigReader::integer_or(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const Json* value = find(config_, key);
  if (value == nullptr) return fallback;
  int64_t number = 0;
  if (value->is_int64()) {
    number = value->get_int64();
  } else if (value->is_double() &&
             value->get_double() ==
                 static_cast<double>(static_cast<int64_t>(value->get_double())) &&
             std::abs(value->get_double()) < 1e15) {
    number = static_cast<int64_t>(value->get_double());  // 32768.0, as some tools write it
  } else {
    fail(StatusCode::kInvalidArgument,
         fmt::format("field '{}' is a {}, expected an integer", key, json_kind(*value)));
    return fallback;
  }
  if (number < min || number > max) {
    fail(StatusCode::kInvalidArgument,
         fmt::format("field '{}' is {}, expected {} to {}", key, number, min, max));
    return fallback;
  }
  return number;
}

double ConfigReader::number_or(std::string_view key, double fallback, double min, double max) {
  const Json* value = find(config_, key);
  if (value == nullptr) return fallback;
  double number = 0;
  if (value->is_int64()) {
    number = static_cast<double>(value->get_int64());
  } else if (value->is_double()) {
    number = value->get_double();
  } else {
    fail(StatusCode::kInvalidArgument,
         fmt::format("field '{}' is a {}, expected a number", key, json_kind(*value)));
    return fallback;
  }
  if (!(number >= min && number <= max)) {
    fail(StatusCode::kInvalidArgument,
         fmt::format("field '{}' is {}, expected {} to {}", key, number, min, max));
    return fallback;
  }
  return number;
}

bool ConfigReader::boolean_or(std::string_view key, bool fallback) {
  const Json* value = find(config_, key);
  if (value == nullptr) return fallback;
  if (value->is_bool()) return value->get_bool();
  fail(StatusCode::kInvalidArgument,
       fmt::format("field '{}' is a {}, expected true or false", key, json_kind(*value)));
  return fallback;
}

std::string ConfigReader::string_or(std::string_view key, std::string fallback) {
  const Json* value = find(config_, key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return std::string(value->get_string());
  fail(StatusCode::kInvalidArgument,
       fmt::format("field '{}' is a {}, expected a string", key, json_kind(*value)));
  return fallback;
}

ConfigReader ConfigReader::child(std::string_view key) const {
  const Json* value = find(config_, key);
  ConfigReader reader(value == nullptr ? kNothing : *value, fmt::format("{}: {}", path_, key));
  if (value != nullptr && !value->is_object()) {
    reader.fail(StatusCode::kInvalidArgument,
                fmt::format("is a {}, expected an object", json_kind(*value)));
  }
  return reader;
}

void ConfigReader::refuse(std::string_view key, std::string_view what) {
  const Json* value = find(config_, key);
  if (value == nullptr) return;
  if (value->is_bool() && !value->get_bool()) return;
  if (value->is_int64() && value->get_int64() == 0) return;
  fail(StatusCode::kUnimplemented, fmt::format("field '{}': {} is not supported", key, what));
}

void ConfigReader::only(std::initializer_list<std::string_view> known) {
  if (!config_.is_object()) return;
  for (const auto& [key, value] : config_.get_object()) {
    if (value.is_null() ||
        std::find(known.begin(), known.end(), std::string_view(key)) != known.end())
      continue;
    fail(StatusCode::kUnimplemented,
         fmt::format("field '{}' is not known, and guessing what it means could "
                     "silently change the results",
                     std::string_view(key)));
  }
}

}  // namespace trireme
