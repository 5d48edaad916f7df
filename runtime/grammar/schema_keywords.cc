#include "runtime/grammar/schema_keywords.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/grammar/expression.h"
#include "runtime/grammar/json_forms.h"

namespace trireme::grammar {

void fail(const std::string& where, std::string_view what) {
  throw GrammarError{fmt::format("at {}: {}", where, what)};
}

std::string name_of(const Json& type, const std::string& where) {
  if (!type.is_string()) fail(where + "/type", "a type has to be a string");
  return std::string(type.get_string());
}

std::string implied_type(const JsonObject& o) {
  for (const char* word : {"properties", "required", "additionalProperties", "patternProperties"}) {
    if (o.contains(word)) return "object";
  }
  for (const char* word : {"items", "prefixItems", "minItems", "maxItems"}) {
    if (o.contains(word)) return "array";
  }
  for (const char* word : {"pattern", "format", "minLength", "maxLength"}) {
    if (o.contains(word)) return "string";
  }
  for (const char* word : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
    if (o.contains(word)) return "number";
  }
  return "any";
}

void check_keywords(const JsonObject& o, const std::string& where) {
  static const std::set<std::string_view> kKnown = {"type",
                                                    "properties",
                                                    "required",
                                                    "additionalProperties",
                                                    "patternProperties",
                                                    "items",
                                                    "prefixItems",
                                                    "minItems",
                                                    "maxItems",
                                                    "enum",
                                                    "const",
                                                    "anyOf",
                                                    "oneOf",
                                                    "allOf",
                                                    "$ref",
                                                    "$defs",
                                                    "definitions",
                                                    "minLength",
                                                    "maxLength",
                                                    "pattern",
                                                    "format",
                                                    "minimum",
                                                    "maximum",
                                                    "exclusiveMinimum",
                                                    "exclusiveMaximum",
                                                    "nullable"};
  for (const auto& [key, value] : o) {
    if (!kKnown.contains(key) && !is_annotation(key))
      fail(where,
           fmt::format("the keyword '{}' is not supported", std::string_view(key).substr(0, 60)));
  }
}

bool is_annotation(std::string_view key) {
  static const std::set<std::string_view> kAnnotations = {"title",
                                                          "description",
                                                          "default",
                                                          "examples",
                                                          "example",
                                                          "$schema",
                                                          "$id",
                                                          "$comment",
                                                          "deprecated",
                                                          "readOnly",
                                                          "writeOnly",
                                                          "$anchor",
                                                          "strict",
                                                          "name",
                                                          "discriminator",
                                                          "xml",
                                                          "externalDocs",
                                                          "contentEncoding",
                                                          "contentMediaType"};
  return kAnnotations.contains(key) || key.starts_with("x-");
}

void only_beside(const char* word, const std::set<std::string_view>& known, const JsonObject& o,
                 const std::string& where) {
  for (const auto& [key, value] : o) {
    if (key != word && !known.contains(key) && !is_annotation(key) && key != "$defs" &&
        key != "definitions" && key != "nullable")
      fail(where, fmt::format("'{}' beside '{}' is not supported: write one schema that says both",
                              std::string_view(key), word));
  }
}

bool has_type(const Json& value, std::string_view type) {
  const std::string_view kind = json_kind(value);
  return kind == type || (type == "number" && kind == "integer");
}

uint32_t count(const JsonObject& o, const char* word, uint32_t otherwise,
               const std::string& where) {
  const Json* value = o.if_contains(word);
  if (value == nullptr) return otherwise;
  constexpr int64_t kCountMax = 10000;
  const bool whole = value->is_int64() || value->is_uint64();
  const int64_t n = whole ? value->to_number<int64_t>() : -1;
  if (n < 0 || n > kCountMax)
    fail(where + "/" + word, fmt::format("it has to be from 0 to {}", kCountMax));
  return static_cast<uint32_t>(n);
}

int64_t bound(const JsonObject& o, const char* word, int64_t otherwise, const std::string& where) {
  const Json* value = o.if_contains(word);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) fail(where + "/" + word, "it has to be a number");
  if (value->is_int64() && std::abs(value->get_int64() / 2) < kIntegerMax / 4)
    return value->get_int64();
  const double d = value->to_number<double>();
  const auto whole = static_cast<int64_t>(std::clamp(d, -1e18, 1e18));
  if (static_cast<double>(whole) != d || std::abs(d) > 9e17)
    fail(where + "/" + word, "it has to be an integer of at most 17 digits");
  return whole;
}

}  // namespace trireme::grammar
