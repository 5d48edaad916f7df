#include "runtime/chat/jinja/value.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace trireme::jinja {

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Dict::set(const std::string& key, Value value) {
  for (auto& [name, old] : entries) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  entries.emplace_back(key, std::move(value));
}

Value::Nesting Value::nesting() const {
  if (is_list()) return std::get<ListRef>(data_).nesting;
  if (!is_dict()) return {};
  Nesting nesting = std::get<DictRef>(data_).nesting;
  nesting.holds_namespace = nesting.holds_namespace || is_namespace();
  return nesting;
}

void Value::Nesting::take_in(const Value& value) {
  const Nesting inner = value.nesting();
  holds_namespace = holds_namespace || inner.holds_namespace;
  depth = std::max(depth, inner.depth + 1);
  if (depth > kNestingMax)
    throw Failure{fmt::format("lists and dicts are nested deeper than {}", kNestingMax)};
}

Value Value::list(List items, bool tuple) {
  Nesting nesting;
  for (const Value& item : items) nesting.take_in(item);
  return Value(Data(ListRef{std::make_shared<List>(std::move(items)), tuple, nesting}));
}

namespace {
constexpr const char* kInItself = "a namespace cannot hold a namespace";
}  // namespace

Value Value::dict(Dict d, bool is_namespace) {
  Nesting nesting;
  for (const auto& [key, value] : d.entries) nesting.take_in(value);
  return Value(Data(DictRef{std::make_shared<Dict>(std::move(d)), is_namespace, nesting}));
}

Value Value::name_space(Dict d) {
  const Value made = dict(std::move(d), true);
  if (std::get<DictRef>(made.data_).nesting.holds_namespace) throw Failure{kInItself};
  return made;
}

// Who holds the namespace already keeps the depth that it had: as a namespace is in no other, what
// is real is at most twice as deep.
void Value::set_member(const std::string& name, Value value) const {
  CHECK(is_namespace());
  Nesting nesting;
  nesting.take_in(value);
  if (nesting.holds_namespace) throw Failure{kInItself};
  std::get<DictRef>(data_).dict->set(name, std::move(value));
}

Value Value::from_json(const Json& json, bool from_user) {
  switch (json.kind()) {
    case boost::json::kind::null:
      return none();
    case boost::json::kind::bool_:
      return boolean(json.get_bool());
    case boost::json::kind::int64:
      return integer(json.get_int64());
    case boost::json::kind::uint64:
      return number(static_cast<double>(json.get_uint64()));
    case boost::json::kind::double_:
      return number(json.get_double());
    case boost::json::kind::string: {
      std::string s(json.get_string());
      return text(from_user ? Text::from_user(std::move(s)) : Text(std::move(s)));
    }
    case boost::json::kind::array: {
      List items;
      for (const Json& item : json.get_array()) items.push_back(from_json(item, from_user));
      return list(std::move(items));
    }
    case boost::json::kind::object: {
      Dict d;
      d.from_user = from_user;
      for (const auto& [key, value] : json.get_object())
        d.entries.emplace_back(std::string(key), from_json(value, from_user));
      return dict(std::move(d));
    }
  }
  return none();
}

std::string_view Value::kind() const {
  static constexpr std::string_view kKinds[] = {"undefined", "none", "bool", "int",     "float",
                                                "str",       "list", "dict", "callable"};
  return is_tuple() ? "tuple" : kKinds[data_.index()];
}

int64_t Value::to_integer(std::string_view what) const {
  if (is_integer()) return std::get<int64_t>(data_);
  if (is_boolean()) return as_boolean() ? 1 : 0;
  throw Failure{fmt::format("{} has to be an integer, not {}", what, kind())};
}

double Value::to_number(std::string_view what) const {
  if (is_float()) return std::get<double>(data_);
  if (is_integer() || is_boolean()) return static_cast<double>(to_integer(what));
  throw Failure{fmt::format("{} has to be a number, not {}", what, kind())};
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_boolean()) return as_boolean();
  if (is_integer()) return std::get<int64_t>(data_) != 0;
  if (is_float()) return std::get<double>(data_) != 0;
  if (is_text()) return !as_text().empty();
  if (is_list()) return !as_list().empty();
  if (is_dict()) return is_namespace() || !as_dict().entries.empty();
  return true;
}

std::string float_repr(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", d);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

namespace {

// As Python chooses its quotes and escapes.
std::string quoted(const std::string& s) {
  const char quote =
      s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : s) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 32 || c == 127) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + quote;
}

}  // namespace

std::string Value::repr() const {
  if (is_text()) return quoted(str());
  if (is_list()) {
    std::string out = is_tuple() ? "(" : "[";
    for (size_t i = 0; i < as_list().size(); ++i) out += (i == 0 ? "" : ", ") + as_list()[i].repr();
    if (is_tuple() && as_list().size() == 1) out += ',';
    return out + (is_tuple() ? ")" : "]");
  }
  if (is_dict()) {
    std::string out = is_namespace() ? "<Namespace {" : "{";
    for (size_t i = 0; i < as_dict().entries.size(); ++i) {
      const auto& [key, value] = as_dict().entries[i];
      out += (i == 0 ? "" : ", ") + quoted(key) + ": " + value.repr();
    }
    return out + (is_namespace() ? "}>" : "}");
  }
  return to_text().str();
}

Text Value::to_text() const {
  if (is_undefined()) return Text();
  if (is_none()) return Text("None");
  if (is_boolean()) return Text(as_boolean() ? "True" : "False");
  if (is_integer()) return Text(std::to_string(std::get<int64_t>(data_)));
  if (is_float()) return Text(float_repr(std::get<double>(data_)));
  if (is_text()) return as_text();
  if (is_callable()) return Text("<function " + as_callable().name + ">");
  return tainted() ? Text::from_user(repr()) : Text(repr());
}

bool Value::tainted() const {
  if (is_text()) return as_text().tainted();
  if (is_list())
    return std::any_of(as_list().begin(), as_list().end(),
                       [](const Value& v) { return v.tainted(); });
  if (is_dict())
    return as_dict().from_user ||
           std::any_of(as_dict().entries.begin(), as_dict().entries.end(),
                       [](const auto& entry) { return entry.second.tainted(); });
  return false;
}

bool Value::equals(const Value& other) const {
  if (is_number() && other.is_number()) {
    if (!is_float() && !other.is_float()) return to_integer("") == other.to_integer("");
    return to_number("") == other.to_number("");
  }
  if (data_.index() != other.data_.index()) return false;
  if (is_text()) return str() == other.str();
  if (is_list()) {
    return is_tuple() == other.is_tuple() &&
           std::equal(as_list().begin(), as_list().end(), other.as_list().begin(),
                      other.as_list().end(),
                      [](const Value& a, const Value& b) { return a.equals(b); });
  }
  if (is_dict()) {
    if (as_dict().entries.size() != other.as_dict().entries.size()) return false;
    for (const auto& [key, value] : as_dict().entries) {
      const Value* there = other.as_dict().find(key);
      if (there == nullptr || !value.equals(*there)) return false;
    }
    return true;
  }
  if (is_callable()) return as_callable().function == other.as_callable().function;
  return true;  // undefined and undefined, none and none
}

bool Value::less(const Value& other) const {
  if (is_number() && other.is_number()) return to_number("") < other.to_number("");
  if (is_text() && other.is_text()) return str() < other.str();
  if (is_list() && other.is_list()) {
    return std::lexicographical_compare(as_list().begin(), as_list().end(), other.as_list().begin(),
                                        other.as_list().end(),
                                        [](const Value& a, const Value& b) { return a.less(b); });
  }
  throw Failure{fmt::format("{} and {} have no order", kind(), other.kind())};
}

// ---- json.dumps ----

namespace {

void json_string(const std::string& s, std::string& out) {
  out += '"';
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 32) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

struct JsonWriter {
  int indent;
  bool sort_keys;
  std::string_view item_separator, key_separator;
  std::string out;

  void line(int depth) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent * depth), ' ');
  }

  void write(const Value& v, int depth) {
    if (v.is_none()) {
      out += "null";
    } else if (v.is_boolean()) {
      out += v.as_boolean() ? "true" : "false";
    } else if (v.is_float()) {
      const double d = v.to_number("");
      out += std::isnan(d)   ? "NaN"
             : std::isinf(d) ? (d > 0 ? "Infinity" : "-Infinity")
                             : float_repr(d);
    } else if (v.is_integer()) {
      out += v.to_text().str();
    } else if (v.is_text()) {
      json_string(v.str(), out);
    } else if (v.is_list()) {
      write_list(v.as_list(), depth);
    } else if (v.is_dict()) {
      write_dict(v.as_dict(), depth);
    } else {
      throw Failure{fmt::format("tojson cannot write {}", v.kind())};
    }
  }
  void write_list(const List& list, int depth) {
    out += '[';
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out += item_separator;
      line(depth + 1);
      write(list[i], depth + 1);
    }
    if (!list.empty()) line(depth);
    out += ']';
  }
  void write_dict(const Dict& dict, int depth) {
    std::vector<const std::pair<std::string, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (sort_keys)
      std::sort(entries.begin(), entries.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
    out += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out += item_separator;
      line(depth + 1);
      json_string(entries[i]->first, out);
      out += key_separator;
      write(entries[i]->second, depth + 1);
    }
    if (!entries.empty()) line(depth);
    out += '}';
  }
};

}  // namespace

std::string to_json(const Value& value, int indent, bool sort_keys, std::string_view item_separator,
                    std::string_view key_separator) {
  JsonWriter writer{indent, sort_keys, item_separator, key_separator, {}};
  writer.write(value, 0);
  return std::move(writer.out);
}

std::vector<size_t> character_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xC0) != 0x80) offsets.push_back(i);
  }
  offsets.push_back(text.size());
  return offsets;
}

}  // namespace trireme::jinja
