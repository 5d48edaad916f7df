// JSON as a strict reader sees it: UTF-8, RFC 8259, no duplicate keys (parsers keep the last one
// silently, which hides attacks and mistakes), bounded depth. Thread-safe; throws nothing.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "kernels/base/status.h"

namespace trireme {

using Json = boost::json::value;
using JsonObject = boost::json::object;
using JsonArray = boost::json::array;

struct JsonLimits {
  size_t depth_max = 64;
  size_t bytes_max = size_t{1} << 30;
};

// Error messages give line and column and the offending key, not the whereabouts of the text: wrap
// them with Status::at(path).
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

// The whole file, parsed. Errors start with the path.
Result<Json> read_json_file(const std::string& path, const JsonLimits& limits = {});

// The bytes of a file. Errors start with the path.
Result<std::string> read_file(const std::string& path, size_t bytes_max = size_t{1} << 30);

// object[key], or nullptr where the key is absent or null or `object` is not an object.
const Json* find(const Json& object, std::string_view key);

// "string", "integer", "number", "boolean", "array", "object" or "null".
std::string_view json_kind(const Json& value);

}  // namespace trireme
