// Typed reading of one object in config.json's quantization_config, with errors that name the field
// and its value. The first error is kept; after it every read gives its fallback. The methods' own
// (quantized_*.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/base/json.h"
#include "kernels/base/status.h"

namespace trireme {

class QuantizationFields {
 public:
  // `where` begins every message: ".../config.json: quantization_config". `object` outlives this.
  QuantizationFields(const Json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  bool has(std::string_view key) const { return find(object_, key) != nullptr; }
  std::optional<int64_t> integer(std::string_view key);
  bool boolean_or(std::string_view key, bool fallback);
  // In lower case, as tools differ in it.
  std::string string_or(std::string_view key, std::string fallback);
  // [rows, cols] of a block, both at least 1.
  std::optional<std::pair<int64_t, int64_t>> block(std::string_view key);

  // Fails where the field says anything (not null, false, an empty object or list).
  void refuse(std::string_view key, std::string_view what);
  // kUnimplemented: "field 'bits' is 3; <read>".
  void not_read(std::string_view key, std::string_view value, std::string_view read);
  void fail(StatusCode code, std::string message);

  const Json& json() const { return object_; }
  const std::string& where() const { return where_; }
  const Status& status() const { return status_; }

 private:
  void wrong_kind(std::string_view key, const Json& value, std::string_view expected);

  const Json& object_;
  std::string where_;
  Status status_;
};

}  // namespace trireme
