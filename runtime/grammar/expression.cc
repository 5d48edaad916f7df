#include "runtime/grammar/expression.h"

#include <algorithm>

namespace trireme::grammar {
namespace {

ExpressionPtr make(Expression e) { return std::make_shared<const Expression>(std::move(e)); }

}  // namespace

ExpressionPtr literal(std::string_view text) {
  Expression e;
  e.kind = Expression::Kind::kLiteral;
  e.text = text;
  return make(std::move(e));
}

ExpressionPtr one_of(std::vector<CodeRange> ranges) {
  Expression e;
  e.kind = Expression::Kind::kClass;
  e.ranges = std::move(ranges);
  return make(std::move(e));
}

ExpressionPtr none_of(std::vector<CodeRange> ranges) {
  ranges.push_back({0xD800, 0xDFFF});  // no characters
  std::sort(ranges.begin(), ranges.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.first < b.first; });
  std::vector<CodeRange> rest;
  char32_t next = 0;
  for (const CodeRange& r : ranges) {
    if (r.first > next) rest.push_back({next, r.first - 1});
    next = std::max<char32_t>(next, r.last + 1);
  }
  if (next <= 0x10FFFF) rest.push_back({next, 0x10FFFF});
  return one_of(std::move(rest));
}

ExpressionPtr sequence(std::vector<ExpressionPtr> parts) {
  if (parts.size() == 1) return parts[0];
  Expression e;
  e.kind = Expression::Kind::kSequence;
  e.parts = std::move(parts);
  return make(std::move(e));
}

ExpressionPtr choice(std::vector<ExpressionPtr> parts) {
  if (parts.size() == 1) return parts[0];
  Expression e;
  e.kind = Expression::Kind::kChoice;
  e.parts = std::move(parts);
  return make(std::move(e));
}

ExpressionPtr repeat(ExpressionPtr part, uint32_t min, uint32_t max) {
  Expression e;
  e.kind = Expression::Kind::kRepeat;
  e.parts.push_back(std::move(part));
  e.min = min;
  e.max = max;
  return make(std::move(e));
}

ExpressionPtr rule(uint32_t index) {
  Expression e;
  e.kind = Expression::Kind::kRule;
  e.rule = index;
  return make(std::move(e));
}

}  // namespace trireme::grammar
