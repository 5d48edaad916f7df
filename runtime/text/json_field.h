// Reading tokenizer.json field by field: a value that knows where it stands, so that every error
// names its field ("pre_tokenizer.pretokenizers[1].behavior"). For the loader of runtime/text only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "runtime/text/pattern.h"

namespace trireme {

// A view: the JSON outlives it. A field that is absent or null has no value.
class JsonField {
 public:
  JsonField(const Json* value, std::string path) : value_(value), path_(std::move(path)) {}

  bool has_value() const { return value_ != nullptr; }
  const std::string& path() const { return path_; }
  const Json& value() const { return *value_; }  // REQUIRES: has_value()

  JsonField operator[](std::string_view key) const {
    const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
    return {has_value() ? find(*value_, key) : nullptr, path};
  }
  // REQUIRES: array() is ok, index < its size.
  JsonField operator[](size_t index) const {
    const Json& item = value_->get_array()[index];
    return {item.is_null() ? nullptr : &item, fmt::format("{}[{}]", path_, index)};
  }

  Status error(std::string_view what) const {
    return invalid_argument(fmt::format("{} {}", path_, what));
  }
  Status wrong_kind(std::string_view wanted) const {
    return error(fmt::format("is {}; it has to be {}",
                             has_value() ? std::string(json_kind(*value_)) : "missing", wanted));
  }

  Result<const JsonArray*> array() const {
    if (!has_value() || !value_->is_array()) return wrong_kind("an array");
    return &value_->get_array();
  }
  Result<const JsonObject*> object() const {
    if (!has_value() || !value_->is_object()) return wrong_kind("an object");
    return &value_->get_object();
  }
  Result<std::string> string() const {
    if (!has_value() || !value_->is_string()) return wrong_kind("a string");
    return std::string(value_->get_string());
  }
  Result<bool> boolean() const {
    if (!has_value() || !value_->is_bool()) return wrong_kind("a boolean");
    return value_->get_bool();
  }
  Result<bool> boolean_or(bool otherwise) const {
    return has_value() ? boolean() : Result<bool>(otherwise);
  }
  // A count or an id: an integer in [0, max].
  Result<int64_t> integer(int64_t max) const {
    if (!has_value() || !value_->is_int64()) return wrong_kind("an integer");
    const int64_t number = value_->get_int64();
    if (number < 0 || number > max) {
      return error(fmt::format("is {}; it has to lie in 0 to {}", number, max));
    }
    return number;
  }

 private:
  const Json* value_;
  std::string path_;
};

// {"String": "..."} or {"Regex": "..."}.
Result<Pattern> parse_pattern(const JsonField& field);

}  // namespace trireme
