#include <unordered_map>

#include "runtime/grammar/front_ends.h"
#include "runtime/grammar/text_reader.h"

namespace trireme::grammar {
namespace {

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : in_(text) { index_of("root"); }

  Grammar run() {
    for (blanks(true); !in_.done(); blanks(true)) definition();
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (rules_[i] == nullptr)
        throw GrammarError{i == 0 && names_.size() == 1
                               ? "it has no rule: define root ::= ..."
                               : fmt::format("the rule '{}' is not defined", name_of(i))};
    }
    Grammar grammar{rules_, std::vector<std::string>(rules_.size())};
    for (const auto& [name, i] : names_) grammar.names[i] = name;
    return grammar;
  }

 private:
  static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  }
  uint32_t index_of(const std::string& name) {
    const auto [it, is_new] = names_.emplace(name, static_cast<uint32_t>(rules_.size()));
    if (is_new) rules_.emplace_back();
    return it->second;
  }
  std::string name_of(size_t index) const {
    for (const auto& [name, i] : names_) {
      if (i == index) return name;
    }
    return {};
  }

  // Blanks and comments; `lines`: newlines too.
  void blanks(bool lines) {
    for (;;) {
      const char c = in_.peek();
      if (in_.done()) return;
      if (c == '#') {
        while (!in_.done() && in_.peek() != '\n') in_.character();
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        in_.character();
      } else {
        return;
      }
    }
  }

  std::string name() {
    std::string name;
    while (is_name(in_.peek())) name += static_cast<char>(in_.character());
    if (name.empty()) in_.fail("a rule's name is missing");
    return name;
  }

  void definition() {
    const std::string rule_name = name();
    blanks(false);
    if (!in_.take("::=")) in_.fail(fmt::format("'::=' is missing after '{}'", rule_name));
    blanks(true);
    const uint32_t index = index_of(rule_name);
    if (rules_[index] != nullptr)
      in_.fail(fmt::format("the rule '{}' is defined twice", rule_name));
    rules_[index] = alternatives(false);
    blanks(false);
    if (!in_.done() && in_.peek() != '\n' && in_.peek() != '\r')
      in_.fail("a rule ends with its line");
  }

  // `inside`: parentheses, where newlines are blanks.
  ExpressionPtr alternatives(bool inside) {
    const TextReader::Deeper deeper(in_);
    std::vector<ExpressionPtr> parts = {concatenation(inside)};
    while (in_.take("|")) {
      blanks(true);
      parts.push_back(concatenation(inside));
    }
    return choice(std::move(parts));
  }

  ExpressionPtr concatenation(bool inside) {
    std::vector<ExpressionPtr> parts;
    for (;;) {
      blanks(inside);
      const char c = in_.peek();
      if (c == '"') {
        parts.push_back(string());
      } else if (c == '[') {
        parts.push_back(character_class());
      } else if (c == '(') {
        in_.character();
        blanks(true);
        parts.push_back(alternatives(true));
        if (!in_.take(")")) in_.fail("')' is missing");
      } else if (c == '.') {
        in_.character();
        parts.push_back(none_of({}));
      } else if (is_name(c)) {
        parts.push_back(rule(index_of(name())));
      } else {
        // A rule may go on in the next line after a '|' there.
        if (!inside) continue_after_newline();
        return sequence(std::move(parts));
      }
      quantifiers(parts.back());
    }
  }

  void continue_after_newline() {
    const size_t before = in_.place();
    blanks(true);
    if (in_.peek() != '|') in_.go_to(before);
  }

  void quantifiers(ExpressionPtr& part) {
    for (int nested = 0;; ++nested) {
      if (nested > kQuantifiersMax) in_.fail("it has too many quantifiers in a row");
      if (in_.take("*")) {
        part = repeat(part, 0, kUnbounded);
      } else if (in_.take("+")) {
        part = repeat(part, 1, kUnbounded);
      } else if (in_.take("?")) {
        part = repeat(part, 0, 1);
      } else if (in_.take("{")) {
        const auto [min, max] = in_.bounds();
        part = repeat(part, min, max);
      } else {
        return;
      }
    }
  }

  char32_t escaped() {
    const char32_t c = in_.character();
    if (c != '\\') return c;
    if (in_.done()) in_.fail("an escape has no end");
    const char32_t e = in_.character();
    switch (e) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return in_.hexadecimal(2);
      case 'u':
        return in_.hexadecimal(4);
      case 'U':
        return in_.hexadecimal(8);
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return e;
      default:
        in_.fail("an escape is not known");
    }
  }

  ExpressionPtr string() {
    in_.character();
    std::string text;
    while (!in_.done() && in_.peek() != '"') append_utf8(escaped(), text);
    if (!in_.take("\"")) in_.fail("a string has no end");
    return literal(text);
  }

  ExpressionPtr character_class() {
    in_.character();
    const bool negated = in_.take("^");
    std::vector<CodeRange> ranges;
    while (!in_.done() && in_.peek() != ']') {
      const char32_t first = escaped();
      char32_t last = first;
      if (in_.peek() == '-' && in_.peek(1) != ']') {
        in_.character();
        last = escaped();
      }
      if (last < first) in_.fail("a range of a class runs backwards");
      ranges.push_back({first, last});
    }
    if (!in_.take("]")) in_.fail("a class has no end");
    if (!negated && ranges.empty()) in_.fail("a class is empty");
    return negated ? none_of(std::move(ranges)) : one_of(std::move(ranges));
  }

  static constexpr int kQuantifiersMax = 16;
  TextReader in_;
  std::unordered_map<std::string, uint32_t> names_;
  std::vector<ExpressionPtr> rules_;
};

}  // namespace

Grammar parse_gbnf(std::string_view text) { return GbnfParser(text).run(); }

}  // namespace trireme::grammar
