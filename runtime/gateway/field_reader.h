// Reads the members of a request's JSON object, with the API's rules: null is absent, an absent
// member has its default, an unknown member is nobody's matter. The first thing that is wrong
// stays: the caller reads everything and asks once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/gateway/http/errors.h"

namespace trireme {

class FieldReader {
 public:
  // `path`: of the object in the request, for messages: "" or "stream_options".
  FieldReader(const JsonObject& object, std::string path)
      : object_(object), path_(std::move(path)) {}

  // The member, or nullptr where it is absent or null.
  const Json* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }

  int64_t integer(std::string_view name, int64_t otherwise, int64_t min, int64_t max);
  // `above`: min itself is not allowed.
  double number(std::string_view name, double otherwise, double min, double max,
                bool above = false);
  bool boolean(std::string_view name, bool otherwise);
  std::string string(std::string_view name, std::string otherwise);
  // One of `values`.
  std::string choice(std::string_view name, std::string otherwise,
                     const std::vector<std::string_view>& values);
  // A string or a list of them.
  std::vector<std::string> strings(std::string_view name, size_t count_max);
  // A list of token ids.
  std::vector<int32_t> tokens(std::string_view name, size_t count_max);
  const JsonObject* object(std::string_view name);
  const JsonArray* array(std::string_view name, size_t count_max);

  void fail(std::string_view name, std::string message, std::string code = "invalid_value");
  const std::optional<ApiError>& error() const { return error_; }
  // Takes over the first error of another reader.
  void adopt(const FieldReader& other) {
    if (!error_.has_value()) error_ = other.error_;
  }
  std::string path_of(std::string_view name) const;

 private:
  void wrong_kind(std::string_view name, const Json& value, std::string_view wanted);

  const JsonObject& object_;
  const std::string path_;
  std::optional<ApiError> error_;
};

// An integer as a client may write it: 5, or 5.0.
std::optional<int64_t> integer_of(const Json& value);

}  // namespace trireme
