#include "runtime/chat/jinja/strings.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <utf8proc.h>

#include "runtime/chat/jinja/arguments.h"
#include "runtime/chat/jinja/builtins.h"
#include "runtime/text/utf8.h"

namespace trireme::jinja {

// Each character by itself, as Unicode's simple mappings have it.
std::string map_case(const std::string& s, bool upper) {
  std::string out;
  out.reserve(s.size());
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = code_point_at(s, i);
    const auto value = static_cast<utf8proc_int32_t>(c.value);
    append_utf8(static_cast<char32_t>(upper ? utf8proc_toupper(value) : utf8proc_tolower(value)),
                out);
    i += c.bytes;
  }
  return out;
}
bool is_alpha(char c) {
  return (c & 0x80) != 0 || std::isalpha(static_cast<unsigned char>(c)) != 0;
}

std::string capitalized(const std::string& s) {
  if (s.empty()) return s;
  const size_t first = code_point_at(s, 0).bytes;
  return map_case(s.substr(0, first), true) + map_case(s.substr(first), false);
}
std::string titled(const std::string& s) {
  std::string out;
  bool start = true;
  for (size_t i = 0; i < s.size();) {
    const size_t bytes = code_point_at(s, i).bytes;
    const std::string c = s.substr(i, bytes);
    out += map_case(c, start);
    start = !is_alpha(c[0]);
    i += bytes;
  }
  return out;
}

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

Text stripped(const Text& t, const Value* chars, bool left, bool right) {
  const std::string set = chars == nullptr || chars->is_none() ? std::string(kWhiteSpace)
                                                               : text_of(*chars, "strip").str();
  const std::string& s = t.str();
  size_t begin = 0, end = s.size();
  if (left) begin = std::min(s.find_first_not_of(set), s.size());
  if (right) {
    const size_t last = s.find_last_not_of(set);
    end = last == std::string::npos ? begin : last + 1;
  }
  return t.sub(begin, end > begin ? end - begin : 0);
}

List split(const Text& t, const Value* separator, int64_t count, bool from_right) {
  List parts;
  const std::string& s = t.str();
  std::vector<std::pair<size_t, size_t>> ranges;
  if (separator == nullptr || separator->is_none()) {
    if (from_right && count >= 0) throw Failure{"rsplit with a count needs a separator"};
    size_t i = 0;
    for (;;) {
      i = s.find_first_not_of(kWhiteSpace, i);
      if (i == std::string::npos) break;
      size_t end = std::min(s.find_first_of(kWhiteSpace, i), s.size());
      if (count >= 0 && static_cast<int64_t>(ranges.size()) == count)
        end = s.find_last_not_of(kWhiteSpace) + 1;
      ranges.emplace_back(i, end);
      i = end;
      if (i >= s.size()) break;
    }
  } else {
    const std::string& sep = text_of(*separator, "split").str();
    if (sep.empty()) throw Failure{"split needs a separator that is not empty"};
    if (from_right) {
      size_t end = s.size();
      while (count < 0 || static_cast<int64_t>(ranges.size()) < count) {
        const size_t at = end < sep.size() ? std::string::npos : s.rfind(sep, end - sep.size());
        if (at == std::string::npos) break;
        ranges.emplace_back(at + sep.size(), end);
        end = at;
      }
      ranges.emplace_back(0, end);
      std::reverse(ranges.begin(), ranges.end());
    } else {
      size_t begin = 0;
      while (count < 0 || static_cast<int64_t>(ranges.size()) < count) {
        const size_t at = s.find(sep, begin);
        if (at == std::string::npos) break;
        ranges.emplace_back(begin, at);
        begin = at + sep.size();
      }
      ranges.emplace_back(begin, s.size());
    }
  }
  for (const auto& [begin, end] : ranges) parts.push_back(Value::text(t.sub(begin, end - begin)));
  return parts;
}

List split_lines(const Text& t, bool keep_ends) {
  List lines;
  const std::string& s = t.str();
  for (size_t begin = 0; begin < s.size();) {
    const size_t end = std::min(s.find_first_of("\n\r", begin), s.size());
    size_t next = std::min(end + 1, s.size());
    if (end + 1 < s.size() && s[end] == '\r' && s[end + 1] == '\n') next = end + 2;
    lines.push_back(Value::text(t.sub(begin, (keep_ends ? next : end) - begin)));
    begin = next;
  }
  return lines;
}

// Keeps what is the user's and what is not, piece by piece.
Text replaced(const Text& t, const Text& from, const Text& to, int64_t count) {
  const std::string& s = t.str();
  Text out;
  if (from.empty()) {
    const std::vector<size_t> at = character_offsets(s);
    for (size_t i = 0; i < at.size(); ++i) {
      if (count < 0 || static_cast<int64_t>(i) < count) out.append(to);
      if (i + 1 < at.size()) out.append(t.sub(at[i], at[i + 1] - at[i]));
    }
    return out;
  }
  size_t begin = 0;
  for (; count != 0; --count) {
    const size_t at = s.find(from.str(), begin);
    if (at == std::string::npos) break;
    out.append(t.sub(begin, at - begin));
    out.append(to);
    begin = at + from.size();
  }
  out.append(t.sub(begin, s.size() - begin));
  return out;
}

bool any_affix(const Value& affix, const std::string& s, bool start) {
  const List candidates = affix.is_list() ? affix.as_list() : List{affix};
  return std::any_of(candidates.begin(), candidates.end(), [&](const Value& v) {
    const std::string& a = text_of(v, start ? "startswith" : "endswith").str();
    return start ? s.starts_with(a) : s.ends_with(a);
  });
}

Value text_method(const Text& t, const std::string& name, Arguments& a) {
  const std::string& s = t.str();
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return Value::text(stripped(t, argument(a, 0, "chars"), name != "rstrip", name != "lstrip"));
  if (name == "split" || name == "rsplit")
    return Value::list(
        split(t, argument(a, 0, "sep"),
              argument_or(a, 1, "maxsplit", Value::integer(-1)).to_integer("maxsplit"),
              name == "rsplit"));
  if (name == "splitlines")
    return Value::list(
        split_lines(t, argument_or(a, 0, "keepends", Value::boolean(false)).truthy()));
  if (name == "startswith") return Value::boolean(any_affix(need(a, 0, name), s, true));
  if (name == "endswith") return Value::boolean(any_affix(need(a, 0, name), s, false));
  if (name == "replace")
    return Value::text(
        replaced(t, text_of(need(a, 0, name), name), text_of(need(a, 1, name), name),
                 argument_or(a, 2, "count", Value::integer(-1)).to_integer("count")));
  if (name == "upper") return Value::text(t.remade(map_case(s, true)));
  if (name == "lower") return Value::text(t.remade(map_case(s, false)));
  if (name == "title") return Value::text(t.remade(titled(s)));
  if (name == "capitalize") return Value::text(t.remade(capitalized(s)));
  if (name == "find" || name == "rfind" || name == "index") {
    const std::string& what = text_of(need(a, 0, name), name).str();
    const size_t at = name == "rfind" ? s.rfind(what) : s.find(what);
    if (at == std::string::npos && name == "index") throw Failure{"index: the string is not there"};
    if (at == std::string::npos) return Value::integer(-1);
    return Value::integer(static_cast<int64_t>(character_offsets(s.substr(0, at)).size()) - 1);
  }
  if (name == "count") {
    const std::string& what = text_of(need(a, 0, name), name).str();
    int64_t n = 0;
    if (what.empty()) return Value::integer(static_cast<int64_t>(character_offsets(s).size()));
    for (size_t at = s.find(what); at != std::string::npos; at = s.find(what, at + what.size()))
      ++n;
    return Value::integer(n);
  }
  if (name == "join") {
    Text out;
    const List items = items_of(need(a, 0, name));
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out.append(t);
      out.append(text_of(items[i], "join"));
    }
    return Value::text(std::move(out));
  }
  const auto all = [&](auto holds) {
    return Value::boolean(!s.empty() && std::all_of(s.begin(), s.end(), holds));
  };
  if (name == "isdigit") return all([](char c) { return c >= '0' && c <= '9'; });
  if (name == "isalpha") return all(is_alpha);
  if (name == "isalnum") return all([](char c) { return is_alpha(c) || (c >= '0' && c <= '9'); });
  if (name == "isspace")
    return all([](char c) { return kWhiteSpace.find(c) != std::string_view::npos; });
  if (name == "isupper" || name == "islower") {
    const std::string changed = name == "isupper" ? map_case(s, true) : map_case(s, false);
    return Value::boolean(changed == s && std::any_of(s.begin(), s.end(), is_alpha));
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string& affix = text_of(need(a, 0, name), name).str();
    if (name == "removeprefix" && s.starts_with(affix))
      return Value::text(t.sub(affix.size(), s.size()));
    if (name == "removesuffix" && s.ends_with(affix))
      return Value::text(t.sub(0, s.size() - affix.size()));
    return Value::text(t);
  }
  // format: {}, {0}, {name}
  Text out;
  size_t automatic = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if ((s[i] == '{' || s[i] == '}') && i + 1 < s.size() && s[i + 1] == s[i]) {
      out.append(t.sub(i++, 1));
      continue;
    }
    if (s[i] != '{') {
      out.append(t.sub(i, 1));
      continue;
    }
    const size_t end = s.find('}', i);
    if (end == std::string::npos) throw Failure{"format: a '{' is not closed"};
    const std::string field = s.substr(i + 1, end - i - 1);
    const bool index = !field.empty() && field.find_first_not_of("0123456789") == std::string::npos;
    const Value* v = field.empty() ? argument(a, automatic++, "")
                     : index       ? argument(a, std::stoul(field.substr(0, 9)), "")
                                   : argument(a, SIZE_MAX, field);
    if (v == nullptr) throw Failure{fmt::format("format has no value for '{{{}}}'", field)};
    out.append(v->to_text());
    i = end;
  }
  return Value::text(std::move(out));
}

bool is_text_method(std::string_view name) {
  static constexpr std::string_view kTextMethods[] = {
      "strip",    "lstrip",  "rstrip",  "split",        "rsplit",       "splitlines", "startswith",
      "endswith", "replace", "upper",   "lower",        "title",        "capitalize", "find",
      "rfind",    "index",   "count",   "join",         "isdigit",      "isalpha",    "isalnum",
      "isspace",  "isupper", "islower", "removeprefix", "removesuffix", "format"};
  return std::find(std::begin(kTextMethods), std::end(kTextMethods), name) !=
         std::end(kTextMethods);
}

}  // namespace trireme::jinja
