// From what a request says to a grammar. All throw GrammarError: one sentence that says what is
// wrong and where. Their work and depth are bounded.
#pragma once

#include <string_view>

#include "kernels/base/json.h"
#include "runtime/grammar/expression.h"

namespace trireme::grammar {

// GBNF, llama.cpp's language: name ::= ..., with "literals", [classes], ( ), |, *, +, ?, {m,n}, '.'
// and # comments; the start is `root`.
Grammar parse_gbnf(std::string_view text);

// A regular expression that the whole output matches: literals, classes, \d \w \s and their
// opposites, ., groups, |, greedy and lazy quantifiers alike, ^ and $ at its ends, \xHH, \uHHHH.
// What is not regular (references, look-around, \b) is refused.
Grammar parse_regex(std::string_view text);
// `around`: what may stand before and after, where an outermost alternative is not anchored there;
// null: nothing.
ExpressionPtr parse_regex_expression(std::string_view text, const ExpressionPtr& around = nullptr);

// One of the strings of a JSON array.
Grammar parse_choice(std::string_view json);

// Any JSON object.
Grammar any_json_object();

// A JSON schema: what is read stands in the README of this folder; a keyword that is not enforced
// is refused, never ignored, but for annotations.
Grammar parse_json_schema(std::string_view json);

}  // namespace trireme::grammar
