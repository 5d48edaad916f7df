#include "runtime/chat/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <utf8proc.h>

#include "runtime/text/utf8.h"

namespace trireme::jinja {
namespace {

// An argument by place or by name.
const Value* argument(const Arguments& a, size_t place, std::string_view name) {
  if (place < a.positional.size()) return &a.positional[place];
  for (const auto& [key, value] : a.named) {
    if (key == name) return &value;
  }
  return nullptr;
}
Value argument_or(const Arguments& a, size_t place, std::string_view name, Value otherwise) {
  const Value* v = argument(a, place, name);
  return v == nullptr ? std::move(otherwise) : *v;
}
const Value& need(const Arguments& a, size_t place, std::string_view what) {
  if (place >= a.positional.size())
    throw Failure{fmt::format("{} needs {} more arguments", what, place + 1 - a.positional.size())};
  return a.positional[place];
}
const Text& text_of(const Value& v, std::string_view what) {
  if (!v.is_text()) throw Failure{fmt::format("{} needs a string, not {}", what, v.kind())};
  return v.as_text();
}

// ---- strings ----

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

constexpr std::string_view kTextMethods[] = {
    "strip",    "lstrip",  "rstrip",  "split",        "rsplit",       "splitlines", "startswith",
    "endswith", "replace", "upper",   "lower",        "title",        "capitalize", "find",
    "rfind",    "index",   "count",   "join",         "isdigit",      "isalpha",    "isalnum",
    "isspace",  "isupper", "islower", "removeprefix", "removesuffix", "format"};

Value key_text(const Dict& d, const std::string& key) {
  return Value::text(d.from_user ? Text::from_user(key) : Text(key));
}

Value dict_method(const Value& object, const std::string& name, Arguments& a) {
  const Dict& d = object.as_dict();
  if (name == "get") {
    const Value& key = need(a, 0, name);
    const Value* found = key.is_text() ? d.find(key.str()) : nullptr;
    return found != nullptr ? *found : argument_or(a, 1, "default", Value::none());
  }
  List out;
  for (const auto& [key, value] : d.entries) {
    if (name == "keys") out.push_back(key_text(d, key));
    if (name == "values") out.push_back(value);
    if (name == "items") out.push_back(Value::list({key_text(d, key), value}, true));
  }
  return Value::list(std::move(out));
}

Value list_method(const List& list, const std::string& name, Arguments& a) {
  const Value& what = need(a, 0, name);
  int64_t n = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].equals(what)) continue;
    if (name == "index") return Value::integer(static_cast<int64_t>(i));
    ++n;
  }
  if (name == "index") throw Failure{"index: the value is not in the list"};
  return Value::integer(n);
}

}  // namespace

Value method_of(const Value& object, const std::string& name) {
  const auto bound = [&](auto method) {
    return Value::callable(
        name, [object, name, method](Arguments& a) { return method(object, name, a); });
  };
  if (object.is_text()) {
    for (const std::string_view known : kTextMethods) {
      if (known == name)
        return bound([](const Value& o, const std::string& n, Arguments& a) {
          return text_method(o.as_text(), n, a);
        });
    }
  } else if (object.is_dict() && !object.is_namespace()) {
    if (name == "get" || name == "keys" || name == "values" || name == "items")
      return bound(dict_method);
  } else if (object.is_list() && (name == "index" || name == "count")) {
    return bound([](const Value& o, const std::string& n, Arguments& a) {
      return list_method(o.as_list(), n, a);
    });
  }
  return Value::undefined(name);
}

Value item_of(const Value& object, const Value& key) {
  if (object.is_undefined())
    throw Failure{fmt::format("'{}' is undefined", object.undefined_name())};
  if (object.is_dict()) {
    const Value* found = key.is_text() ? object.as_dict().find(key.str()) : nullptr;
    return found != nullptr ? *found : Value::undefined(key.to_text().str());
  }
  if (key.is_integer() || key.is_boolean()) {
    int64_t i = key.to_integer("an index");
    if (object.is_list()) {
      const auto size = static_cast<int64_t>(object.as_list().size());
      if (i < 0) i += size;
      if (i >= 0 && i < size) return object.as_list()[static_cast<size_t>(i)];
    } else if (object.is_text()) {
      const std::vector<size_t> at = character_offsets(object.str());
      const auto size = static_cast<int64_t>(at.size()) - 1;
      if (i < 0) i += size;
      if (i >= 0 && i < size) {
        const auto k = static_cast<size_t>(i);
        return Value::text(object.as_text().sub(at[k], at[k + 1] - at[k]));
      }
    }
  }
  return Value::undefined(key.to_text().str());
}

List items_of(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_list()) return value.as_list();
  List items;
  if (value.is_dict() && !value.is_namespace()) {
    for (const auto& [key, entry] : value.as_dict().entries)
      items.push_back(key_text(value.as_dict(), key));
    return items;
  }
  if (!value.is_text()) throw Failure{fmt::format("{} is nothing to loop over", value.kind())};
  const std::vector<size_t> at = character_offsets(value.str());
  for (size_t i = 0; i + 1 < at.size(); ++i)
    items.push_back(Value::text(value.as_text().sub(at[i], at[i + 1] - at[i])));
  return items;
}

Value slice_of(const Value& object, const Value& begin, const Value& end, const Value& step_value) {
  if (!object.is_list() && !object.is_text())
    throw Failure{fmt::format("{} cannot be sliced", object.kind())};
  const List items = items_of(object);
  const auto size = static_cast<int64_t>(items.size());
  const auto given = [](const Value& v) { return !v.is_undefined() && !v.is_none(); };
  const int64_t step = given(step_value) ? step_value.to_integer("a slice") : 1;
  if (step == 0) throw Failure{"the step of a slice is 0"};
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (!given(v)) return otherwise;
    int64_t i = v.to_integer("a slice");
    if (i < 0) i += size;
    return step > 0 ? std::clamp<int64_t>(i, 0, size) : std::clamp<int64_t>(i, -1, size - 1);
  };
  const int64_t from = bound(begin, step > 0 ? 0 : size - 1);
  const int64_t to = bound(end, step > 0 ? size : -1);
  List picked;
  for (int64_t i = from; step > 0 ? i < to : i > to; i += step)
    picked.push_back(items[static_cast<size_t>(i)]);
  if (object.is_list()) return Value::list(std::move(picked), object.is_tuple());
  Text text;
  for (const Value& v : picked) text.append(v.as_text());
  return Value::text(std::move(text));
}

bool contains(const Value& container, const Value& item) {
  if (container.is_text())
    return container.str().find(text_of(item, "in").str()) != std::string::npos;
  if (container.is_dict()) return item.is_text() && container.as_dict().find(item.str()) != nullptr;
  const List items = items_of(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& v) { return v.equals(item); });
}

// ---- tests ----

bool apply_test(const std::string& name, const Value& v, Arguments& a) {
  if (name == "defined") return !v.is_undefined();
  if (name == "undefined") return v.is_undefined();
  if (name == "none") return v.is_none();
  if (name == "string") return v.is_text();
  if (name == "mapping") return v.is_dict() && !v.is_namespace();
  if (name == "sequence") return v.is_list() || v.is_text() || (v.is_dict() && !v.is_namespace());
  if (name == "iterable")
    return v.is_list() || v.is_text() || (v.is_dict() && !v.is_namespace()) || v.is_undefined();
  if (name == "boolean") return v.is_boolean();
  if (name == "true") return v.is_boolean() && v.as_boolean();
  if (name == "false") return v.is_boolean() && !v.as_boolean();
  if (name == "integer") return v.is_integer();
  if (name == "float") return v.is_float();
  if (name == "number") return v.is_number();
  if (name == "callable") return v.is_callable();
  if (name == "odd") return v.to_integer("odd") % 2 != 0;
  if (name == "even") return v.to_integer("even") % 2 == 0;
  if (name == "divisibleby") {
    const int64_t n = need(a, 0, name).to_integer(name);
    if (n == 0) throw Failure{"divisibleby 0"};
    return v.to_integer(name) % n == 0;
  }
  if (name == "eq" || name == "equalto" || name == "==" || name == "sameas")
    return v.equals(need(a, 0, name));
  if (name == "ne" || name == "!=") return !v.equals(need(a, 0, name));
  if (name == "lt" || name == "lessthan") return v.less(need(a, 0, name));
  if (name == "gt" || name == "greaterthan") return need(a, 0, name).less(v);
  if (name == "le") return !need(a, 0, name).less(v);
  if (name == "ge") return !v.less(need(a, 0, name));
  if (name == "in") return contains(need(a, 0, name), v);
  if (name == "lower") return map_case(v.to_text().str(), false) == v.to_text().str();
  if (name == "upper") return map_case(v.to_text().str(), true) == v.to_text().str();
  throw Failure{fmt::format("there is no test '{}'", name)};
}

// ---- filters ----

namespace {

// "a.b" or 0: an attribute of each item.
Value attribute_of(const Value& item, const Value& path) {
  if (path.is_integer()) return item_of(item, path);
  Value value = item;
  const List parts = split(path.as_text(), nullptr, -1, false).empty() ? List{} : [&] {
    const Value dot = Value::text(".");
    return split(path.as_text(), &dot, -1, false);
  }();
  for (const Value& part : parts) {
    const bool index =
        !part.str().empty() && part.str().find_first_not_of("0123456789") == std::string::npos;
    value = item_of(value, index ? Value::integer(std::stol(part.str().substr(0, 9))) : part);
  }
  return value;
}

Value length_of(const Value& v) {
  if (v.is_undefined()) return Value::integer(0);
  if (v.is_list()) return Value::integer(static_cast<int64_t>(v.as_list().size()));
  if (v.is_dict()) return Value::integer(static_cast<int64_t>(v.as_dict().entries.size()));
  if (v.is_text())
    return Value::integer(static_cast<int64_t>(character_offsets(v.str()).size()) - 1);
  throw Failure{fmt::format("{} has no length", v.kind())};
}

Value sorted(const Value& input, Arguments& a, bool reverse_only) {
  List items = items_of(input);
  if (reverse_only) {
    std::reverse(items.begin(), items.end());
    return Value::list(std::move(items));
  }
  const bool reverse = argument_or(a, 0, "reverse", Value::boolean(false)).truthy();
  const bool exact = argument_or(a, 1, "case_sensitive", Value::boolean(false)).truthy();
  const Value* attribute = argument(a, 2, "attribute");
  const auto key = [&](const Value& v) {
    Value k = attribute == nullptr || attribute->is_none() ? v : attribute_of(v, *attribute);
    return !exact && k.is_text() ? Value::text(map_case(k.str(), false)) : k;
  };
  std::stable_sort(items.begin(), items.end(), [&](const Value& x, const Value& y) {
    return reverse ? key(y).less(key(x)) : key(x).less(key(y));
  });
  return Value::list(std::move(items));
}

Value dict_sorted(const Value& input, Arguments& a) {
  if (!input.is_dict()) throw Failure{"dictsort needs a dict"};
  const bool by_value = argument_or(a, 1, "by", Value::text("key")).to_text().str() == "value";
  Arguments none;
  List items = dict_method(input, "items", none).as_list();
  std::stable_sort(items.begin(), items.end(), [&](const Value& x, const Value& y) {
    const auto key = [&](const Value& v) {
      const Value& k = v.as_list()[by_value ? 1 : 0];
      return k.is_text() ? Value::text(map_case(k.str(), false)) : k;
    };
    return key(x).less(key(y));
  });
  return Value::list(std::move(items));
}

Text joined(const Value& input, const Text& separator, const Value* attribute) {
  Text out;
  const List items = items_of(input);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    out.append((attribute == nullptr ? items[i] : attribute_of(items[i], *attribute)).to_text());
  }
  return out;
}

Value json_filter(const Value& input, Arguments& a) {
  const Value indent = argument_or(a, 0, "indent", Value::none());
  const Value separators = argument_or(a, SIZE_MAX, "separators", Value::none());
  const bool one_line = indent.is_none();
  std::string item = one_line ? ", " : ",", key = ": ";
  if (separators.is_list() && separators.as_list().size() == 2) {
    item = separators.as_list()[0].to_text().str();
    key = separators.as_list()[1].to_text().str();
  }
  const int spaces =
      one_line ? -1 : static_cast<int>(std::clamp<int64_t>(indent.to_integer("indent"), 0, 16));
  const bool sort = argument_or(a, SIZE_MAX, "sort_keys", Value::boolean(false)).truthy();
  std::string text = to_json(input, spaces, sort, item, key);
  return Value::text(input.tainted() ? Text::from_user(std::move(text)) : Text(std::move(text)));
}

Value indented(const Value& input, Arguments& a) {
  const Value width = argument_or(a, 0, "width", Value::integer(4));
  const bool first = argument_or(a, 1, "first", Value::boolean(false)).truthy();
  const bool blank = argument_or(a, 2, "blank", Value::boolean(false)).truthy();
  const Text space = width.is_text() ? width.as_text()
                                     : Text(std::string(static_cast<size_t>(std::clamp<int64_t>(
                                                            width.to_integer("indent"), 0, 1000)),
                                                        ' '));
  const Text text = input.to_text();
  Text out;
  const std::string& s = text.str();
  for (size_t begin = 0, line = 0; begin <= s.size(); ++line) {
    const size_t end = std::min(s.find('\n', begin), s.size());
    const bool indent = line == 0 ? first : (blank || end > begin);
    if (indent) out.append(space);
    out.append(text.sub(begin, end + 1 - begin));
    begin = end + 1;
  }
  return Value::text(std::move(out));
}

// Python 3 rounds to the even neighbour; jinja's filter gives a float always.
Value rounded(const Value& input, Arguments& a) {
  const int64_t digits = argument_or(a, 0, "precision", Value::integer(0)).to_integer("precision");
  const std::string method = argument_or(a, 1, "method", Value::text("common")).to_text().str();
  const double scale = std::pow(10.0, static_cast<double>(std::clamp<int64_t>(digits, -300, 300)));
  const double v = input.to_number("round");
  if (method == "ceil") return Value::number(std::ceil(v * scale) / scale);
  if (method == "floor") return Value::number(std::floor(v * scale) / scale);
  const std::string text =
      fmt::format("{:.{}f}", v, static_cast<int>(std::clamp<int64_t>(digits, 0, 300)));
  return Value::number(digits >= 0 ? std::stod(text) : std::nearbyint(v * scale) / scale);
}

// select, reject, selectattr, rejectattr
Value selected(const std::string& name, const Value& input, Arguments& a, Caller& caller) {
  const bool by_attribute = name.ends_with("attr");
  const bool keep = name.starts_with("select");
  List out;
  size_t used = 0;
  const Value* attribute = nullptr;
  if (by_attribute) attribute = &need(a, used++, name);
  const Value* test = used < a.positional.size() ? &a.positional[used++] : nullptr;
  for (const Value& item : items_of(input)) {
    caller.spend(1);
    const Value value = attribute == nullptr ? item : attribute_of(item, *attribute);
    bool holds = value.truthy();
    if (test != nullptr) {
      Arguments rest;
      rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(used),
                             a.positional.end());
      holds = caller.test(text_of(*test, name).str(), value, rest);
    }
    if (holds == keep) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value mapped(const Value& input, Arguments& a, Caller& caller) {
  List out;
  const Value* attribute = argument(a, SIZE_MAX, "attribute");
  const Value* otherwise = argument(a, SIZE_MAX, "default");
  for (const Value& item : items_of(input)) {
    caller.spend(1);
    if (attribute != nullptr) {
      Value v = attribute_of(item, *attribute);
      out.push_back(v.is_undefined() && otherwise != nullptr ? *otherwise : std::move(v));
      continue;
    }
    Arguments rest;
    rest.positional.assign(a.positional.begin() + 1, a.positional.end());
    rest.named = a.named;
    out.push_back(caller.filter(text_of(need(a, 0, "map"), "map").str(), item, rest));
  }
  return Value::list(std::move(out));
}

Value unique(const Value& input, Arguments& a) {
  const Value* attribute = argument(a, 1, "attribute");
  List out, keys;
  for (const Value& item : items_of(input)) {
    Value key = attribute == nullptr ? item : attribute_of(item, *attribute);
    if (key.is_text()) key = Value::text(map_case(key.str(), false));
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& k) { return k.equals(key); }))
      continue;
    keys.push_back(key);
    out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value to_int(const Value& v, Arguments& a) {
  const Value otherwise = argument_or(a, 0, "default", Value::integer(0));
  if (v.is_float()) {
    const double d = v.to_number("int");
    return std::abs(d) < 9e18 ? Value::integer(static_cast<int64_t>(d)) : otherwise;
  }
  if (v.is_number()) return Value::integer(v.to_integer("int"));
  if (!v.is_text()) return otherwise;
  try {
    size_t used = 0;
    const std::string s = stripped(v.as_text(), nullptr, true, true).str();
    const int64_t n = std::stoll(s, &used);
    if (used == s.size()) return Value::integer(n);
    const double d = std::stod(s, &used);
    if (used == s.size() && std::abs(d) < 9e18) return Value::integer(static_cast<int64_t>(d));
  } catch (const std::exception&) {
  }
  return otherwise;
}

Value to_float(const Value& v, Arguments& a) {
  const Value otherwise = argument_or(a, 0, "default", Value::number(0.0));
  if (v.is_number()) return Value::number(v.to_number("float"));
  if (!v.is_text()) return otherwise;
  try {
    size_t used = 0;
    const std::string s = stripped(v.as_text(), nullptr, true, true).str();
    const double d = std::stod(s, &used);
    if (used == s.size()) return Value::number(d);
  } catch (const std::exception&) {
  }
  return otherwise;
}

Value extreme(const Value& input, bool greatest) {
  const List items = items_of(input);
  if (items.empty()) return Value::undefined("no item");
  const Value* best = &items[0];
  for (const Value& v : items) {
    if (greatest ? best->less(v) : v.less(*best)) best = &v;
  }
  return *best;
}

Value sum(const Value& input, Arguments& a) {
  const Value* attribute = argument(a, 0, "attribute");
  double total = 0;
  int64_t whole = 0;
  bool floating = false;
  for (const Value& item : items_of(input)) {
    const Value v =
        attribute == nullptr || attribute->is_none() ? item : attribute_of(item, *attribute);
    floating = floating || v.is_float();
    total += v.to_number("sum");
    if (!floating) whole += v.to_integer("sum");
  }
  return floating ? Value::number(total) : Value::integer(whole);
}

std::string html_escaped(const std::string& s) {
  std::string out;
  for (const char c : s) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\'')
      out += "&#39;";
    else if (c == '"')
      out += "&#34;";
    else
      out += c;
  }
  return out;
}

}  // namespace

Value apply_filter(const std::string& name, const Value& v, Arguments& a, Caller& caller) {
  if (name == "trim")
    return Value::text(stripped(v.to_text(), argument(a, 0, "chars"), true, true));
  if (name == "length" || name == "count") return length_of(v);
  if (name == "tojson") return json_filter(v, a);
  if (name == "join")
    return Value::text(
        joined(v, argument_or(a, 0, "d", Value::text("")).to_text(), argument(a, 1, "attribute")));
  if (name == "default" || name == "d") {
    const bool falsy_too = argument_or(a, 1, "boolean", Value::boolean(false)).truthy();
    const bool missing = v.is_undefined() || (falsy_too && !v.truthy());
    return missing ? argument_or(a, 0, "default_value", Value::text("")) : v;
  }
  if (name == "first" || name == "last") {
    const List items = items_of(v);
    if (items.empty()) return Value::undefined("no item");
    return name == "first" ? items.front() : items.back();
  }
  if (name == "list") return Value::list(items_of(v));
  if (name == "map") return mapped(v, a, caller);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return selected(name, v, a, caller);
  if (name == "string") return Value::text(v.to_text());
  if (name == "safe") return v;
  if (name == "escape" || name == "e") {
    const Text text = v.to_text();
    return Value::text(text.remade(html_escaped(text.str())));
  }
  if (name == "items") {
    if (v.is_undefined()) return Value::list({});
    if (!v.is_dict()) throw Failure{fmt::format("items needs a dict, not {}", v.kind())};
    return dict_method(v, "items", a);
  }
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    Arguments none;
    return text_method(v.to_text(), name, none);
  }
  if (name == "replace") {
    Arguments texts;
    texts.positional = {Value::text(need(a, 0, name).to_text()),
                        Value::text(need(a, 1, name).to_text())};
    if (a.positional.size() > 2 && !a.positional[2].is_none())
      texts.positional.push_back(a.positional[2]);
    return text_method(v.to_text(), name, texts);
  }
  if (name == "indent") return indented(v, a);
  if (name == "int") return to_int(v, a);
  if (name == "float") return to_float(v, a);
  if (name == "round") return rounded(v, a);
  if (name == "abs")
    return v.is_float() ? Value::number(std::abs(v.to_number(name)))
                        : Value::integer(std::abs(v.to_integer(name)));
  if (name == "sort") return sorted(v, a, false);
  if (name == "reverse") {
    if (!v.is_text()) return sorted(v, a, true);
    return slice_of(v, Value::none(), Value::none(), Value::integer(-1));
  }
  if (name == "dictsort") return dict_sorted(v, a);
  if (name == "unique") return unique(v, a);
  if (name == "min" || name == "max") return extreme(v, name == "max");
  if (name == "sum") return sum(v, a);
  if (name == "attr") return item_of(v, need(a, 0, name));
  if (name == "wordcount")
    return Value::integer(static_cast<int64_t>(split(v.to_text(), nullptr, -1, false).size()));
  if (name == "batch") {
    const int64_t n = need(a, 0, name).to_integer(name);
    if (n < 1) throw Failure{"batch needs a size of at least 1"};
    List batches, batch;
    for (const Value& item : items_of(v)) {
      batch.push_back(item);
      if (static_cast<int64_t>(batch.size()) == n)
        batches.push_back(Value::list(std::exchange(batch, {})));
    }
    if (!batch.empty()) batches.push_back(Value::list(std::move(batch)));
    return Value::list(std::move(batches));
  }
  throw Failure{fmt::format("there is no filter '{}'", name)};
}

}  // namespace trireme::jinja
