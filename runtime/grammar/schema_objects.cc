#include <algorithm>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/grammar/json_forms.h"
#include "runtime/grammar/schema_reader.h"
#include "runtime/text/utf8.h"

namespace trireme::grammar {

ExpressionPtr SchemaReader::object(const JsonObject& o, const std::string& where) {
  const Json* properties = o.if_contains("properties");
  const Json* additional = o.if_contains("additionalProperties");
  if (properties != nullptr && !properties->is_object())
    fail(where + "/properties", "it has to be an object");
  std::set<std::string> required;
  if (const Json* list = o.if_contains("required")) {
    if (!list->is_array()) fail(where + "/required", "it has to be a list of names");
    for (const Json& name : list->get_array()) {
      if (!name.is_string()) fail(where + "/required", "it has to be a list of names");
      required.insert(std::string(name.get_string()));
    }
  }
  if (o.contains("patternProperties")) return pattern_object(o, where);
  std::vector<Property> all;
  std::vector<std::string> names(required.begin(), required.end());
  if (properties != nullptr) {
    for (const auto& [name, property] : properties->get_object()) {
      const std::string key = boost::json::serialize(boost::json::value(name));
      all.push_back({sequence({literal(key), space(), literal(":"), space(),
                               schema(property, where + "/properties/" + std::string(name))}),
                     required.contains(std::string(name))});
      if (required.erase(std::string(name)) == 0) names.emplace_back(name);
    }
  }
  if (additional != nullptr && additional->is_bool() && !additional->get_bool() &&
      !required.empty())
    fail(where + "/required",
         fmt::format("'{}' is required, and no property may have that name", *required.begin()));
  const bool open = additional == nullptr ? all.empty() && properties == nullptr
                                          : !(additional->is_bool() && !additional->get_bool());
  ExpressionPtr value = rule(any_value_), others;
  if (additional != nullptr && !additional->is_bool())
    value = schema(*additional, where + "/additionalProperties");
  // Names that are required and not described are as others are.
  for (const std::string& name : required) {
    const std::string key = boost::json::serialize(boost::json::value(name));
    all.push_back({sequence({literal(key), space(), literal(":"), space(), value}), true});
  }
  if (open)
    others = sequence({names.empty() ? any_string() : string_except(names), space(), literal(":"),
                       space(), value});
  return sequence({literal("{"), space(), members(all, others), space(), literal("}")});
}

ExpressionPtr SchemaReader::members(const std::vector<Property>& all, const ExpressionPtr& others) {
  const ExpressionPtr comma = sequence({space(), literal(","), space()});
  ExpressionPtr after_first = nothing(), after_some = nothing();
  if (others != nullptr) {
    after_some = repeat(sequence({comma, others}), 0, kUnbounded);
    after_first = optional(sequence({others, after_some}));
  }
  for (size_t i = all.size(); i-- > 0;) {
    const uint32_t some = new_rule();
    rules_[some] = after_some;
    ExpressionPtr now_first = sequence({all[i].pair, rule(some)});
    ExpressionPtr now_some = sequence({comma, all[i].pair, rule(some)});
    if (!all[i].required) {
      const uint32_t first = new_rule();
      rules_[first] = after_first;
      now_first = choice({std::move(now_first), rule(first)});
      now_some = choice({std::move(now_some), rule(some)});
    }
    after_first = std::move(now_first);
    after_some = std::move(now_some);
  }
  return after_first;
}

ExpressionPtr SchemaReader::string_except(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.size() > kNameBytesMax)
      throw GrammarError{fmt::format(
          "beside other properties a property's name has at most {} bytes", kNameBytesMax)};
  }
  return string_of(except(names, 0));
}

ExpressionPtr SchemaReader::except(std::span<const std::string> names, size_t at) {
  std::vector<ExpressionPtr> parts;
  size_t i = 0;
  if (names[0].size() == at) {
    ++i;
  } else {
    parts.push_back(nothing());
  }
  std::vector<CodeRange> taken;
  while (i < names.size()) {
    const CodePoint c = code_point_at(names[i], at);
    const std::string head = names[i].substr(at, c.bytes);
    size_t end = i;
    while (end < names.size() && names[end].compare(at, c.bytes, head) == 0) ++end;
    taken.push_back({c.value, c.value});
    const std::string spelled = boost::json::serialize(boost::json::value(head));
    parts.push_back(sequence({literal(spelled.substr(1, spelled.size() - 2)),
                              except(names.subspan(i, end - i), at + c.bytes)}));
    i = end;
  }
  const ExpressionPtr rest = escaped_as_json(*none_of({}));
  parts.push_back(
      sequence({escaped_as_json(*none_of(std::move(taken))), repeat(rest, 0, kUnbounded)}));
  return choice(std::move(parts));
}

ExpressionPtr SchemaReader::pattern_object(const JsonObject& o, const std::string& where) {
  const Json& patterns = o.at("patternProperties");
  const std::string here = where + "/patternProperties";
  const Json* additional = o.if_contains("additionalProperties");
  if (!patterns.is_object() || patterns.get_object().size() != 1 || o.contains("properties") ||
      o.contains("required") ||
      (additional != nullptr && !(additional->is_bool() && !additional->get_bool())))
    fail(here,
         "it has to be one pattern, without properties, required or additionalProperties (but "
         "false) beside it");
  const auto& [pattern, value] = *patterns.get_object().begin();
  const ExpressionPtr pair = sequence(
      {string_of(pattern_of(pattern, here)), space(), literal(":"), space(), schema(value, here)});
  return listed("{", pair, 0, kUnbounded, "}");
}

}  // namespace trireme::grammar
