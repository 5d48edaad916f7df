#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/grammar/front_ends.h"
#include "runtime/grammar/json_forms.h"
#include "runtime/text/utf8.h"

namespace trireme::grammar {
namespace {

class SchemaReader {
 public:
  explicit SchemaReader(const Json& root) : root_(root) {
    rules_.emplace_back();  // the start
    any_value_ = new_rule();
    any_object_ = new_rule();
    any_text_ = new_rule();
    rules_[any_text_] = repeat(string_character(), 0, kUnbounded);
    const ExpressionPtr value = rule(any_value_);
    const ExpressionPtr pair = sequence({any_string(), space(), literal(":"), space(), value});
    rules_[any_object_] = listed("{", pair, 0, kUnbounded, "}");
    rules_[any_value_] =
        choice({rule(any_object_), listed("[", value, 0, kUnbounded, "]"), any_string(),
                any_number(), literal("true"), literal("false"), literal("null")});
  }

  Grammar object() {
    rules_[0] = rule(any_object_);
    return {rules_};
  }
  Grammar run() {
    rules_[0] = schema(root_, "#");
    while (!pending_.empty()) {
      const auto [target, there] = pending_.back();
      pending_.pop_back();
      rules_[references_.at(target)] = schema(*there, target);
    }
    Grammar grammar{std::move(rules_), {}};
    grammar.names.resize(grammar.rules.size());
    for (const auto& [target, index] : references_) grammar.names[index] = target;
    return grammar;
  }

 private:
  uint32_t new_rule() {
    rules_.emplace_back();
    return static_cast<uint32_t>(rules_.size() - 1);
  }
  [[noreturn]] static void fail(const std::string& where, std::string_view what) {
    throw GrammarError{fmt::format("at {}: {}", where, what)};
  }

  // open item, item close
  ExpressionPtr listed(const char* open, const ExpressionPtr& item, uint32_t min, uint32_t max,
                       const char* close) {
    const ExpressionPtr following = sequence({space(), literal(","), space(), item});
    ExpressionPtr items = nothing();
    if (max > 0) {
      const uint32_t rest_max = max == kUnbounded ? kUnbounded : max - 1;
      items = sequence({item, repeat(following, min > 0 ? min - 1 : 0, rest_max)});
      if (min == 0) items = optional(std::move(items));
    }
    return sequence({literal(open), space(), std::move(items), space(), literal(close)});
  }

  ExpressionPtr schema(const Json& s, const std::string& where) {
    if (++depth_ > kDepthMax) fail(where, "it is nested too deep");
    if (++schemas_ > kSchemasMax) fail(where, "there are too many schemas in it");
    ExpressionPtr made = one_schema(s, where);
    --depth_;
    return made;
  }

  ExpressionPtr one_schema(const Json& s, const std::string& where) {
    if (s.is_bool()) {
      if (!s.get_bool()) fail(where, "false allows nothing");
      return rule(any_value_);
    }
    if (!s.is_object()) fail(where, "a schema has to be an object, true or false");
    const JsonObject& o = s.get_object();
    check_keywords(o, where);
    return nullable(o, one_form(o, where));
  }

  // What stands alone, or by its type.
  ExpressionPtr one_form(const JsonObject& o, const std::string& where) {
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
      for (const Json& one : type->get_array())
        parts.push_back(typed(o, name_of(one, where), where));
      if (parts.empty()) fail(where + "/type", "the list is empty");
      return choice(std::move(parts));
    }
    return typed(o, type != nullptr ? name_of(*type, where) : implied_type(o), where);
  }

  static ExpressionPtr nullable(const JsonObject& o, ExpressionPtr made) {
    const Json* flag = o.if_contains("nullable");
    if (flag == nullptr || !flag->is_bool() || !flag->get_bool()) return made;
    return choice({std::move(made), literal("null")});
  }
  static std::string name_of(const Json& type, const std::string& where) {
    if (!type.is_string()) fail(where + "/type", "a type has to be a string");
    return std::string(type.get_string());
  }
  static std::string implied_type(const JsonObject& o) {
    for (const char* word :
         {"properties", "required", "additionalProperties", "patternProperties"}) {
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

  // What would be wrong to ignore is refused.
  static void check_keywords(const JsonObject& o, const std::string& where) {
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

  static bool is_annotation(std::string_view key) {
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

  // What would have to hold as well is refused.
  static void only_beside(const char* word, const std::set<std::string_view>& known,
                          const JsonObject& o, const std::string& where) {
    for (const auto& [key, value] : o) {
      if (key != word && !known.contains(key) && !is_annotation(key) && key != "$defs" &&
          key != "definitions" && key != "nullable")
        fail(where,
             fmt::format("'{}' beside '{}' is not supported: write one schema that says both",
                         std::string_view(key), word));
    }
  }

  ExpressionPtr reference(const Json& ref, const std::string& where) {
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

  static bool has_type(const Json& value, std::string_view type) {
    const std::string_view kind = json_kind(value);
    return kind == type || (type == "number" && kind == "integer");
  }

  // Those of the values that `type` and `enum` beside them allow.
  ExpressionPtr enumeration(const JsonObject& o, const JsonArray& values,
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

  ExpressionPtr any_of(const Json& list, const std::string& where) {
    if (!list.is_array() || list.get_array().empty())
      fail(where, "it has to be a list of at least one schema");
    std::vector<ExpressionPtr> parts;
    for (size_t i = 0; i < list.get_array().size(); ++i)
      parts.push_back(schema(list.get_array()[i], fmt::format("{}/{}", where, i)));
    return choice(std::move(parts));
  }

  // One schema alone is itself, by its rule where it is a reference.
  ExpressionPtr all_of(const JsonObject& o, const Json& list, const std::string& where) {
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

  // allOf of objects: their properties and requirements together.
  Json merged(const JsonObject& o, const Json& list, const std::string& where) {
    if (!list.is_array() || list.get_array().empty())
      fail(where + "/allOf", "it has to be a list of at least one schema");
    JsonObject all = o;
    all.erase("allOf");
    for (const Json& part : list.get_array()) {
      const Json* one = &part;
      boost::system::error_code error;
      for (int i = 0;
           i < 16 && one != nullptr && one->is_object() && one->get_object().contains("$ref");
           ++i) {
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

  ExpressionPtr typed(const JsonObject& o, const std::string& type, const std::string& where) {
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

  static uint32_t count(const JsonObject& o, const char* word, uint32_t otherwise,
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

  ExpressionPtr string(const JsonObject& o, const std::string& where) {
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
      if (min > 0 || max != kUnbounded)
        fail(where, "format together with a length is not supported");
      const std::string_view name = format->get_string();
      ExpressionPtr made = string_of_format(name);
      if (made == nullptr)
        fail(where + "/format", fmt::format("'{}' is not supported", name.substr(0, 60)));
      return made;
    }
    if (max < min) fail(where, "maxLength is below minLength");
    return string_of(repeat(string_character(), min, max));
  }

  // A pattern is about the string, not about how JSON writes it. Where it is not anchored anything
  // may stand.
  ExpressionPtr pattern_of(std::string_view pattern, const std::string& where) {
    try {
      return escaped_as_json(*parse_regex_expression(pattern, rule(any_text_)));
    } catch (const GrammarError& e) {
      fail(where, e.message);
    }
  }

  // The bound as an integer; `otherwise` where there is none.
  static int64_t bound(const JsonObject& o, const char* word, int64_t otherwise,
                       const std::string& where) {
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

  ExpressionPtr integer(const JsonObject& o, const std::string& where) {
    int64_t low = bound(o, "minimum", -kIntegerMax, where);
    int64_t high = bound(o, "maximum", kIntegerMax, where);
    low = std::max(low, bound(o, "exclusiveMinimum", -kIntegerMax - 1, where) + 1);
    high = std::min(high, bound(o, "exclusiveMaximum", kIntegerMax + 1, where) - 1);
    if (low > high) fail(where, "its bounds leave no integer");
    if (low == -kIntegerMax && high == kIntegerMax) return any_integer();
    return integer_range(low, high);
  }

  ExpressionPtr number(const JsonObject& o, const std::string& where) {
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

  ExpressionPtr array(const JsonObject& o, const std::string& where) {
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
    const ExpressionPtr item =
        items == nullptr ? rule(any_value_) : schema(*items, where + "/items");
    return listed("[", item, min, max, "]");
  }

  // [first, second, ...]: all of the prefix, then items.
  ExpressionPtr tuple(const JsonObject&, const Json& prefix, const Json* items, uint32_t min,
                      uint32_t max, const std::string& where) {
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

  ExpressionPtr object(const JsonObject& o, const std::string& where) {
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

  // Any string but these, each character in its shortest spelling, so that a name has only one.
  ExpressionPtr string_except(std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      if (name.size() > kNameBytesMax)
        throw GrammarError{fmt::format(
            "beside other properties a property's name has at most {} bytes", kNameBytesMax)};
    }
    return string_of(except(names, 0));
  }
  // The rests of names with a common beginning of `at` bytes, sorted; one rule per character.
  ExpressionPtr except(std::span<const std::string> names, size_t at) {
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

  // Properties whose names match the one pattern.
  ExpressionPtr pattern_object(const JsonObject& o, const std::string& where) {
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
    const ExpressionPtr pair = sequence({string_of(pattern_of(pattern, here)), space(),
                                         literal(":"), space(), schema(value, here)});
    return listed("{", pair, 0, kUnbounded, "}");
  }

  struct Property {
    ExpressionPtr pair;
    bool required = false;
  };

  // The pairs in the schema's order, those that are not required maybe left out; then others. A
  // rule per property for what may follow when nothing has been written yet, and one for when
  // something has.
  ExpressionPtr members(const std::vector<Property>& all, const ExpressionPtr& others) {
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

  static constexpr int kDepthMax = 64;
  static constexpr size_t kReferencesMax = 4096;
  static constexpr size_t kSchemasMax = 1 << 17;
  static constexpr size_t kMergesMax = 256;
  static constexpr size_t kNameBytesMax = 256;
  const Json& root_;
  std::vector<ExpressionPtr> rules_;
  uint32_t any_value_ = 0, any_object_ = 0, any_text_ = 0;
  std::map<std::string, uint32_t> references_;
  std::vector<std::pair<std::string, const Json*>> pending_;  // references to be read
  int depth_ = 0;
  size_t schemas_ = 0, merges_ = 0;
};

}  // namespace

Grammar any_json_object() {
  const Json none;
  return SchemaReader(none).object();
}

Grammar parse_json_schema(std::string_view json) {
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) throw GrammarError{parsed.status().message()};
  return SchemaReader(*parsed).run();
}

}  // namespace trireme::grammar
