// From a JSON schema to rules, one schema after the other. schema_structure.cc: what schemas are
// made of; schema_values.cc: strings, numbers, arrays; schema_objects.cc: objects.
#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/grammar/expression.h"
#include "runtime/grammar/schema_keywords.h"

namespace trireme::grammar {

class SchemaReader {
 public:
  // `root` outlives it.
  explicit SchemaReader(const Json& root);

  // Once, one of them.
  Grammar any_object();
  Grammar run();

 private:
  struct Property {
    ExpressionPtr pair;
    bool required = false;
  };
  uint32_t new_rule() {
    rules_.emplace_back();
    return static_cast<uint32_t>(rules_.size() - 1);
  }

  ExpressionPtr schema(const Json& s, const std::string& where);
  ExpressionPtr one_schema(const Json& s, const std::string& where);
  // What stands alone, or by its type.
  ExpressionPtr one_form(const JsonObject& o, const std::string& where);
  static ExpressionPtr nullable(const JsonObject& o, ExpressionPtr made);
  ExpressionPtr reference(const Json& ref, const std::string& where);
  // Those of the values that `type` and `enum` beside them allow.
  ExpressionPtr enumeration(const JsonObject& o, const JsonArray& values, const std::string& where);
  ExpressionPtr any_of(const Json& list, const std::string& where);
  // One schema alone is itself, by its rule where it is a reference.
  ExpressionPtr all_of(const JsonObject& o, const Json& list, const std::string& where);
  // allOf of objects: their properties and requirements together.
  Json merged(const JsonObject& o, const Json& list, const std::string& where);
  ExpressionPtr typed(const JsonObject& o, const std::string& type, const std::string& where);

  ExpressionPtr string(const JsonObject& o, const std::string& where);
  // A pattern is about the string, not about how JSON writes it. Where it is not anchored anything
  // may stand.
  ExpressionPtr pattern_of(std::string_view pattern, const std::string& where);
  ExpressionPtr integer(const JsonObject& o, const std::string& where);
  ExpressionPtr number(const JsonObject& o, const std::string& where);
  // open item, item close
  ExpressionPtr listed(const char* open, const ExpressionPtr& item, uint32_t min, uint32_t max,
                       const char* close);
  ExpressionPtr array(const JsonObject& o, const std::string& where);
  // [first, second, ...]: all of the prefix, then items.
  ExpressionPtr tuple(const JsonObject&, const Json& prefix, const Json* items, uint32_t min,
                      uint32_t max, const std::string& where);

  ExpressionPtr object(const JsonObject& o, const std::string& where);
  // The pairs in the schema's order, those that are not required maybe left out; then others. A
  // rule per property for what may follow when nothing has been written yet, and one for when
  // something has.
  ExpressionPtr members(const std::vector<Property>& all, const ExpressionPtr& others);
  // Any string but these, each character in its shortest spelling, so that a name has only one.
  ExpressionPtr string_except(std::vector<std::string> names);
  // The rests of names with a common beginning of `at` bytes, sorted; one rule per character.
  ExpressionPtr except(std::span<const std::string> names, size_t at);
  // Properties whose names match the one pattern.
  ExpressionPtr pattern_object(const JsonObject& o, const std::string& where);

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

}  // namespace trireme::grammar
