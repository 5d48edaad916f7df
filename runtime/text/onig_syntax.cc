#include "runtime/text/onig_syntax.h"

#include <optional>
#include <vector>

#include <fmt/format.h>

#include "runtime/text/unicode_since_14.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr int kDepthMax = 64;
constexpr size_t kPatternBytesMax = 64 * 1024;
constexpr size_t kRewrittenBytesMax = 1024 * 1024;

constexpr std::string_view kSpaceSet =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
constexpr std::string_view kHexSet = "0-9A-Fa-f";

struct Category {
  std::string_view name;  // lower case, without '_', '-' and spaces
  std::string_view code;
};
constexpr Category kCategories[] = {{"letter", "L"},
                                    {"uppercaseletter", "Lu"},
                                    {"lowercaseletter", "Ll"},
                                    {"titlecaseletter", "Lt"},
                                    {"modifierletter", "Lm"},
                                    {"otherletter", "Lo"},
                                    {"mark", "M"},
                                    {"combiningmark", "M"},
                                    {"nonspacingmark", "Mn"},
                                    {"spacingmark", "Mc"},
                                    {"enclosingmark", "Me"},
                                    {"number", "N"},
                                    {"decimalnumber", "Nd"},
                                    {"letternumber", "Nl"},
                                    {"othernumber", "No"},
                                    {"punctuation", "P"},
                                    {"connectorpunctuation", "Pc"},
                                    {"dashpunctuation", "Pd"},
                                    {"openpunctuation", "Ps"},
                                    {"closepunctuation", "Pe"},
                                    {"initialpunctuation", "Pi"},
                                    {"finalpunctuation", "Pf"},
                                    {"otherpunctuation", "Po"},
                                    {"symbol", "S"},
                                    {"mathsymbol", "Sm"},
                                    {"currencysymbol", "Sc"},
                                    {"modifiersymbol", "Sk"},
                                    {"othersymbol", "So"},
                                    {"separator", "Z"},
                                    {"spaceseparator", "Zs"},
                                    {"lineseparator", "Zl"},
                                    {"paragraphseparator", "Zp"},
                                    {"other", "C"},
                                    {"control", "Cc"},
                                    {"format", "Cf"},
                                    {"unassigned", "Cn"},
                                    {"privateuse", "Co"}};

// The general categories of each one-letter class, for the table of additions.
constexpr std::string_view kLeaves[] = {"lu", "ll", "lt", "lm", "lo", "mn", "mc", "me",
                                        "nd", "nl", "no", "pc", "pd", "ps", "pe", "pi",
                                        "pf", "po", "sm", "sc", "sk", "so", "cf"};

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string category_set(std::string_view code) {
  std::string set = fmt::format("\\p{{{}}}", code);
  if (code == "C" || code == "Cn") return set;
  for (const std::string_view leaf : kLeaves) {
    if (leaf[0] == lower(code[0]) && (code.size() == 1 || leaf[1] == code[1])) {
      set += unicode_since_14(leaf);
    }
  }
  return set;
}

std::string alphabetic_set() {
  return std::string("\\p{Alphabetic}").append(unicode_since_14("alphabetic"));
}

// What [\w] holds.
std::string word_set() {
  return alphabetic_set() + category_set("M") + category_set("Nd") + category_set("Pc");
}

// What \w, \W, \b and \B outside of brackets take for a word character: superscript and vulgar
// fractions of Latin-1 too, an oddity of Oniguruma's.
std::string bare_word_set() { return word_set() + "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"; }

// The content of a PCRE2 class for the property `name`, or nullopt where there is none such.
std::optional<std::string> property_set(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c == '_' || c == '-' || c == ' ') continue;
    if (!is_name_byte(c)) return std::nullopt;
    key.push_back(lower(c));
  }
  for (const Category& category : kCategories) {
    if (key == category.name) return category_set(category.code);
    if (key.size() == category.code.size() && key[0] == lower(category.code[0]) &&
        (key.size() == 1 || key[1] == category.code[1])) {
      return category_set(category.code);
    }
  }
  if (key == "alphabetic" || key == "alpha") return alphabetic_set();
  if (key == "uppercase" || key == "upper" || key == "lowercase") {
    const std::string_view row = key == "lowercase" ? "lowercase" : "uppercase";
    return fmt::format("\\p{{{}}}{}", row, unicode_since_14(row));
  }
  if (key == "lower") return property_set("lowercase");
  if (key == "whitespace" || key == "space") return std::string(kSpaceSet);
  if (key == "digit") return category_set("Nd");
  if (key == "alnum") return alphabetic_set() + category_set("Nd");
  if (key == "word") return word_set();
  if (key == "punct") return category_set("P") + category_set("S");
  if (key == "xdigit") return std::string(kHexSet);
  if (key == "cntrl") return std::string("\\p{Cc}");
  if (key == "blank") return std::string("\\p{Zs}\\x{9}");
  if (key == "ascii") return std::string("\\x{0}-\\x{7F}");
  if (key == "any") return std::string("\\x{0}-\\x{10FFFF}");
  if (key == "emoji" || key == "extendedpictographic") return fmt::format("\\p{{{}}}", key);
  if (key.empty()) return std::nullopt;
  return fmt::format("\\p{{sc:{}}}{}", key, unicode_since_14(key));  // or PCRE2 refuses it
}

void append_code_point(char32_t value, std::string& out) {
  if (value < 0x80 && is_name_byte(static_cast<char>(value))) {
    out.push_back(static_cast<char>(value));
  } else {
    out += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(value));
  }
}

// A set of characters. `items` is what stands between [ and ]; `atoms` are sets that do not fit
// there, each as an expression that matches one character.
struct Set {
  std::string items;
  std::vector<std::string> atoms;
  std::string expression() const {
    std::string all = items.empty() ? "" : fmt::format("[{}]", items);
    for (const std::string& atom : atoms) all += (all.empty() ? "" : "|") + atom;
    if (all.empty()) return "(?!)";
    return atoms.empty() || (items.empty() && atoms.size() == 1) ? all : fmt::format("(?:{})", all);
  }
};

std::string complement(const Set& set) {
  if (set.atoms.empty()) return fmt::format("[^{}]", set.items);
  return fmt::format("(?:(?!{})(?s:.))", set.expression());
}

// A recursive descent over the pattern. Functions return false after fail().
class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    std::string out;
    if (in_.size() > kPatternBytesMax) {
      return invalid_argument(fmt::format("a pattern of {} bytes is longer than the limit of {}",
                                          in_.size(), kPatternBytesMax));
    }
    bool good = alternatives(out, 0);
    if (good && at_ < in_.size()) good = fail("an unmatched ')'");
    if (!good) {
      return unimplemented(fmt::format("the pattern '{}' has {}, which is not supported",
                                       in_.substr(0, 200), error_));
    }
    return out;
  }

 private:
  bool fail(std::string what) {
    if (error_.empty()) error_ = std::move(what);
    return false;
  }
  bool more() const { return at_ < in_.size(); }
  bool next_is(std::string_view s) const { return in_.substr(at_).starts_with(s); }
  bool take(std::string_view s) {
    if (!next_is(s)) return false;
    at_ += s.size();
    return true;
  }
  char32_t take_code_point() {
    const CodePoint point = code_point_at(in_, at_);
    at_ += point.bytes;
    return point.value;
  }

  // sequence ('|' sequence)*, up to ')' or the end.
  bool alternatives(std::string& out, int depth) {
    if (depth > kDepthMax) return fail("groups nested too deep");
    while (true) {
      while (more() && !next_is("|") && !next_is(")")) {
        bool rest_of_group = false;
        if (!quantified(out, depth, rest_of_group)) return false;
        if (rest_of_group) return true;
      }
      if (!take("|")) return true;
      out.push_back('|');
    }
  }

  bool quantified(std::string& out, int depth, bool& rest_of_group) {
    std::string atom;
    bool repeatable = true;
    if (!one_atom(atom, repeatable, rest_of_group, depth)) return false;
    std::string quantifier;
    for (int repetitions = 0; take_quantifier(quantifier); ++repetitions) {
      if (!repeatable) return fail("a repeated assertion");
      if (repetitions == kDepthMax) return fail("too many repetitions of repetitions");
      if (repetitions > 0) atom = fmt::format("(?:{})", atom);
      atom += quantifier;
    }
    out += atom;
    return out.size() <= kRewrittenBytesMax || fail("too many sets");
  }

  // One of * + ? {n} {n,} {,m} {n,m}, with a lazy ? or a possessive + after it.
  bool take_quantifier(std::string& quantifier) {
    if (!more()) return false;
    const char c = in_[at_];
    if (c == '*' || c == '+' || c == '?') {
      ++at_;
      quantifier = c;
      if (take("?")) quantifier += '?';
      if (quantifier.size() == 1 && take("+")) quantifier += '+';
      return true;
    }
    if (c != '{') return false;
    size_t i = at_ + 1;
    const auto number = [&] {
      std::string digits;
      while (i < in_.size() && in_[i] >= '0' && in_[i] <= '9') digits.push_back(in_[i++]);
      return digits;
    };
    const std::string low = number();
    const bool comma = i < in_.size() && in_[i] == ',';
    if (comma) ++i;
    const std::string high = comma ? number() : low;
    if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) return false;
    at_ = i + 1;
    quantifier = comma ? fmt::format("{{{},{}}}", low.empty() ? "0" : low, high)
                       : fmt::format("{{{}}}", low);
    if (comma && take("?")) quantifier += '?';  // {n}? is not lazy but optional: the next round
    return true;
  }

  bool one_atom(std::string& out, bool& repeatable, bool& rest_of_group, int depth) {
    if (take("(")) return group(out, repeatable, rest_of_group, depth);
    if (take("[")) return set_atom(out, depth);
    if (take(".")) {
      out = ".";
      return true;
    }
    if (next_is("^") || next_is("$")) {
      repeatable = false;
      out = in_[at_++];
      return true;
    }
    if (take("\\")) return escape_atom(out, repeatable);
    if (next_is("*") || next_is("+") || next_is("?")) return fail("a repetition of nothing");
    append_code_point(take_code_point(), out);
    return true;
  }

  // After '('.
  bool group(std::string& out, bool& repeatable, bool& rest_of_group, int depth) {
    std::string open = "(?:";
    if (take("?")) {
      bool assertion = false;
      for (const std::string_view kind : {":", ">", "=", "!", "<=", "<!"}) {
        if (!take(kind)) continue;
        open = fmt::format("(?{}", kind);
        assertion = kind != ":" && kind != ">";
        repeatable = !assertion;
        return group_body(out, open, depth);
      }
      if (take("#")) {  // a comment
        const size_t end = in_.find(')', at_);
        if (end == std::string_view::npos) return fail("a comment without an end");
        at_ = end + 1;
        repeatable = false;
        return true;
      }
      if (!options(open)) return false;
      if (take(")")) {  // a(?i)b|c is a(?i:b|c)
        out = open + ":";
        if (!alternatives(out, depth + 1)) return false;
        out += ")";
        rest_of_group = true;
        repeatable = false;
        return true;
      }
      if (!take(":")) return fail("a group of an unknown kind");
      open += ":";
    } else if (next_is("*")) {
      return fail("a verb");
    }
    return group_body(out, open, depth);
  }

  bool group_body(std::string& out, std::string_view open, int depth) {
    out = open;
    if (!alternatives(out, depth + 1)) return false;
    if (!take(")")) return fail("a '(' without its ')'");
    out += ")";
    return true;
  }

  // The letters of (?im-i:. Ruby's m is PCRE2's s.
  bool options(std::string& open) {
    open = "(?";
    while (more() && !next_is(":") && !next_is(")")) {
      const char c = in_[at_++];
      if (c == 'i' || c == '-') {
        open.push_back(c);
      } else if (c == 'm') {
        open.push_back('s');
      } else {
        return fail(fmt::format("a group that begins with '(?{}'", c));
      }
    }
    return more() || fail("a '(' without its ')'");
  }

  // The set that the letter after a backslash stands for.
  static std::optional<std::string> set_of_letter(char letter) {
    switch (lower(letter)) {
      case 's':
        return std::string(kSpaceSet);
      case 'w':
        return word_set();
      case 'd':
        return category_set("Nd");
      case 'h':
        return std::string(kHexSet);
      default:
        return std::nullopt;
    }
  }

  // \p{Name}, \P{Name}, \p{^Name}: at the brace.
  bool property(std::string& items, bool& negative) {
    if (!take("{")) return fail("\\p without a name in braces");
    if (take("^")) negative = !negative;
    const size_t end = in_.find('}', at_);
    if (end == std::string_view::npos) return fail("\\p without a name in braces");
    const std::string_view name = in_.substr(at_, end - at_);
    at_ = end + 1;
    const std::optional<std::string> set = property_set(name);
    if (!set) return fail(fmt::format("the property '{}'", name));
    items = *set;
    return true;
  }

  // An escape that stands for one character: after the backslash. False without an error: it does
  // not.
  bool escape_code_point(char32_t& value) {
    if (!more()) return fail("a '\\' at the end");
    const size_t before = at_;
    const char32_t c = take_code_point();
    constexpr std::string_view kLetters = "tnrfvae";
    constexpr std::string_view kValues = "\t\n\r\f\v\a\x1B";
    if (c < 0x80 && kLetters.find(static_cast<char>(c)) != std::string_view::npos) {
      value = static_cast<char32_t>(kValues[kLetters.find(static_cast<char>(c))]);
      return true;
    }
    if (c == 'x' || c == 'u') return hex(c == 'x' ? 2 : 4, c == 'x', value);
    if (c == '0') {
      value = 0;
      for (int i = 0; i < 2 && more() && in_[at_] >= '0' && in_[at_] <= '7'; ++i) {
        value = value * 8 + static_cast<char32_t>(in_[at_++] - '0');
      }
      return true;
    }
    if (c < 0x80 && is_name_byte(static_cast<char>(c))) {
      at_ = before;
      return false;
    }
    value = c;
    return true;
  }

  // \x41, \x{1F600}, \u00E9.
  bool hex(size_t digits_max, bool braces_allowed, char32_t& value) {
    const bool braces = braces_allowed && take("{");
    if (braces) digits_max = 8;
    size_t digits = 0;
    value = 0;
    for (; digits < digits_max && more(); ++digits) {
      const char c = lower(in_[at_]);
      if (c >= '0' && c <= '9') {
        value = value * 16 + static_cast<char32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        value = value * 16 + static_cast<char32_t>(c - 'a' + 10);
      } else {
        break;
      }
      ++at_;
    }
    const bool scalar = value < 0xD800 || (value > 0xDFFF && value <= 0x10FFFF);
    const bool byte_of_a_character = !braces && braces_allowed && value >= 0x80;
    if (digits == 0 || (braces && !take("}")) || !scalar || byte_of_a_character) {
      return fail("a hexadecimal escape that is not a character");
    }
    return true;
  }

  bool escape_atom(std::string& out, bool& repeatable) {
    char32_t value = 0;
    if (escape_code_point(value)) {
      append_code_point(value, out);
      return true;
    }
    if (!error_.empty()) return false;
    const char letter = in_[at_++];
    if (lower(letter) == 'w') {
      out = fmt::format("[{}{}]", letter == 'w' ? "" : "^", bare_word_set());
      return true;
    }
    if (const auto set = set_of_letter(letter)) {
      out = fmt::format("[{}{}]", lower(letter) == letter ? "" : "^", *set);
      return true;
    }
    if (letter == 'p' || letter == 'P') {
      std::string items;
      bool negative = letter == 'P';
      if (!property(items, negative)) return false;
      out = fmt::format("[{}{}]", negative ? "^" : "", items);
      return true;
    }
    if (letter == 'R') {
      out = "(?>\\x{D}\\x{A}|[\\x{A}-\\x{D}\\x{85}\\x{2028}\\x{2029}])";
      return true;
    }
    if (letter == 'N') {
      out = "[^\\x{A}]";
      return true;
    }
    if (letter == 'b' || letter == 'B') {
      const std::string word = fmt::format("[{}]", bare_word_set());
      out = letter == 'b' ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                          : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
    } else if (letter == 'A' || letter == 'z' || letter == 'Z') {
      out = fmt::format("\\{}", letter);
    } else {
      return fail(fmt::format("the escape '\\{}'", letter));
    }
    repeatable = false;
    return true;
  }

  bool set_atom(std::string& out, int depth) {
    Set set;
    bool negative = false;
    if (!set_body(set, negative, depth + 1)) return false;
    out = negative ? complement(set) : set.expression();
    return true;
  }

  // After '['. The terms of a && b are kept apart until the ']'.
  bool set_body(Set& result, bool& negative, int depth) {
    if (depth > kDepthMax) return fail("sets nested too deep");
    negative = take("^");
    std::vector<Set> terms(1);
    bool first = true;
    while (true) {
      if (!more()) return fail("a '[' without its ']'");
      if (next_is("]") && !(first && in_.find(']', at_ + 1) != std::string_view::npos)) break;
      first = false;
      if (take("&&")) {
        terms.emplace_back();
      } else if (!set_item(terms.back(), depth)) {
        return false;
      }
    }
    ++at_;
    if (terms.size() == 1) {
      result = std::move(terms[0]);
      if (result.items.empty() && result.atoms.empty()) return fail("an empty set");
      return true;
    }
    std::string all = "(?:";
    for (size_t i = 1; i < terms.size(); ++i) all += fmt::format("(?={})", terms[i].expression());
    result.atoms = {all + terms[0].expression() + ")"};
    return true;
  }

  bool set_item(Set& set, int depth) {
    if (take("[:")) {
      const bool negative = take("^");
      const size_t end = in_.find(":]", at_);
      if (end == std::string_view::npos) return fail("a '[:' without its ':]'");
      const std::string_view name = in_.substr(at_, end - at_);
      at_ = end + 2;
      if (name == "graph" || name == "print") return fail(fmt::format("the set '[:{}:]'", name));
      const std::optional<std::string> items = property_set(name);
      if (!items) return fail(fmt::format("the set '[:{}:]'", name));
      add(set, *items, negative);
      return true;
    }
    if (take("[")) {
      Set inner;
      bool negative = false;
      if (!set_body(inner, negative, depth + 1)) return false;
      if (negative) {
        set.atoms.push_back(complement(inner));
      } else {
        set.items += inner.items;
        set.atoms.insert(set.atoms.end(), inner.atoms.begin(), inner.atoms.end());
      }
      return set.atoms.size() < 256 || fail("a set of too many parts");
    }
    char32_t low = 0;
    bool is_set = false;
    if (!set_member(set, low, is_set)) return false;
    if (is_set) return true;
    char32_t high = low;
    if (next_is("-") && !next_is("-]") && !next_is("-[") && !next_is("-&&")) {
      ++at_;
      bool high_is_set = false;
      Set other;
      if (!set_member(other, high, high_is_set)) return false;
      if (high_is_set) return fail("a range that ends with a set");
      if (high < low) return fail("a range whose end lies before its beginning");
    }
    append_code_point(low, set.items);
    if (high != low) {
      set.items.push_back('-');
      append_code_point(high, set.items);
    }
    return true;
  }

  // One character, or a set written as an escape (which is added to `set`).
  bool set_member(Set& set, char32_t& value, bool& is_set) {
    if (!more()) return fail("a '[' without its ']'");
    if (!take("\\")) {
      value = take_code_point();
      return true;
    }
    if (next_is("b")) {
      ++at_;
      value = '\b';
      return true;
    }
    if (escape_code_point(value)) return true;
    if (!error_.empty()) return false;
    is_set = true;
    const char letter = in_[at_++];
    bool negative = lower(letter) != letter;
    if (const auto items = set_of_letter(letter)) {
      add(set, *items, negative);
      return true;
    }
    if (letter != 'p' && letter != 'P') return fail(fmt::format("the escape '\\{}'", letter));
    std::string items;
    if (!property(items, negative)) return false;
    add(set, items, negative);
    return true;
  }

  static void add(Set& set, const std::string& items, bool negative) {
    if (negative) {
      set.atoms.push_back(fmt::format("[^{}]", items));
    } else {
      set.items += items;
    }
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string error_;
};

}  // namespace

Result<std::string> pcre2_from_onig(std::string_view pattern) {
  // DeepSeek's. From each place of a run of n spaces that does not end a line it takes n steps to
  // fail. Only the first place can match: after it, a match would have been part of a longer one.
  if (pattern == "\\s+$") return fmt::format("(?<![{0}])[{0}]+$", kSpaceSet);
  return Rewriter(pattern).run();
}

}  // namespace trireme
