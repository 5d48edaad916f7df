#include "runtime/grammar/front_ends.h"
#include "runtime/grammar/json_forms.h"
#include "runtime/grammar/schema_reader.h"

namespace trireme::grammar {

SchemaReader::SchemaReader(const Json& root) : root_(root) {
  rules_.emplace_back();  // the start
  any_value_ = new_rule();
  any_object_ = new_rule();
  any_text_ = new_rule();
  rules_[any_text_] = repeat(string_character(), 0, kUnbounded);
  const ExpressionPtr value = rule(any_value_);
  const ExpressionPtr pair = sequence({any_string(), space(), literal(":"), space(), value});
  rules_[any_object_] = listed("{", pair, 0, kUnbounded, "}");
  rules_[any_value_] =
      choice({rule(any_object_), listed("[", value, 0, kUnbounded, "]"), any_string(), any_number(),
              literal("true"), literal("false"), literal("null")});
}

Grammar SchemaReader::any_object() {
  rules_[0] = rule(any_object_);
  return {rules_};
}

Grammar SchemaReader::run() {
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

Grammar any_json_object() {
  const Json none;
  return SchemaReader(none).any_object();
}

Grammar parse_json_schema(std::string_view json) {
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) throw GrammarError{parsed.status().message()};
  return SchemaReader(*parsed).run();
}

}  // namespace trireme::grammar
