#include "runtime/chat/jinja/builtins.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/chat/jinja/arguments.h"
#include "runtime/chat/jinja/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::jinja {
namespace {

Value key_text(const Dict& d, const std::string& key) {
  return Value::text(d.from_user ? Text::from_user(key) : Text(key));
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

Value method_of(const Value& object, const std::string& name) {
  const auto bound = [&](auto method) {
    return Value::callable(
        name, [object, name, method](Arguments& a) { return method(object, name, a); });
  };
  if (object.is_text()) {
    if (is_text_method(name))
      return bound([](const Value& o, const std::string& n, Arguments& a) {
        return text_method(o.as_text(), n, a);
      });
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

}  // namespace trireme::jinja
