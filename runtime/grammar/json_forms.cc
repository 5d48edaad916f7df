#include "runtime/grammar/json_forms.h"

#include <algorithm>

#include <boost/json/serialize.hpp>

#include "runtime/grammar/front_ends.h"

namespace trireme::grammar {
namespace {

ExpressionPtr digits(uint32_t min, uint32_t max) { return repeat(one_of({{'0', '9'}}), min, max); }

ExpressionPtr hex_digits(uint32_t count) {
  return repeat(one_of({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}), count, count);
}
// \uXXXX: a character, or the two halves of one beyond U+FFFF; never half of one.
ExpressionPtr unicode_escape() {
  const ExpressionPtr d = one_of({{'d', 'd'}, {'D', 'D'}});
  const ExpressionPtr single =
      choice({sequence({one_of({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}),
                        hex_digits(3)}),
              sequence({d, one_of({{'0', '7'}}), hex_digits(2)})});
  const ExpressionPtr pair =
      sequence({d, one_of({{'8', '9'}, {'a', 'b'}, {'A', 'B'}}), hex_digits(2), literal("\\u"), d,
                one_of({{'c', 'f'}, {'C', 'F'}}), hex_digits(2)});
  return sequence({literal("u"), choice({single, pair})});
}

// The integers from `low` to `high`, both of as many digits, without sign.
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

// What may follow the point of a number.
constexpr uint32_t kFractionMax = 6;
ExpressionPtr point(ExpressionPtr after) { return sequence({literal("."), std::move(after)}); }

// low <= x <= high without the ends that are not included; neither has a sign.
ExpressionPtr magnitude_range(NumberRange r) {
  std::vector<ExpressionPtr> parts;
  const ExpressionPtr any = point(digits(1, kFractionMax));
  const ExpressionPtr zeros = point(repeat(literal("0"), 1, kFractionMax));
  std::vector<ExpressionPtr> above;  // a digit that is not 0, after so many that are
  for (uint32_t n = 0; n < kFractionMax; ++n)
    above.push_back(sequence(
        {repeat(literal("0"), n, n), one_of({{'1', '9'}}), digits(0, kFractionMax - 1 - n)}));
  const ExpressionPtr low = literal(std::to_string(r.low));
  if (r.low_included) parts.push_back(sequence({low, optional(r.low < r.high ? any : zeros)}));
  if (r.low == r.high) return choice(std::move(parts));
  if (!r.low_included) parts.push_back(sequence({low, point(choice(above))}));
  if (r.low + 1 < r.high)
    parts.push_back(sequence({natural_range(r.low + 1, r.high - 1), optional(any)}));
  if (r.high_included)
    parts.push_back(sequence({literal(std::to_string(r.high)), optional(zeros)}));
  return choice(std::move(parts));
}

}  // namespace

// White space between tokens: nothing, a blank, or a line break with some indentation.
ExpressionPtr space() {
  static const ExpressionPtr made = optional(
      choice({literal(" "),
              sequence({literal("\n"), repeat(one_of({{' ', ' '}, {'\t', '\t'}}), 0, 20)})}));
  return made;
}

ExpressionPtr string_character() {
  static const ExpressionPtr made = choice({none_of({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}),
                                            sequence({literal("\\"), choice({one_of({{'"', '"'},
                                                                                     {'\\', '\\'},
                                                                                     {'/', '/'},
                                                                                     {'b', 'b'},
                                                                                     {'f', 'f'},
                                                                                     {'n', 'n'},
                                                                                     {'r', 'r'},
                                                                                     {'t', 't'}}),
                                                                             unicode_escape()})})});
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
                                   optional(one_of({{'+', '+'}, {'-', '-'}})), digits(1, 2)}))});
  return made;
}

ExpressionPtr integer_range(int64_t low, int64_t high) {
  std::vector<ExpressionPtr> parts;
  if (low < 0)
    parts.push_back(sequence(
        {literal("-"), natural_range(std::max<int64_t>(-std::min<int64_t>(high, -1), 1), -low)}));
  if (high >= 0) parts.push_back(natural_range(std::max<int64_t>(low, 0), high));
  return choice(std::move(parts));
}

ExpressionPtr number_range(NumberRange r) {
  std::vector<ExpressionPtr> parts;
  const bool zero_below_high = r.high > 0 || (r.high == 0 && r.high_included);
  const bool zero_above_low = r.low < 0 || (r.low == 0 && r.low_included);
  if (r.low < 0) {
    NumberRange m{r.high < 0 ? -r.high : 0, -r.low, r.high < 0 ? r.high_included : zero_below_high,
                  r.low_included};
    parts.push_back(sequence({literal("-"), magnitude_range(m)}));
  }
  if (r.high > 0 || (zero_below_high && zero_above_low)) {
    NumberRange m{r.low > 0 ? r.low : 0, r.high, r.low > 0 ? r.low_included : zero_above_low,
                  r.high_included};
    parts.push_back(magnitude_range(m));
  }
  return choice(std::move(parts));
}

ExpressionPtr string_of_format(std::string_view format) {
  // Of every month as many days as it has.
  static const std::string kDate =
      "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
      "02-(0[1-9]|1[0-9]|2[0-8]))|"
      "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
  static const std::string kTime =
      "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"
      "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
  static const std::string kLabel = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  static const std::string kByte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  static const std::string kUriText = "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})";
  std::string pattern;
  if (format == "date") {
    pattern = kDate;
  } else if (format == "time") {
    pattern = kTime;
  } else if (format == "date-time") {
    pattern = kDate + "T" + kTime;
  } else if (format == "uuid") {
    pattern = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  } else if (format == "hostname") {
    pattern = kLabel + "(\\." + kLabel + "){0,3}";
  } else if (format == "email") {
    pattern = "[A-Za-z0-9_%+-]{1,32}(\\.[A-Za-z0-9_%+-]{1,15}){0,2}@" + kLabel + "(\\." + kLabel +
              "){1,3}";
  } else if (format == "ipv4") {
    pattern = kByte + "(\\." + kByte + "){3}";
  } else if (format == "uri") {
    pattern = "[a-z][a-z0-9+.-]{0,20}://" + kLabel + "(\\." + kLabel + "){0,7}(:[0-9]{1,4})?(/" +
              kUriText + "{0,1000})?(\\?" + kUriText + "{0,500})?(#" + kUriText + "{0,200})?";
  } else {
    return nullptr;
  }
  return string_of(parse_regex_expression(pattern));
}

ExpressionPtr escaped_as_json(const Expression& e) {
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
      if (all.empty()) throw GrammarError{"a class has only control characters"};
      return choice(std::move(all));
    }
    case Expression::Kind::kSequence:
    case Expression::Kind::kChoice:
    case Expression::Kind::kRepeat:
      for (const ExpressionPtr& part : e.parts) parts.push_back(escaped_as_json(*part));
      if (e.kind == Expression::Kind::kRepeat) return repeat(parts[0], e.min, e.max);
      return e.kind == Expression::Kind::kChoice ? choice(std::move(parts))
                                                 : sequence(std::move(parts));
    case Expression::Kind::kRule:
      break;
  }
  return rule(e.rule);
}

}  // namespace trireme::grammar
