// The parts that JSON texts are made of, as expressions. Pure functions; they throw GrammarError.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/grammar/expression.h"

namespace trireme::grammar {

// White space between tokens: nothing, a blank, or a line break with some indentation.
ExpressionPtr space();

// One character as strings hold it: itself, a short escape, \uXXXX.
ExpressionPtr string_character();
ExpressionPtr string_of(ExpressionPtr inside);
ExpressionPtr any_string();
// A string of a format of JSON Schema; null: the format is not known.
ExpressionPtr string_of_format(std::string_view format);
// The same language with each character as it stands in a JSON string: itself, or the shortest
// escape. Rules stay as they are.
ExpressionPtr escaped_as_json(const Expression& e);

inline constexpr int64_t kIntegerMax = 999'999'999'999'999'999;  // of 18 digits
ExpressionPtr any_integer();
ExpressionPtr any_number();
// REQUIRES: -kIntegerMax <= low <= high <= kIntegerMax.
ExpressionPtr integer_range(int64_t low, int64_t high);

struct NumberRange {
  int64_t low = -kIntegerMax, high = kIntegerMax;
  bool low_included = true, high_included = true;
};
// Numbers without exponent and with at most 6 digits after the point.
// REQUIRES: low < high, or low == high and both are included.
ExpressionPtr number_range(NumberRange range);

}  // namespace trireme::grammar
