#include <algorithm>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/grammar/schema_reader.h"

namespace trireme::grammar {

ExpressionPtr SchemaReader::schema(const Json& s, const std::string& where) {
  if (++depth_ > kDepthMax) fail(where, "it is nested too deep");
  if (++schemas_ > kSchemasMax) fail(where, "there are too many schemas in it");
  ExpressionPtr made = one_schema(s, where);
  --depth_;
  return made;
}

ExpressionPtr SchemaReader::one_schema(const Json& s, const std::string& where) {
  if (s.is_bool()) {
    if (!s.get_bool()) fail(where, "false allows nothing");
    return rule(any_value_);
  }
  if (!s.is_object()) fail(where, "a schema has to be an object, true or false");
  const JsonObject& o = s.get_object();
  check_keywords(o, where);
  return nullable(o, one_form(o, where));
}

ExpressionPtr SchemaReader::one_form(const JsonObject& o, const std::string& where) {
  if (const Json* ref = o.if_contains("$ref")) {
    only_beside("$ref", {}, o, where);
    return reference(*ref, where);
  }
  if (const Json* value = o.if_contains("const")) {
    only_beside("const", {"type", "enum"}, o, where);
    return enumeration(o, JsonArray{*value}, where + "/const");
  }
  if (const Json* values = o.if_contains("enum")) {
    only_beside("enum", {"type"}, o, where);
    if (!values->is_array()) fail(where + "/enum", "it has to be a list of at least one value");
    return enumeration(o, values->get_array(), where + "/enum");
  }
  for (const char* word : {"anyOf", "oneOf"}) {
    if (const Json* list = o.if_contains(word)) {
      only_beside(word, {}, o, where);
      return any_of(*list, where + "/" + word);
    }
  }
  if (const Json* list = o.if_contains("allOf")) return all_of(o, *list, where);
  const Json* type = o.if_contains("type");
  if (type != nullptr && type->is_array()) {
    std::vector<ExpressionPtr> parts;
    for (const Json& one : type->get_array()) parts.push_back(typed(o, name_of(one, where), where));
    if (parts.empty()) fail(where + "/type", "the list is empty");
    return choice(std::move(parts));
  }
  return typed(o, type != nullptr ? name_of(*type, where) : implied_type(o), where);
}

ExpressionPtr SchemaReader::nullable(const JsonObject& o, ExpressionPtr made) {
  const Json* flag = o.if_contains("nullable");
  if (flag == nullptr || !flag->is_bool() || !flag->get_bool()) return made;
  return choice({std::move(made), literal("null")});
}

ExpressionPtr SchemaReader::reference(const Json& ref, const std::string& where) {
  if (!ref.is_string() || !std::string_view(ref.get_string()).starts_with("#"))
    fail(where + "/$ref", "only references into this schema are read: #/$defs/...");
  const std::string target(ref.get_string());
  const auto known = references_.find(target);
  if (known != references_.end()) return rule(known->second);
  const uint32_t made = new_rule();
  references_[target] = made;
  boost::system::error_code error;
  const Json* there = target == "#" ? &root_ : root_.find_pointer(target.substr(1), error);
  if (there == nullptr)
    fail(where + "/$ref", fmt::format("there is nothing at {}", target.substr(0, 100)));
  if (references_.size() > kReferencesMax) fail(where, "it has too many references");
  pending_.emplace_back(target, there);
  return rule(made);
}

ExpressionPtr SchemaReader::enumeration(const JsonObject& o, const JsonArray& values,
                                        const std::string& where) {
  const Json* type = o.if_contains("type");
  const Json* among = o.if_contains("enum");
  std::vector<ExpressionPtr> parts;
  for (const Json& value : values) {
    bool fits = type == nullptr;
    for (const Json& one : type == nullptr    ? JsonArray()
                           : type->is_array() ? type->get_array()
                                              : JsonArray{*type})
      fits = fits || has_type(value, name_of(one, where));
    if (among != nullptr && among->is_array())
      fits = fits && std::find(among->get_array().begin(), among->get_array().end(), value) !=
                         among->get_array().end();
    if (fits) parts.push_back(literal(boost::json::serialize(value)));
  }
  if (parts.empty()) fail(where, "it has to have at least one value that the type allows");
  return choice(std::move(parts));
}

ExpressionPtr SchemaReader::any_of(const Json& list, const std::string& where) {
  if (!list.is_array() || list.get_array().empty())
    fail(where, "it has to be a list of at least one schema");
  std::vector<ExpressionPtr> parts;
  for (size_t i = 0; i < list.get_array().size(); ++i)
    parts.push_back(schema(list.get_array()[i], fmt::format("{}/{}", where, i)));
  return choice(std::move(parts));
}

ExpressionPtr SchemaReader::all_of(const JsonObject& o, const Json& list,
                                   const std::string& where) {
  const bool alone = std::all_of(o.begin(), o.end(), [](const auto& member) {
    const std::string_view key = member.key();
    return key == "allOf" || key == "nullable" || key == "$defs" || key == "definitions" ||
           is_annotation(key);
  });
  if (alone && list.is_array() && list.get_array().size() == 1)
    return schema(list.get_array()[0], where + "/allOf/0");
  if (++merges_ > kMergesMax) fail(where, "it has too many allOf");
  return schema(merged(o, list, where), where);
}

Json SchemaReader::merged(const JsonObject& o, const Json& list, const std::string& where) {
  if (!list.is_array() || list.get_array().empty())
    fail(where + "/allOf", "it has to be a list of at least one schema");
  JsonObject all = o;
  all.erase("allOf");
  for (const Json& part : list.get_array()) {
    const Json* one = &part;
    boost::system::error_code error;
    for (int i = 0;
         i < 16 && one != nullptr && one->is_object() && one->get_object().contains("$ref"); ++i) {
      only_beside("$ref", {}, one->get_object(), where + "/allOf");
      const std::string target(
          one->at("$ref").is_string() ? std::string(one->at("$ref").get_string()) : "");
      one = target.starts_with("#/") ? root_.find_pointer(target.substr(1), error) : nullptr;
    }
    if (one == nullptr || !one->is_object())
      fail(where + "/allOf", "its schemas have to be objects");
    for (const auto& [key, value] : one->get_object()) {
      Json* there = all.if_contains(key);
      if (there == nullptr) {
        all[key] = value;
      } else if (key == "properties" && there->is_object() && value.is_object()) {
        for (const auto& [name, property] : value.get_object()) {
          if (there->get_object().contains(name) && there->get_object()[name] != property)
            fail(where + "/allOf",
                 fmt::format("the property '{}' is said twice", std::string_view(name)));
          there->get_object()[name] = property;
        }
      } else if (key == "required" && there->is_array() && value.is_array()) {
        for (const Json& name : value.get_array()) there->get_array().push_back(name);
      } else if (*there != value && key != "description" && key != "title") {
        fail(where + "/allOf",
             fmt::format("'{}' is said twice, differently", std::string_view(key)));
      }
    }
  }
  return all;
}

ExpressionPtr SchemaReader::typed(const JsonObject& o, const std::string& type,
                                  const std::string& where) {
  if (type == "any") return rule(any_value_);
  if (type == "null") return literal("null");
  if (type == "boolean") return choice({literal("true"), literal("false")});
  if (type == "string") return string(o, where);
  if (type == "integer") return integer(o, where);
  if (type == "number") return number(o, where);
  if (type == "array") return array(o, where);
  if (type == "object") return object(o, where);
  fail(where + "/type", fmt::format("'{}' is no type of JSON", type.substr(0, 40)));
}

}  // namespace trireme::grammar
