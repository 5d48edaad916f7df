#include <tuple>

#include "runtime/grammar/front_ends.h"
#include "runtime/grammar/text_reader.h"

namespace trireme::grammar {
namespace {

const std::vector<CodeRange> kDigits = {{'0', '9'}};
const std::vector<CodeRange> kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const std::vector<CodeRange> kSpace = {{'\t', '\r'}, {' ', ' '}};

class RegexParser {
 public:
  RegexParser(std::string_view text, const ExpressionPtr& around) : in_(text), around_(around) {}

  ExpressionPtr run() {
    ExpressionPtr all = alternatives();
    if (!in_.done()) in_.fail("')' closes nothing");
    return all;
  }

 private:
  ExpressionPtr alternatives() {
    const TextReader::Deeper deeper(in_);
    const bool outermost = ++nested_ == 1;
    std::vector<ExpressionPtr> parts;
    do {
      const bool from_start = outermost && in_.take("^");
      to_end_ = false;
      parts.push_back(concatenation());
      if (!outermost || around_ == nullptr) continue;
      if (!from_start) parts.back() = sequence({around_, parts.back()});
      if (!to_end_) parts.back() = sequence({parts.back(), around_});
    } while (in_.take("|"));
    --nested_;
    return choice(std::move(parts));
  }

  ExpressionPtr concatenation() {
    std::vector<ExpressionPtr> parts;
    while (!in_.done() && in_.peek() != '|' && in_.peek() != ')') {
      if (in_.peek() == '$') {
        in_.character();
        to_end_ = true;
        if (!in_.done() && !(nested_ == 1 && in_.peek() == '|'))
          in_.fail("'$' is only at the end: the whole output is matched anyway");
        break;
      }
      parts.push_back(atom());
      quantifiers(parts.back());
    }
    return sequence(std::move(parts));
  }

  void quantifiers(ExpressionPtr& part) {
    uint32_t min = 0, max = 0;
    if (in_.take("*")) {
      max = kUnbounded;
    } else if (in_.take("+")) {
      min = 1;
      max = kUnbounded;
    } else if (in_.take("?")) {
      max = 1;
    } else if (repeats()) {
      in_.take("{");
      std::tie(min, max) = in_.bounds();
    } else {
      return;
    }
    part = repeat(part, min, max);
    in_.take("?");  // lazy: the same language
    const char c = in_.peek();
    if (c == '*' || c == '+' || c == '?' || repeats())
      in_.fail("a quantifier follows a quantifier");
  }

  // {m}, {m,} or {m,n}; any other '{' is a character.
  bool repeats() const {
    size_t at = 1;
    const auto digits = [&] {
      const size_t begin = at;
      while (in_.peek(at) >= '0' && in_.peek(at) <= '9') ++at;
      return at > begin;
    };
    if (in_.peek() != '{' || !digits()) return false;
    if (in_.peek(at) == ',') {
      ++at;
      digits();
    }
    return in_.peek(at) == '}';
  }

  ExpressionPtr atom() {
    const char c = in_.peek();
    if (c == '(') return group();
    if (c == '[') return character_class();
    if (c == '*' || c == '+' || c == '?') in_.fail("a quantifier has nothing to repeat");
    if (c == '^') in_.fail("'^' is only at the start: the whole output is matched anyway");
    if (c == '.') {
      in_.character();
      return none_of({{'\n', '\n'}});
    }
    if (c == '\\') {
      std::vector<CodeRange> set;
      bool negated = false;
      const char32_t single = escape(set, negated);
      if (set.empty()) return character(single);
      return negated ? none_of(std::move(set)) : one_of(std::move(set));
    }
    return character(in_.character());
  }

  static ExpressionPtr character(char32_t c) {
    std::string text;
    append_utf8(c, text);
    return literal(text);
  }

  ExpressionPtr group() {
    in_.take("(");
    if (in_.take("?")) {
      if (in_.take("P<") ||
          (in_.starts("<") && in_.peek(1) != '=' && in_.peek(1) != '!' && in_.take("<"))) {
        while (!in_.done() && in_.peek() != '>') in_.character();
        if (!in_.take(">")) in_.fail("a group's name has no end");
      } else if (!in_.take(":")) {
        in_.fail("look-around and flags are not regular: leave them out");
      }
    }
    ExpressionPtr inner = alternatives();
    if (!in_.take(")")) in_.fail("')' is missing");
    return inner;
  }

  // After the backslash: a single character, or a set.
  char32_t escape(std::vector<CodeRange>& set, bool& negated) {
    in_.character();
    if (in_.done()) in_.fail("an escape has no end");
    const char32_t e = in_.character();
    switch (e) {
      case 'd':
      case 'D':
        set = kDigits;
        negated = e == 'D';
        return 0;
      case 'w':
      case 'W':
        set = kWord;
        negated = e == 'W';
        return 0;
      case 's':
      case 'S':
        set = kSpace;
        negated = e == 'S';
        return 0;
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case '0':
        return 0;
      case 'x':
        return in_.hexadecimal(2);
      case 'u':
        return in_.hexadecimal(4);
      default:
        break;
    }
    const bool letter = (e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z') || (e >= '1' && e <= '9');
    if (letter)
      in_.fail(
          fmt::format("'\\{}' is not supported: it is no part of a regular language, or not known",
                      static_cast<char>(e)));
    return e;
  }

  ExpressionPtr character_class() {
    in_.take("[");
    const bool negated = in_.take("^");
    std::vector<CodeRange> ranges;
    bool first_place = true;
    while (!in_.done() && (in_.peek() != ']' || first_place)) {
      first_place = false;
      std::vector<CodeRange> set;
      bool set_negated = false;
      const char32_t first = in_.peek() == '\\' ? escape(set, set_negated) : in_.character();
      if (!set.empty()) {
        if (set_negated) set = none_of(set)->ranges;
        ranges.insert(ranges.end(), set.begin(), set.end());
        continue;
      }
      char32_t last = first;
      if (in_.peek() == '-' && in_.peek(1) != ']' && in_.peek(1) != '\0') {
        in_.character();
        last = in_.peek() == '\\' ? escape(set, set_negated) : in_.character();
        if (!set.empty()) in_.fail("a range of a class ends with a set");
      }
      if (last < first) in_.fail("a range of a class runs backwards");
      ranges.push_back({first, last});
    }
    if (!in_.take("]")) in_.fail("a class has no end");
    return negated ? none_of(std::move(ranges)) : one_of(std::move(ranges));
  }

  TextReader in_;
  const ExpressionPtr around_;
  int nested_ = 0;
  bool to_end_ = false;  // a '$' ended what was read last
};

}  // namespace

ExpressionPtr parse_regex_expression(std::string_view text, const ExpressionPtr& around) {
  return RegexParser(text, around).run();
}
Grammar parse_regex(std::string_view text) { return {{parse_regex_expression(text)}}; }

Grammar parse_choice(std::string_view json) {
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) throw GrammarError{parsed.status().message()};
  if (!parsed->is_array() || parsed->get_array().empty())
    throw GrammarError{"it has to be a list of at least one string"};
  std::vector<ExpressionPtr> parts;
  for (const Json& entry : parsed->get_array()) {
    if (!entry.is_string()) throw GrammarError{"it has an entry that is no string"};
    parts.push_back(literal(std::string_view(entry.get_string())));
  }
  return {{choice(std::move(parts))}};
}

}  // namespace trireme::grammar
