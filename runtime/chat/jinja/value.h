// Values of a template while it runs, with Python's meaning: what they print as, what is true, what
// equals what. Lists and dicts are shared by reference, as in Python; namespaces alone are changed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/chat/jinja/text.h"

namespace trireme::jinja {

class Value;
using List = std::vector<Value>;

// In order of insertion.
struct Dict {
  std::vector<std::pair<std::string, Value>> entries;
  bool from_user = false;  // its keys are
  const Value* find(std::string_view key) const;
  void set(const std::string& key, Value value);
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};
// Throws Failure.
using Function = std::function<Value(Arguments&)>;

// What ends a rendering; does not leave this folder.
struct Failure {
  std::string message;
};

class Value {
 public:
  struct Undefined {
    std::string name;  // for messages
  };
  struct None {};
  // How deep what is in a list or dict nests, and whether a namespace is among it: what walks
  // through values calls itself, so nothing may be too deep, nor be in itself.
  struct Nesting {
    uint32_t depth = 0;
    bool holds_namespace = false;
    void take_in(const Value& value);  // fails beyond kNestingMax
  };
  static constexpr uint32_t kNestingMax = 500;
  struct ListRef {
    std::shared_ptr<List> items;
    bool tuple = false;
    Nesting nesting;
  };
  struct DictRef {
    std::shared_ptr<Dict> dict;
    bool is_namespace = false;
    Nesting nesting;
  };
  struct Callable {
    std::shared_ptr<Function> function;
    std::string name;
  };

  Value() : data_(Undefined{}) {}
  static Value undefined(std::string name) { return Value(Data(Undefined{std::move(name)})); }
  static Value none() { return Value(Data(None{})); }
  static Value boolean(bool b) { return Value(Data(b)); }
  static Value integer(int64_t i) { return Value(Data(i)); }
  static Value number(double d) { return Value(Data(d)); }
  static Value text(Text t) { return Value(Data(std::make_shared<const Text>(std::move(t)))); }
  static Value text(std::string s) { return text(Text(std::move(s))); }
  // These fail where they would nest too deep; a namespace, where another is in it.
  static Value list(List items, bool tuple = false);
  static Value dict(Dict d) { return dict(std::move(d), false); }
  static Value name_space(Dict d);
  static Value loop(Dict d) { return dict(std::move(d), true); }  // members are as of a namespace
  static Value callable(std::string name, Function f) {
    return Value(Data(Callable{std::make_shared<Function>(std::move(f)), std::move(name)}));
  }
  // Strings in it are a user's.
  static Value from_json(const Json& json, bool from_user);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_boolean() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integer() || is_float() || is_boolean(); }
  bool is_text() const { return std::holds_alternative<TextRef>(data_); }
  bool is_list() const { return std::holds_alternative<ListRef>(data_); }
  bool is_tuple() const { return is_list() && std::get<ListRef>(data_).tuple; }
  bool is_dict() const { return std::holds_alternative<DictRef>(data_); }
  bool is_namespace() const { return is_dict() && std::get<DictRef>(data_).is_namespace; }
  bool is_callable() const { return std::holds_alternative<Callable>(data_); }

  // REQUIRES: it is one.
  bool as_boolean() const { return std::get<bool>(data_); }
  const Text& as_text() const { return *std::get<TextRef>(data_); }
  const std::string& str() const { return as_text().str(); }
  const List& as_list() const { return *std::get<ListRef>(data_).items; }
  const Dict& as_dict() const { return *std::get<DictRef>(data_).dict; }
  // REQUIRES: it is a namespace.
  void set_member(const std::string& name, Value value) const;
  const Callable& as_callable() const { return std::get<Callable>(data_); }
  const std::string& undefined_name() const { return std::get<Undefined>(data_).name; }

  // An integer of an integer or boolean; fails for others. `what`: for the message.
  int64_t to_integer(std::string_view what) const;
  double to_number(std::string_view what) const;

  bool truthy() const;
  // str() and repr() of Python.
  Text to_text() const;
  std::string repr() const;
  std::string_view kind() const;  // "str", "int", ...
  bool equals(const Value& other) const;
  // Python's order of numbers and of strings; fails for others.
  bool less(const Value& other) const;
  // Anything in it came from a user.
  bool tainted() const;

 private:
  using TextRef = std::shared_ptr<const Text>;
  using Data =
      std::variant<Undefined, None, bool, int64_t, double, TextRef, ListRef, DictRef, Callable>;
  explicit Value(Data data) : data_(std::move(data)) {}
  static Value dict(Dict d, bool is_namespace);
  Nesting nesting() const;
  Data data_;
};

// json.dumps of Python: ensure_ascii false, insertion order unless sort_keys. indent < 0: one line.
std::string to_json(const Value& value, int indent, bool sort_keys, std::string_view item_separator,
                    std::string_view key_separator);

std::string float_repr(double d);

// The characters of a string: byte offsets, with the end.
std::vector<size_t> character_offsets(std::string_view text);

}  // namespace trireme::jinja
