#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/grammar/front_ends.h"

namespace trireme::grammar {
namespace {

// ---- JSON itself ----

ExpressionPtr digits(uint32_t min, uint32_t max) { return repeat(one_of({{'0', '9'}}), min, max); }

// White space between tokens: nothing, a blank, or a line break with some indentation.
ExpressionPtr space() {
  static const ExpressionPtr made = optional(
      choice({literal(" "),
              sequence({literal("\n"), repeat(one_of({{' ', ' '}, {'\t', '\t'}}), 0, 20)})}));
  return made;
}

ExpressionPtr string_character() {
  static const ExpressionPtr made = choice(
      {none_of({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}),
       sequence(
           {literal("\\"),
            choice({one_of({{'"', '"'},
                            {'\\', '\\'},
                            {'/', '/'},
                            {'b', 'b'},
                            {'f', 'f'},
                            {'n', 'n'},
                            {'r', 'r'},
                            {'t', 't'}}),
                    sequence({literal("u"),
                              repeat(one_of({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}), 4, 4)})})})});
  return made;
}
ExpressionPtr string_of(ExpressionPtr inside) {
  return sequence({literal("\""), std::move(inside), literal("\"")});
}
ExpressionPtr any_string() {
  static const ExpressionPtr made = string_of(repeat(string_character(), 0, kUnbounded));
  return made;
}

ExpressionPtr any_integer() {
  static const ExpressionPtr made =
      sequence({optional(literal("-")),
                choice({literal("0"), sequence({one_of({{'1', '9'}}), digits(0, 17)})})});
  return made;
}
ExpressionPtr any_number() {
  static const ExpressionPtr made =
      sequence({any_integer(), optional(sequence({literal("."), digits(1, 17)})),
                optional(sequence({one_of({{'e', 'e'}, {'E', 'E'}}),
                                   optional(one_of({{'+', '+'}, {'-', '-'}})), digits(1, 3)}))});
  return made;
}

// The integers from `low` to `high`, both of as many digits, without sign.
ExpressionPtr same_length(const std::string& low, const std::string& high);
ExpressionPtr digit_range(char a, char b) {
  return one_of({{static_cast<char32_t>(a), static_cast<char32_t>(b)}});
}
ExpressionPtr same_length(const std::string& low, const std::string& high) {
  if (low.empty()) return nothing();
  const auto rest = static_cast<uint32_t>(low.size() - 1);
  if (low[0] == high[0])
    return sequence({literal(low.substr(0, 1)), same_length(low.substr(1), high.substr(1))});
  std::vector<ExpressionPtr> parts;
  parts.push_back(
      sequence({literal(low.substr(0, 1)), same_length(low.substr(1), std::string(rest, '9'))}));
  if (low[0] + 1 <= high[0] - 1)
    parts.push_back(
        sequence({digit_range(static_cast<char>(low[0] + 1), static_cast<char>(high[0] - 1)),
                  digits(rest, rest)}));
  parts.push_back(
      sequence({literal(high.substr(0, 1)), same_length(std::string(rest, '0'), high.substr(1))}));
  return choice(std::move(parts));
}

constexpr int64_t kIntegerMax = 999'999'999'999'999'999;  // of 18 digits, as any_integer() has them

// 0 <= low <= high.
ExpressionPtr natural_range(int64_t low, int64_t high) {
  std::vector<ExpressionPtr> parts;
  for (std::string from = std::to_string(low), to = std::to_string(high);
       from.size() <= to.size();) {
    const std::string end = from.size() == to.size() ? to : std::string(from.size(), '9');
    parts.push_back(same_length(from, end));
    from = "1" + std::string(from.size(), '0');
  }
  return choice(std::move(parts));
}
ExpressionPtr integer_range(int64_t low, int64_t high) {
  std::vector<ExpressionPtr> parts;
  if (low < 0)
    parts.push_back(sequence(
        {literal("-"), natural_range(std::max<int64_t>(-std::min<int64_t>(high, -1), 1), -low)}));
  if (high >= 0) parts.push_back(natural_range(std::max<int64_t>(low, 0), high));
  return choice(std::move(parts));
}

// ---- schemas ----

class SchemaReader {
 public:
  explicit SchemaReader(const Json& root) : root_(root) {
    rules_.emplace_back();  // the start
    any_value_ = new_rule();
    any_object_ = new_rule();
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
    return {rules_};
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
    if (const Json* ref = o.if_contains("$ref")) return reference(*ref, where);
    if (const Json* value = o.if_contains("const")) return literal(boost::json::serialize(*value));
    if (const Json* values = o.if_contains("enum")) return enumeration(*values, where);
    for (const char* word : {"anyOf", "oneOf"}) {
      if (const Json* list = o.if_contains(word)) return any_of(o, *list, where + "/" + word);
    }
    if (const Json* list = o.if_contains("allOf")) return schema(merged(o, *list, where), where);
    const Json* type = o.if_contains("type");
    if (type != nullptr && type->is_array()) {
      std::vector<ExpressionPtr> parts;
      for (const Json& one : type->get_array())
        parts.push_back(typed(o, name_of(one, where), where));
      if (parts.empty()) fail(where + "/type", "the list is empty");
      return nullable(o, choice(std::move(parts)));
    }
    if (type != nullptr) return nullable(o, typed(o, name_of(*type, where), where));
    return nullable(o, typed(o, implied_type(o), where));
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
    for (const char* word : {"properties", "required", "additionalProperties"}) {
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
    static const std::set<std::string_view> kAnnotations = {
        "title",    "description", "default",  "examples",  "example", "$schema", "$id",
        "$comment", "deprecated",  "readOnly", "writeOnly", "$anchor", "strict",  "name"};
    for (const auto& [key, value] : o) {
      if (!kKnown.contains(key) && !kAnnotations.contains(key))
        fail(where,
             fmt::format("the keyword '{}' is not supported", std::string_view(key).substr(0, 60)));
    }
  }

  ExpressionPtr reference(const Json& ref, const std::string& where) {
    if (!ref.is_string() || !std::string_view(ref.get_string()).starts_with("#"))
      fail(where + "/$ref", "only references into this schema are read: #/$defs/...");
    const std::string target(ref.get_string());
    const auto known = references_.find(target);
    if (known != references_.end()) return rule(known->second);
    const uint32_t made = new_rule();
    references_[target] = made;  // before it is read: it may name itself
    boost::system::error_code error;
    const Json* there = target == "#" ? &root_ : root_.find_pointer(target.substr(1), error);
    if (there == nullptr)
      fail(where + "/$ref", fmt::format("there is nothing at {}", target.substr(0, 100)));
    const int depth = std::exchange(depth_, 0);
    if (references_.size() > kReferencesMax) fail(where, "it has too many references");
    ExpressionPtr body = schema(*there, target);
    depth_ = depth;
    rules_[made] = std::move(body);
    return rule(made);
  }

  ExpressionPtr enumeration(const Json& values, const std::string& where) {
    if (!values.is_array() || values.get_array().empty())
      fail(where + "/enum", "it has to be a list of at least one value");
    std::vector<ExpressionPtr> parts;
    for (const Json& value : values.get_array())
      parts.push_back(literal(boost::json::serialize(value)));
    return choice(std::move(parts));
  }

  ExpressionPtr any_of(const JsonObject& o, const Json& list, const std::string& where) {
    if (!list.is_array() || list.get_array().empty())
      fail(where, "it has to be a list of at least one schema");
    for (const auto& [key, value] : o) {
      if (key == "type" || key == "properties" || key == "required" || key == "items" ||
          key == "allOf" || key == "additionalProperties")
        fail(where,
             fmt::format("'{}' beside it is not supported: write it into each of its schemas",
                         std::string_view(key)));
    }
    std::vector<ExpressionPtr> parts;
    for (size_t i = 0; i < list.get_array().size(); ++i)
      parts.push_back(schema(list.get_array()[i], fmt::format("{}/{}", where, i)));
    return choice(std::move(parts));
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
      if (min > 0 || max != kUnbounded)
        fail(where, "pattern together with a length is not supported");
      return string_of(pattern_of(std::string(pattern->get_string()), where + "/pattern"));
    }
    if (format != nullptr && format->is_string()) {
      static const std::map<std::string_view, const char*> kFormats = {
          {"date", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"},
          {"time",
           "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5]"
           "[0-9])?"},
          {"date-time",
           "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5]["
           "0-9]"
           "(\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
          {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
          {"email", "[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\\.[A-Za-z0-9-]{1,63}){1,8}"},
          {"ipv4",
           "((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"},
          {"uri", "[a-z][a-z0-9+.-]{0,20}://[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,2000}"}};
      const auto known = kFormats.find(std::string_view(format->get_string()));
      if (known == kFormats.end())
        fail(where + "/format",
             fmt::format("'{}' is not supported", std::string_view(format->get_string())));
      return string_of(parse_regex_expression(known->second));
    }
    if (max < min) fail(where, "maxLength is below minLength");
    return string_of(repeat(string_character(), min, max));
  }

  // A pattern is about the string, not about how JSON writes it: characters that JSON escapes are
  // refused where the pattern names them. Patterns that are not anchored match anywhere.
  ExpressionPtr pattern_of(std::string pattern, const std::string& where) {
    const bool from_start = pattern.starts_with("^");
    const bool to_end = pattern.ends_with("$") && !pattern.ends_with("\\$");
    try {
      ExpressionPtr inside = escaped_as_json(*parse_regex_expression(pattern), where);
      const ExpressionPtr anything = repeat(string_character(), 0, kUnbounded);
      std::vector<ExpressionPtr> parts;
      if (!from_start) parts.push_back(anything);
      parts.push_back(std::move(inside));
      if (!to_end) parts.push_back(anything);
      return sequence(std::move(parts));
    } catch (const GrammarError& e) {
      fail(where, e.message);
    }
  }

  // The same language with each character as it stands in a JSON string.
  ExpressionPtr escaped_as_json(const Expression& e, const std::string& where) {
    std::vector<ExpressionPtr> parts;
    switch (e.kind) {
      case Expression::Kind::kLiteral: {
        std::string text = boost::json::serialize(boost::json::value(e.text));
        return literal(text.substr(1, text.size() - 2));
      }
      case Expression::Kind::kClass: {
        // Those that need no escape, and the short escapes of those that do.
        std::vector<CodeRange> plain;
        const std::pair<char32_t, const char*> kShort[] = {
            {'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
            {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
        std::vector<ExpressionPtr> all;
        for (const CodeRange& r : e.ranges) {
          for (const auto& [c, escape] : kShort) {
            if (r.first <= c && c <= r.last) all.push_back(literal(escape));
          }
          for (const CodeRange allowed :
               {CodeRange{0x20, 0x21}, CodeRange{0x23, 0x5B}, CodeRange{0x5D, 0x10FFFF}}) {
            const char32_t first = std::max(r.first, allowed.first),
                           last = std::min(r.last, allowed.last);
            if (first <= last) plain.push_back({first, last});
          }
        }
        if (!plain.empty()) all.push_back(one_of(std::move(plain)));
        if (all.empty()) fail(where, "a class has only characters that JSON strings do not have");
        return choice(std::move(all));
      }
      case Expression::Kind::kSequence:
      case Expression::Kind::kChoice:
      case Expression::Kind::kRepeat:
        for (const ExpressionPtr& part : e.parts) parts.push_back(escaped_as_json(*part, where));
        if (e.kind == Expression::Kind::kRepeat) return repeat(parts[0], e.min, e.max);
        return e.kind == Expression::Kind::kChoice ? choice(std::move(parts))
                                                   : sequence(std::move(parts));
      case Expression::Kind::kRule:
        break;
    }
    fail(where, "it is no regular expression");
  }

  // The bound as an integer; `otherwise` where there is none.
  static int64_t bound(const JsonObject& o, const char* word, int64_t otherwise,
                       const std::string& where) {
    const Json* value = o.if_contains(word);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) fail(where + "/" + word, "it has to be a number");
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
    for (const char* word : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
      if (o.contains(word)) fail(where + "/" + word, "bounds are supported for type integer only");
    }
    return any_number();
  }

  ExpressionPtr array(const JsonObject& o, const std::string& where) {
    const uint32_t min = count(o, "minItems", 0, where);
    const uint32_t max = count(o, "maxItems", kUnbounded, where);
    if (max < min) fail(where, "maxItems is below minItems");
    const Json* items = o.if_contains("items");
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
    std::vector<Property> all;
    if (properties != nullptr) {
      for (const auto& [name, property] : properties->get_object()) {
        const std::string key = boost::json::serialize(boost::json::value(name));
        all.push_back({sequence({literal(key), space(), literal(":"), space(),
                                 schema(property, where + "/properties/" + std::string(name))}),
                       required.contains(std::string(name))});
        required.erase(std::string(name));
      }
    }
    // Names that are required and not described may have any value.
    for (const std::string& name : required) {
      const std::string key = boost::json::serialize(boost::json::value(name));
      all.push_back(
          {sequence({literal(key), space(), literal(":"), space(), rule(any_value_)}), true});
    }
    const bool open = additional == nullptr ? all.empty() && properties == nullptr
                                            : !(additional->is_bool() && !additional->get_bool());
    ExpressionPtr others;
    if (open) {
      const ExpressionPtr value = additional == nullptr || additional->is_bool()
                                      ? rule(any_value_)
                                      : schema(*additional, where + "/additionalProperties");
      others = sequence({any_string(), space(), literal(":"), space(), value});
    }
    return sequence({literal("{"), space(), members(all, others), space(), literal("}")});
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
  const Json& root_;
  std::vector<ExpressionPtr> rules_;
  uint32_t any_value_ = 0, any_object_ = 0;
  std::map<std::string, uint32_t> references_;
  int depth_ = 0;
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
