#include <algorithm>

#include <fmt/format.h>

#include "runtime/grammar/front_ends.h"
#include "runtime/grammar/json_forms.h"
#include "runtime/grammar/schema_reader.h"

namespace trireme::grammar {

ExpressionPtr SchemaReader::string(const JsonObject& o, const std::string& where) {
  const Json* pattern = o.if_contains("pattern");
  const Json* format = o.if_contains("format");
  const uint32_t min = count(o, "minLength", 0, where);
  const uint32_t max = count(o, "maxLength", kUnbounded, where);
  if (pattern != nullptr) {
    if (!pattern->is_string()) fail(where + "/pattern", "it has to be a string");
    if (min > 0 || max != kUnbounded || format != nullptr)
      fail(where, "pattern together with a length or a format is not supported");
    return string_of(pattern_of(std::string(pattern->get_string()), where + "/pattern"));
  }
  if (format != nullptr) {
    if (!format->is_string()) fail(where + "/format", "it has to be a string");
    if (min > 0 || max != kUnbounded) fail(where, "format together with a length is not supported");
    const std::string_view name = format->get_string();
    ExpressionPtr made = string_of_format(name);
    if (made == nullptr)
      fail(where + "/format", fmt::format("'{}' is not supported", name.substr(0, 60)));
    return made;
  }
  if (max < min) fail(where, "maxLength is below minLength");
  return string_of(repeat(string_character(), min, max));
}

ExpressionPtr SchemaReader::pattern_of(std::string_view pattern, const std::string& where) {
  try {
    return escaped_as_json(*parse_regex_expression(pattern, rule(any_text_)));
  } catch (const GrammarError& e) {
    fail(where, e.message);
  }
}

ExpressionPtr SchemaReader::integer(const JsonObject& o, const std::string& where) {
  int64_t low = bound(o, "minimum", -kIntegerMax, where);
  int64_t high = bound(o, "maximum", kIntegerMax, where);
  low = std::max(low, bound(o, "exclusiveMinimum", -kIntegerMax - 1, where) + 1);
  high = std::min(high, bound(o, "exclusiveMaximum", kIntegerMax + 1, where) - 1);
  if (low > high) fail(where, "its bounds leave no integer");
  if (low == -kIntegerMax && high == kIntegerMax) return any_integer();
  return integer_range(low, high);
}

ExpressionPtr SchemaReader::number(const JsonObject& o, const std::string& where) {
  NumberRange range;
  bool bounded = false;
  for (const char* word : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
    if (!o.contains(word)) continue;
    bounded = true;
    constexpr int64_t kBoundMax = 1'000'000'000;  // f64 has 6 digits after the point up to there
    const int64_t value = bound(o, word, 0, where);
    if (value < -kBoundMax || value > kBoundMax)
      fail(where + "/" + word, fmt::format("a bound of a number is at most {}", kBoundMax));
    const std::string_view name = word;
    const bool included = !name.starts_with("exclusive");
    if (name.ends_with("inimum") && (value > range.low || (value == range.low && !included))) {
      range.low = value;
      range.low_included = included;
    }
    if (name.ends_with("aximum") && (value < range.high || (value == range.high && !included))) {
      range.high = value;
      range.high_included = included;
    }
  }
  if (!bounded) return any_number();
  if (range.low > range.high ||
      (range.low == range.high && !(range.low_included && range.high_included)))
    fail(where, "its bounds leave no number");
  return number_range(range);
}

ExpressionPtr SchemaReader::listed(const char* open, const ExpressionPtr& item, uint32_t min,
                                   uint32_t max, const char* close) {
  const ExpressionPtr following = sequence({space(), literal(","), space(), item});
  ExpressionPtr items = nothing();
  if (max > 0) {
    const uint32_t rest_max = max == kUnbounded ? kUnbounded : max - 1;
    items = sequence({item, repeat(following, min > 0 ? min - 1 : 0, rest_max)});
    if (min == 0) items = optional(std::move(items));
  }
  return sequence({literal(open), space(), std::move(items), space(), literal(close)});
}

ExpressionPtr SchemaReader::array(const JsonObject& o, const std::string& where) {
  const uint32_t min = count(o, "minItems", 0, where);
  const uint32_t max = count(o, "maxItems", kUnbounded, where);
  if (max < min) fail(where, "maxItems is below minItems");
  const Json* items = o.if_contains("items");
  if (items != nullptr && items->is_bool() && !items->get_bool() && !o.contains("prefixItems")) {
    if (min > 0) fail(where, "items is false and minItems is above 0");
    return sequence({literal("["), space(), literal("]")});
  }
  if (const Json* prefix = o.if_contains("prefixItems"))
    return tuple(o, *prefix, items, min, max, where);
  if (items != nullptr && items->is_array()) return tuple(o, *items, nullptr, min, max, where);
  const ExpressionPtr item = items == nullptr ? rule(any_value_) : schema(*items, where + "/items");
  return listed("[", item, min, max, "]");
}

ExpressionPtr SchemaReader::tuple(const JsonObject&, const Json& prefix, const Json* items,
                                  uint32_t min, uint32_t max, const std::string& where) {
  if (!prefix.is_array() || prefix.get_array().empty())
    fail(where + "/prefixItems", "it has to be a list of at least one schema");
  const auto size = static_cast<uint32_t>(prefix.get_array().size());
  if (max < size) fail(where, "maxItems below the number of prefixItems is not supported");
  std::vector<ExpressionPtr> parts = {literal("["), space()};
  for (uint32_t i = 0; i < size; ++i) {
    if (i > 0) parts.insert(parts.end(), {space(), literal(","), space()});
    parts.push_back(schema(prefix.get_array()[i], fmt::format("{}/prefixItems/{}", where, i)));
  }
  const bool more = items != nullptr && !(items->is_bool() && !items->get_bool());
  if (more || min > size) {
    const ExpressionPtr item =
        items == nullptr ? rule(any_value_) : schema(*items, where + "/items");
    parts.push_back(repeat(sequence({space(), literal(","), space(), item}),
                           min > size ? min - size : 0,
                           max == kUnbounded ? kUnbounded : max - size));
  }
  parts.insert(parts.end(), {space(), literal("]")});
  return sequence(std::move(parts));
}

}  // namespace trireme::grammar
