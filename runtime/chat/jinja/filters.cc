#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "runtime/chat/jinja/arguments.h"
#include "runtime/chat/jinja/builtins.h"
#include "runtime/chat/jinja/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::jinja {
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
