#include "kernels/base/json.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <vector>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value_stack.hpp>
#include <fmt/format.h>

namespace trireme {
namespace {

namespace bj = boost::json;

// Builds a value, as boost::json::parse does, and stops at the first key that an object repeats.
struct Builder {
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);

  bj::value_stack stack;
  std::vector<std::unordered_set<std::string>> keys;
  std::string key;
  std::string number;
  std::optional<std::string> duplicate, too_large;

  bool on_document_begin(bj::error_code&) {
    stack.reset();
    return true;
  }
  bool on_document_end(bj::error_code&) { return true; }
  bool on_object_begin(bj::error_code&) {
    keys.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t n, bj::error_code&) {
    keys.pop_back();
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(bj::error_code&) { return true; }
  bool on_array_end(std::size_t n, bj::error_code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(bj::string_view s, std::size_t, bj::error_code&) {
    key.append(s.data(), s.size());
    stack.push_chars(s);
    return true;
  }
  bool on_key(bj::string_view s, std::size_t, bj::error_code& error) {
    key.append(s.data(), s.size());
    stack.push_key(s);
    if (!keys.back().insert(key).second) {
      duplicate = key;
      error = bj::make_error_code(bj::error::syntax);
      return false;
    }
    key.clear();
    return true;
  }
  bool on_string_part(bj::string_view s, std::size_t, bj::error_code&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(bj::string_view s, std::size_t, bj::error_code&) {
    stack.push_string(s);
    return true;
  }
  bool on_number_part(bj::string_view s, bj::error_code&) {
    number.append(s.data(), s.size());
    return true;
  }
  bool on_int64(int64_t i, bj::string_view, bj::error_code&) {
    number.clear();
    stack.push_int64(i);
    return true;
  }
  bool on_uint64(uint64_t u, bj::string_view, bj::error_code&) {
    number.clear();
    stack.push_uint64(u);
    return true;
  }
  // The parser's own reading may be off by the last digit, and knows infinity.
  bool on_double(double roughly, bj::string_view s, bj::error_code& error) {
    number.append(s.data(), s.size());
    double d = 0;
    const auto read = std::from_chars(number.data(), number.data() + number.size(), d);
    if (read.ec == std::errc::result_out_of_range) {
      if (std::abs(roughly) > 1) {
        too_large = number.substr(0, 40);
        error = bj::make_error_code(bj::error::syntax);
        return false;
      }
      d = 0;
    }
    number.clear();
    stack.push_double(d);
    return true;
  }
  bool on_bool(bool b, bj::error_code&) {
    stack.push_bool(b);
    return true;
  }
  bool on_null(bj::error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(bj::string_view, bj::error_code&) { return true; }
  bool on_comment(bj::string_view, bj::error_code&) { return true; }
};

std::string line_and_column(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t last = before.rfind('\n');
  const size_t column = last == std::string_view::npos ? before.size() + 1 : before.size() - last;
  return fmt::format("line {} column {}", line, column);
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return invalid_argument(fmt::format("JSON text of {} bytes is longer than the limit of {}",
                                        text.size(), limits.bytes_max));
  }
  bj::parse_options options;
  options.max_depth = limits.depth_max;
  bj::basic_parser<Builder> parser(options);
  bj::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  const std::string where = line_and_column(text, used);
  if (parser.handler().duplicate.has_value()) {
    return invalid_argument(fmt::format("duplicate JSON key '{}' at {}: remove one of them",
                                        *parser.handler().duplicate, where));
  }
  if (parser.handler().too_large.has_value()) {
    return invalid_argument(fmt::format("the JSON number {} at {} is larger than a double holds",
                                        *parser.handler().too_large, where));
  }
  if (error)
    return invalid_argument(fmt::format("not valid JSON at {}: {}", where, error.message()));
  if (used < text.size())
    return invalid_argument(fmt::format("extra text after the JSON value at {}", where));
  return parser.handler().stack.release();
}

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr)
    return not_found(fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  std::string text;
  char piece[1 << 16];
  size_t n = 0;
  while (text.size() <= bytes_max && (n = std::fread(piece, 1, sizeof piece, file)) > 0)
    text.append(piece, n);
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) return data_loss(fmt::format("{}: cannot read it (is it a directory?)", path));
  if (text.size() > bytes_max) {
    return invalid_argument(fmt::format("{}: longer than the limit of {} bytes", path, bytes_max));
  }
  return text;
}

Result<Json> read_json_file(const std::string& path, const JsonLimits& limits) {
  Result<std::string> text = read_file(path, limits.bytes_max);
  if (!text.ok()) return text.status();
  Result<Json> value = parse_json(*text, limits);
  if (!value.ok()) return value.status().at(path);
  return value;
}

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const Json* value = object.get_object().if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string_view json_kind(const Json& value) {
  switch (value.kind()) {
    case bj::kind::null:
      return "null";
    case bj::kind::bool_:
      return "boolean";
    case bj::kind::int64:
    case bj::kind::uint64:
      return "integer";
    case bj::kind::double_:
      return "number";
    case bj::kind::string:
      return "string";
    case bj::kind::array:
      return "array";
    case bj::kind::object:
      return "object";
  }
  return "unknown";
}

}  // namespace trireme
