// What front ends (GBNF, regular expressions, JSON schemas) make: a grammar as expressions over
// code points and bytes, and the rules that name them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme::grammar {

struct Expression;
using ExpressionPtr = std::shared_ptr<const Expression>;

struct CodeRange {
  char32_t first = 0;
  char32_t last = 0;  // included
};

struct Expression {
  enum class Kind : uint8_t {
    kLiteral,   // text: these bytes
    kClass,     // ranges: one character of one of these
    kSequence,  // parts
    kChoice,    // parts, of which one
    kRepeat,    // parts[0], min to max times; max UINT32_MAX: without bound
    kRule,      // rule
  };
  Kind kind = Kind::kSequence;
  std::string text;
  std::vector<CodeRange> ranges;
  std::vector<ExpressionPtr> parts;
  uint32_t min = 0, max = 0;
  uint32_t rule = 0;
};

inline constexpr uint32_t kUnbounded = UINT32_MAX;

ExpressionPtr literal(std::string_view text);
ExpressionPtr one_of(std::vector<CodeRange> ranges);
// Any character but these.
ExpressionPtr none_of(std::vector<CodeRange> ranges);
ExpressionPtr sequence(std::vector<ExpressionPtr> parts);
ExpressionPtr choice(std::vector<ExpressionPtr> parts);
ExpressionPtr repeat(ExpressionPtr part, uint32_t min, uint32_t max);
ExpressionPtr rule(uint32_t index);
inline ExpressionPtr nothing() { return sequence({}); }
inline ExpressionPtr optional(ExpressionPtr part) { return repeat(std::move(part), 0, 1); }

// INVARIANT: rules[0] is the start. A null rule was named and not defined.
struct Grammar {
  std::vector<ExpressionPtr> rules;
  // Of the rules, for messages; may be shorter, and hold "" where a rule has no name of its own.
  std::vector<std::string> names = {};
};

// What is wrong with a grammar's text; does not leave this folder.
struct GrammarError {
  std::string message;
};

}  // namespace trireme::grammar
