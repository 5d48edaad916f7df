#include "runtime/config/value_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "runtime/config/units.h"

namespace trireme {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
bool all_digits(std::string_view s) { return !s.empty() && std::all_of(s.begin(), s.end(), digit); }

Status expected(const ConfigNode& node, std::string_view what) {
  return node.error(fmt::format("expected {}, found {}", what, node.describe()));
}

bool unquoted_scalar(const ConfigNode& node) {
  return node.kind == ConfigNode::Kind::kScalar && node.style != ConfigNode::Style::kQuoted;
}

// Words that YAML 1.1 readers take for booleans or null, whatever their case.
bool reserved_word(std::string_view text) {
  static constexpr std::array<std::string_view, 10> kWords = {"true", "false", "yes", "no",   "on",
                                                              "off",  "y",     "n",   "null", "~"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

// Whether a reader could take it for a number: a digit after an optional sign and point, and then
// only what numbers are made of in some YAML (0x1F, 1_000, 1e5, 12:30:45, 2001-01-01), .inf, .nan.
// Two points are in no number: 127.0.0.1 is an address.
bool like_a_number(std::string_view text) {
  if (text.empty()) return false;
  if (text.front() == '+' || text.front() == '-') text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".nan" || text == ".NaN") return true;
  const size_t first = !text.empty() && text.front() == '.' ? 1 : 0;
  if (text.size() <= first || !digit(text[first])) return false;
  if (std::count(text.begin(), text.end(), '.') > 1) return false;
  return text.find_first_not_of("0123456789abcdefxoABCDEF_.+-:") == std::string_view::npos;
}

// Digits, maybe with a sign: what of them is not a decimal number without a leading zero.
Status check_decimal(const ConfigNode& node, std::string_view digits) {
  if (digits.size() > 1 && digits[0] == '0' && all_digits(digits)) {
    const size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
    return node.error(
        fmt::format("{} has a leading zero, which some readers take for octal: "
                    "write {}",
                    node.describe(), digits.substr(first)));
  }
  if (!all_digits(digits)) return expected(node, "an integer");
  return {};
}

template <class T>
Result<T> parse_integer(const ConfigNode& node) {
  if (!unquoted_scalar(node)) return expected(node, "an integer");
  const std::string_view text = node.text;
  const bool negative = text.starts_with('-');
  if (Status s = check_decimal(node, text.substr(negative ? 1 : 0)); !s.ok()) return s;
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return expected(node, fmt::format("an integer from {} to {}", std::numeric_limits<T>::min(),
                                      std::numeric_limits<T>::max()));
  return value;
}

}  // namespace

Result<int64_t> read_integer(const ConfigNode& node, int64_t min, int64_t max) {
  const Result<int64_t> value = parse_integer<int64_t>(node);
  if (!value.ok()) return value;
  if (*value >= min && *value <= max) return value;
  if (max == std::numeric_limits<int64_t>::max() || max == std::numeric_limits<int32_t>::max())
    return expected(node, fmt::format("an integer of at least {}", min));
  return expected(node, fmt::format("an integer from {} to {}", min, max));
}

Result<uint64_t> read_unsigned(const ConfigNode& node) { return parse_integer<uint64_t>(node); }

Result<double> read_number(const ConfigNode& node) {
  if (!unquoted_scalar(node)) return expected(node, "a number");
  const std::string_view text = node.text;
  const size_t sign = text.starts_with('-') ? 1 : 0;
  const size_t point = std::min(text.find_first_of(".eE", sign), text.size());
  if (point - sign > 1 && text[sign] == '0' && all_digits(text.substr(sign, point - sign)))
    return node.error(fmt::format("{} has a leading zero: leave it out", node.describe()));
  if (text.size() <= sign || (!digit(text[sign]) && text[sign] != '.'))
    return expected(node, "a number");  // from_chars would take "inf" and "nan"
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return expected(node, "a number");
  return value;
}

Result<bool> read_boolean(const ConfigNode& node) {
  if (unquoted_scalar(node) && node.text == "true") return true;
  if (unquoted_scalar(node) && node.text == "false") return false;
  return expected(node, "true or false");
}

Result<std::string> read_string(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar) return expected(node, "a string");
  if (node.style == ConfigNode::Style::kPlain &&
      (reserved_word(node.text) || like_a_number(node.text)))
    return node.error(
        fmt::format("expected a string, found {}: put it in quotes", node.describe()));
  return node.text;
}

Result<uint64_t> read_size(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar) return expected(node, "a size, as in 16GiB");
  const Result<uint64_t> bytes = parse_size(node.text);
  if (!bytes.ok()) return node.error(bytes.status().message());
  return bytes;
}

Result<uint64_t> read_duration_ms(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kScalar) return expected(node, "a duration, as in 30s");
  const Result<uint64_t> ms = parse_duration_ms(node.text);
  if (!ms.ok()) return node.error(ms.status().message());
  return ms;
}

Result<std::vector<std::string>> read_strings(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kMap)
    return node.error("expected a string or a list of strings, found a map");
  std::vector<std::string> values;
  const auto one = [&](const ConfigNode& item) -> Status {
    Result<std::string> value = read_string(item);
    if (!value.ok()) return value.status();
    values.push_back(value.take());
    return {};
  };
  if (node.kind == ConfigNode::Kind::kScalar) {
    if (Status s = one(node); !s.ok()) return s;
  }
  for (const ConfigNode& item : node.items) {
    if (Status s = one(item); !s.ok()) return s;
  }
  return values;
}

Result<std::vector<int32_t>> read_token_ids(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kList)
    return node.error(fmt::format("expected a list of token ids, found {}", node.describe()));
  std::vector<int32_t> ids;
  for (const ConfigNode& item : node.items) {
    const Result<int64_t> id = read_integer(item, 0, std::numeric_limits<int32_t>::max());
    if (!id.ok()) return id.status();
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

Result<std::vector<std::pair<int32_t, float>>> read_logit_bias(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kMap)
    return node.error(
        fmt::format("expected a map from token id to number, found {}", node.describe()));
  std::vector<std::pair<int32_t, float>> bias;
  for (const auto& [key, value] : node.entries) {
    ConfigNode id_node = key;  // JSON writes its keys in quotes
    if (id_node.style == ConfigNode::Style::kQuoted) id_node.style = ConfigNode::Style::kPlain;
    const Result<int64_t> id = read_integer(id_node, 0, std::numeric_limits<int32_t>::max());
    if (!id.ok()) return id.status();
    const Result<double> amount = read_number(value);
    if (!amount.ok()) return amount.status();
    bias.emplace_back(static_cast<int32_t>(*id), static_cast<float>(*amount));
  }
  return bias;
}

}  // namespace trireme
