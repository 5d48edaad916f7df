#include "runtime/chat/jinja/template.h"

#include <cmath>
#include <unordered_map>

#include <fmt/format.h>

#include "runtime/chat/jinja/builtins.h"
#include "runtime/chat/jinja/syntax.h"

namespace trireme::jinja {
namespace {

using Kind = Node::Kind;

// Names and what they stand for, inside others.
struct Frame {
  std::shared_ptr<Frame> outer;
  std::unordered_map<std::string, Value> names;
  const Value* find(const std::string& name) const {
    for (const Frame* f = this; f != nullptr; f = f->outer.get()) {
      const auto it = f->names.find(name);
      if (it != f->names.end()) return &it->second;
    }
    return nullptr;
  }
};
using FramePtr = std::shared_ptr<Frame>;

FramePtr inside(const FramePtr& outer) {
  auto frame = std::make_shared<Frame>();
  frame->outer = outer;
  return frame;
}

// What raise_exception throws: the template's own words, without a line.
struct Raised {
  std::string message;
};
struct Break {};
struct Continue {};

class Run final : public Caller {
 public:
  Run(const Limits& limits, const Template::Globals& globals)
      : limits_(limits), globals_(std::make_shared<Frame>()) {
    add_functions();
    for (const auto& [name, value] : globals) globals_->names[name] = value;
  }

  Text render(const Node& root) {
    Text out;
    exec(root, inside(globals_), out);
    return out;
  }
  uint32_t line() const { return line_; }

  void spend(size_t steps) override {
    steps_ += steps;
    if (steps_ > limits_.steps_max)
      throw Failure{fmt::format("the template takes more than {} steps", limits_.steps_max)};
  }
  Value filter(const std::string& name, const Value& input, Arguments& a) override {
    return apply_filter(name, input, a, *this);
  }
  bool test(const std::string& name, const Value& input, Arguments& a) override {
    return apply_test(name, input, a);
  }

 private:
  struct Deeper {
    explicit Deeper(Run& r) : run(r) {
      if (++run.depth_ > run.limits_.depth_max)
        throw Failure{fmt::format("calls nested deeper than {}", run.limits_.depth_max)};
    }
    ~Deeper() { --run.depth_; }
    Run& run;
  };

  void add_functions() {
    const auto add = [&](const char* name, Function f) {
      globals_->names[name] = Value::callable(name, std::move(f));
    };
    add("raise_exception", [](Arguments& a) -> Value {
      throw Raised{a.positional.empty() ? "" : a.positional[0].to_text().str()};
    });
    add("range", [this](Arguments& a) { return range(a); });
    add("namespace", [](Arguments& a) { return Value::name_space(made_dict(a)); });
    add("dict", [](Arguments& a) { return Value::dict(made_dict(a)); });
  }

  static Dict made_dict(Arguments& a) {
    Dict dict;
    if (!a.positional.empty() && a.positional[0].is_dict()) dict = a.positional[0].as_dict();
    for (auto& [name, value] : a.named) dict.set(name, value);
    return dict;
  }

  Value range(Arguments& a) {
    if (a.positional.empty() || a.positional.size() > 3)
      throw Failure{"range takes 1 to 3 numbers"};
    const int64_t first = a.positional.size() > 1 ? a.positional[0].to_integer("range") : 0;
    const int64_t end = a.positional[a.positional.size() > 1 ? 1 : 0].to_integer("range");
    const int64_t step = a.positional.size() > 2 ? a.positional[2].to_integer("range") : 1;
    if (step == 0) throw Failure{"the step of a range is 0"};
    constexpr size_t kRangeMax = 100000;
    List items;
    for (int64_t i = first; step > 0 ? i < end : i > end; i += step) {
      if (items.size() == kRangeMax)
        throw Failure{fmt::format("a range has more than {} numbers", kRangeMax)};
      items.push_back(Value::integer(i));
    }
    spend(items.size());
    return Value::list(std::move(items));
  }

  // ---- statements ----

  void say(Text& out, const Text& text) {
    out.append(text);
    said_ += text.size();
    if (said_ > limits_.output_bytes_max)
      throw Failure{fmt::format("the output has more than {} bytes", limits_.output_bytes_max)};
  }

  void exec(const Node& n, const FramePtr& frame, Text& out) {
    spend(1);
    if (n.kind != Kind::kBlock) line_ = n.line;
    switch (n.kind) {
      case Kind::kBlock:
        for (const NodePtr& child : n.children) exec(*child, frame, out);
        return;
      case Kind::kData:
        return say(out, Text(n.text));
      case Kind::kOutput:
        return say(out, eval(*n.children[0], frame).to_text());
      case Kind::kIf:
        if (eval(*n.children[0], frame).truthy()) {
          exec(*n.children[1], frame, out);
        } else if (n.children[2] != nullptr) {
          exec(*n.children[2], frame, out);
        }
        return;
      case Kind::kFor:
        return exec_for(n, frame, out, eval(*n.children[1], frame), 1);
      case Kind::kSet:
        return exec_set(n, frame);
      case Kind::kMacro:
        frame->names[n.text] = macro(n, frame);
        return;
      case Kind::kCallBlock:
        return exec_call(n, frame, out);
      case Kind::kFilterBlock: {
        Text inner;
        exec(*n.children[1], inside(frame), inner);
        return say(out, filtered(*n.children[0], Value::text(std::move(inner)), frame).to_text());
      }
      case Kind::kWith: {
        const FramePtr scope = inside(frame);
        for (const auto& [name, value] : n.named) scope->names[name] = eval(*value, frame);
        return exec(*n.children[0], scope, out);
      }
      case Kind::kBreak:
        throw Break{};
      case Kind::kContinue:
        throw Continue{};
      default:
        CHECK(false) << "an expression where a statement belongs";
    }
  }

  void assign(const Node& target, Value value, const FramePtr& frame) {
    if (target.kind == Kind::kName) {
      frame->names[target.text] = std::move(value);
    } else if (target.kind == Kind::kAttribute) {
      const Value object = eval(*target.children[0], frame);
      if (!object.is_namespace()) throw Failure{"only a namespace's members can be set"};
      object.set_member(target.text, std::move(value));
    } else {
      const List items = items_of(value);
      if (items.size() != target.children.size())
        throw Failure{fmt::format("{} values for {} names", items.size(), target.children.size())};
      for (size_t i = 0; i < items.size(); ++i) assign(*target.children[i], items[i], frame);
    }
  }

  void exec_set(const Node& n, const FramePtr& frame) {
    if (!n.flag) return assign(*n.children[0], eval(*n.children[1], frame), frame);
    Text body;
    exec(*n.children[1], inside(frame), body);
    Value value = Value::text(std::move(body));
    if (n.children[2] != nullptr) value = filtered(*n.children[2], std::move(value), frame);
    assign(*n.children[0], std::move(value), frame);
  }

  void exec_for(const Node& n, const FramePtr& frame, Text& out, const Value& iterable, int depth) {
    const Deeper deeper(*this);
    List items;
    for (const Value& item : items_of(iterable)) {
      if (n.children[4] != nullptr) {
        const FramePtr scope = inside(frame);
        assign(*n.children[0], item, scope);
        if (!eval(*n.children[4], scope).truthy()) continue;
      }
      items.push_back(item);
    }
    for (size_t i = 0; i < items.size(); ++i) {
      spend(1);
      const FramePtr scope = inside(frame);
      assign(*n.children[0], items[i], scope);
      scope->names["loop"] = loop_value(n, frame, items, i, depth);
      try {
        exec(*n.children[2], scope, out);
      } catch (const Break&) {
        break;
      } catch (const Continue&) {
      }
    }
    if (items.empty() && n.children[3] != nullptr) exec(*n.children[3], frame, out);
  }

  Value loop_value(const Node& n, const FramePtr& frame, const List& items, size_t i, int depth) {
    const auto number = [](size_t k) { return Value::integer(static_cast<int64_t>(k)); };
    Dict loop;
    loop.entries = {
        {"index", number(i + 1)},
        {"index0", number(i)},
        {"revindex", number(items.size() - i)},
        {"revindex0", number(items.size() - i - 1)},
        {"first", Value::boolean(i == 0)},
        {"last", Value::boolean(i + 1 == items.size())},
        {"length", number(items.size())},
        {"depth", Value::integer(depth)},
        {"depth0", Value::integer(depth - 1)},
        {"previtem", i > 0 ? items[i - 1] : Value::undefined("there is no previous item")},
        {"nextitem",
         i + 1 < items.size() ? items[i + 1] : Value::undefined("there is no next item")}};
    loop.entries.emplace_back("cycle", Value::callable("cycle", [i](Arguments& a) {
                                if (a.positional.empty()) throw Failure{"cycle needs values"};
                                return a.positional[i % a.positional.size()];
                              }));
    if (n.flag) {
      loop.entries.emplace_back(
          "__call__", Value::callable("loop", [this, &n, kept = keep(frame), depth](Arguments& a) {
            if (a.positional.size() != 1) throw Failure{"loop() takes one list"};
            Text inner;
            exec_for(n, kept.lock(), inner, a.positional[0], depth + 1);
            return Value::text(std::move(inner));
          }));
    }
    return Value::loop(std::move(loop));
  }

  // For callables, which stand in frames: a frame that they held would never go. This run keeps it.
  std::weak_ptr<Frame> keep(const FramePtr& frame) {
    constexpr size_t kKeptMax = 100'000;
    if (kept_.empty() || kept_.back() != frame) kept_.push_back(frame);
    if (kept_.size() > kKeptMax)
      throw Failure{fmt::format("it defines more than {} macros", kKeptMax)};
    return frame;
  }

  // Parameters of a macro or of a call block's body, bound to arguments, and its output.
  Value macro(const Node& n, const FramePtr& frame, size_t body = 0) {
    return Value::callable(n.text, [this, &n, kept = keep(frame), body](Arguments& a) {
      const Deeper deeper(*this);
      const FramePtr scope = inside(kept.lock());
      if (a.positional.size() > n.named.size())
        throw Failure{fmt::format("macro '{}' takes {} arguments, {} were given", n.text,
                                  n.named.size(), a.positional.size())};
      for (size_t i = 0; i < n.named.size(); ++i) {
        const auto& [name, fallback] = n.named[i];
        Value value = Value::undefined(name);
        bool given = i < a.positional.size();
        if (given) value = a.positional[i];
        for (const auto& [key, v] : a.named) {
          if (key != name) continue;
          value = v;
          given = true;
        }
        if (!given && fallback != nullptr) value = eval(*fallback, scope);
        scope->names[name] = std::move(value);
      }
      for (const auto& [key, v] : a.named) {
        if (key == "caller") scope->names[key] = v;
        const bool known = key == "caller" || scope->names.contains(key);
        if (!known) throw Failure{fmt::format("macro '{}' has no parameter '{}'", n.text, key)};
      }
      Text out;
      exec(*n.children[body], scope, out);
      return Value::text(std::move(out));
    });
  }

  void exec_call(const Node& n, const FramePtr& frame, Text& out) {
    const Node& call = *n.children[0];
    Arguments a = arguments(call, 1, frame);
    a.named.emplace_back("caller", macro(n, frame, 1));
    say(out, invoke(eval(*call.children[0], frame), a).to_text());
  }

  // ---- expressions ----

  Value invoke(const Value& callee, Arguments& a) {
    if (callee.is_dict()) {
      if (const Value* call = callee.as_dict().find("__call__");
          call != nullptr && callee.is_namespace())
        return (*call->as_callable().function)(a);
    }
    if (callee.is_undefined())
      throw Failure{fmt::format("'{}' is undefined", callee.undefined_name())};
    if (!callee.is_callable()) throw Failure{fmt::format("{} cannot be called", callee.kind())};
    spend(1);
    return (*callee.as_callable().function)(a);
  }

  Arguments arguments(const Node& n, size_t first, const FramePtr& frame) {
    Arguments a;
    for (size_t i = first; i < n.children.size(); ++i)
      a.positional.push_back(eval(*n.children[i], frame));
    for (const auto& [name, value] : n.named) a.named.emplace_back(name, eval(*value, frame));
    return a;
  }

  // A chain of filters whose innermost input is given.
  Value filtered(const Node& n, Value input, const FramePtr& frame) {
    if (n.children[0] != nullptr) input = filtered(*n.children[0], std::move(input), frame);
    Arguments a = arguments(n, 1, frame);
    return filter(n.text, input, a);
  }

  Value attribute(const Value& object, const std::string& name) {
    if (object.is_undefined())
      throw Failure{fmt::format("'{}' is undefined", object.undefined_name())};
    // As Python's getattr first: a dict's methods hide its keys of the same name.
    Value method = method_of(object, name);
    if (!method.is_undefined()) return method;
    if (object.is_dict()) return item_of(object, Value::text(name));
    return Value::undefined(name);
  }

  Value eval(const Node& n, const FramePtr& frame) {
    spend(1);
    line_ = n.line;
    switch (n.kind) {
      case Kind::kLiteral:
        return n.value;
      case Kind::kName: {
        const Value* found = frame->find(n.text);
        return found == nullptr ? Value::undefined(n.text) : *found;
      }
      case Kind::kList:
      case Kind::kTuple: {
        List items;
        for (const NodePtr& child : n.children) items.push_back(eval(*child, frame));
        return Value::list(std::move(items), n.kind == Kind::kTuple);
      }
      case Kind::kDict: {
        Dict dict;
        for (size_t i = 0; i < n.children.size(); i += 2) {
          const Text key = eval(*n.children[i], frame).to_text();
          dict.from_user = dict.from_user || key.tainted();
          dict.set(key.str(), eval(*n.children[i + 1], frame));
        }
        return Value::dict(std::move(dict));
      }
      case Kind::kAttribute:
        return attribute(eval(*n.children[0], frame), n.text);
      case Kind::kItem: {
        const Value object = eval(*n.children[0], frame);
        const Value key = eval(*n.children[1], frame);
        Value item = item_of(object, key);
        if (!item.is_undefined() || !key.is_text()) return item;
        return method_of(object, key.str());
      }
      case Kind::kSlice: {
        const auto part = [&](size_t i) {
          return n.children[i] == nullptr ? Value::none() : eval(*n.children[i], frame);
        };
        return slice_of(eval(*n.children[0], frame), part(1), part(2), part(3));
      }
      case Kind::kCall: {
        const Value callee = eval(*n.children[0], frame);
        Arguments a = arguments(n, 1, frame);
        line_ = n.line;
        return invoke(callee, a);
      }
      case Kind::kFilter: {
        Value input = eval(*n.children[0], frame);
        Arguments a = arguments(n, 1, frame);
        return filter(n.text, input, a);
      }
      case Kind::kTest: {
        const Value input = eval(*n.children[0], frame);
        Arguments a = arguments(n, 1, frame);
        return Value::boolean(test(n.text, input, a) != n.flag);
      }
      case Kind::kUnary:
        return unary(n, eval(*n.children[0], frame));
      case Kind::kBinary:
        return binary(n, frame);
      case Kind::kCompare:
        return compare(n, frame);
      case Kind::kConditional:
        if (eval(*n.children[1], frame).truthy()) return eval(*n.children[0], frame);
        return n.children[2] == nullptr ? Value::undefined("the inline if has no else")
                                        : eval(*n.children[2], frame);
      default:
        CHECK(false) << "a statement where an expression belongs";
        return Value();
    }
  }

  static Value unary(const Node& n, const Value& v) {
    if (n.text == "not") return Value::boolean(!v.truthy());
    const bool minus = n.text == "-";
    if (v.is_float()) return Value::number(minus ? -v.to_number("") : v.to_number(""));
    const int64_t i = v.to_integer(n.text);
    return Value::integer(minus ? static_cast<int64_t>(0 - static_cast<uint64_t>(i)) : i);
  }

  Value compare(const Node& n, const FramePtr& frame) {
    Value left = eval(*n.children[0], frame);
    for (size_t i = 0; i < n.operators.size(); ++i) {
      Value right = eval(*n.children[i + 1], frame);
      if (!holds(n.operators[i], left, right)) return Value::boolean(false);
      left = std::move(right);
    }
    return Value::boolean(true);
  }
  static bool holds(const std::string& op, const Value& a, const Value& b) {
    if (op == "==") return a.equals(b);
    if (op == "!=") return !a.equals(b);
    if (op == "<") return a.less(b);
    if (op == ">") return b.less(a);
    if (op == "<=") return a.less(b) || a.equals(b);
    if (op == ">=") return b.less(a) || a.equals(b);
    return contains(b, a) == (op == "in");
  }

  Value binary(const Node& n, const FramePtr& frame) {
    Value a = eval(*n.children[0], frame);
    if (n.text == "and") return a.truthy() ? eval(*n.children[1], frame) : a;
    if (n.text == "or") return a.truthy() ? a : eval(*n.children[1], frame);
    const Value b = eval(*n.children[1], frame);
    line_ = n.line;
    if (n.text == "~") {
      Text text = a.to_text();
      text.append(b.to_text());
      return bounded(std::move(text));
    }
    for (const Value* v : std::initializer_list<const Value*>{&a, &b}) {
      if (v->is_undefined()) throw Failure{fmt::format("'{}' is undefined", v->undefined_name())};
    }
    if (n.text == "+" && a.is_text() && b.is_text()) {
      Text text = a.as_text();
      text.append(b.as_text());
      return bounded(std::move(text));
    }
    if (n.text == "+" && a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
      List items = a.as_list();
      items.insert(items.end(), b.as_list().begin(), b.as_list().end());
      spend(items.size());
      return Value::list(std::move(items), a.is_tuple());
    }
    if (n.text == "*" && (a.is_text() || a.is_list()) && b.is_number() && !b.is_float())
      return repeated(a, b.to_integer("*"));
    if (n.text == "*" && (b.is_text() || b.is_list()) && a.is_number() && !a.is_float())
      return repeated(b, a.to_integer("*"));
    if (n.text == "%" && a.is_text()) return percent(a.as_text(), b);
    if (!a.is_number() || !b.is_number())
      throw Failure{fmt::format("'{}' does not take {} and {}", n.text, a.kind(), b.kind())};
    return arithmetic(n.text, a, b);
  }

  Value bounded(Text text) {
    spend(1 + text.size() / 64);
    if (text.size() > limits_.output_bytes_max)
      throw Failure{fmt::format("a string has more than {} bytes", limits_.output_bytes_max)};
    return Value::text(std::move(text));
  }

  Value repeated(const Value& v, int64_t times) {
    times = std::max<int64_t>(times, 0);
    const size_t each = v.is_text() ? v.as_text().size() : v.as_list().size();
    if (each > 0 && static_cast<size_t>(times) > (size_t{1} << 22) / each)
      throw Failure{"a repetition is too long"};
    spend(each * static_cast<size_t>(times) / 16 + 1);
    if (v.is_text()) {
      Text text;
      for (; times > 0; --times) text.append(v.as_text());
      return Value::text(std::move(text));
    }
    List items;
    for (; times > 0; --times) items.insert(items.end(), v.as_list().begin(), v.as_list().end());
    return Value::list(std::move(items), v.is_tuple());
  }

  // "%s and %d" % (a, b)
  static Value percent(const Text& format, const Value& values) {
    const List list = values.is_tuple() ? values.as_list() : List{values};
    const std::string& s = format.str();
    Text out;
    size_t used = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      if (s[i] != '%') {
        out.append(format.sub(i, 1));
        continue;
      }
      const char c = ++i < s.size() ? s[i] : ' ';
      if (c == '%') {
        out.append("%");
        continue;
      }
      if (used >= list.size()) throw Failure{"there are fewer values than '%' in the string"};
      const Value& v = list[used++];
      if (c == 's') {
        out.append(v.to_text());
      } else if (c == 'r') {
        out.append(v.tainted() ? Text::from_user(v.repr()) : Text(v.repr()));
      } else if (c == 'd' || c == 'i') {
        out.append(std::to_string(static_cast<int64_t>(v.to_number("%d"))));
      } else if (c == 'f') {
        out.append(fmt::format("{:.6f}", v.to_number("%f")));
      } else {
        throw Failure{fmt::format("'%{}' is not known", c)};
      }
    }
    if (used < list.size()) throw Failure{"there are more values than '%' in the string"};
    return Value::text(std::move(out));
  }

  // Python's: // and % round towards minus infinity, / is always a float.
  static Value arithmetic(const std::string& op, const Value& a, const Value& b) {
    if (op == "/") {
      const double divisor = b.to_number(op);
      if (divisor == 0) throw Failure{"division by zero"};
      return Value::number(a.to_number(op) / divisor);
    }
    if (a.is_float() || b.is_float() || (op == "**" && b.to_number(op) < 0)) {
      const double x = a.to_number(op), y = b.to_number(op);
      if (op == "+") return Value::number(x + y);
      if (op == "-") return Value::number(x - y);
      if (op == "*") return Value::number(x * y);
      if (op == "**") return Value::number(std::pow(x, y));
      if (y == 0) throw Failure{"division by zero"};
      const double quotient = std::floor(x / y);
      return Value::number(op == "//" ? quotient : x - quotient * y);
    }
    const int64_t x = a.to_integer(op), y = b.to_integer(op);
    int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
      overflow = __builtin_add_overflow(x, y, &result);
    } else if (op == "-") {
      overflow = __builtin_sub_overflow(x, y, &result);
    } else if (op == "*") {
      overflow = __builtin_mul_overflow(x, y, &result);
    } else if (op == "**") {
      result = 1;
      for (int64_t i = 0; i < y && !overflow; ++i) {
        overflow = __builtin_mul_overflow(result, x, &result);
        if (x == 0 || x == 1) break;
      }
      if (x == 0 && y > 0) result = 0;
      if (x == -1) result = y % 2 == 0 ? 1 : -1;
    } else {
      if (y == 0) throw Failure{"division by zero"};
      if (y == -1) {
        overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, x, &result);
      } else {
        const int64_t rest = x % y, quotient = x / y;
        const bool adjust = rest != 0 && (rest < 0) != (y < 0);
        result = op == "//" ? quotient - adjust : rest + (adjust ? y : 0);
      }
    }
    if (overflow) throw Failure{fmt::format("the result of '{}' is too large", op)};
    return Value::integer(result);
  }

  const Limits& limits_;
  const FramePtr globals_;
  std::vector<FramePtr> kept_;
  size_t steps_ = 0, said_ = 0, depth_ = 0;
  uint32_t line_ = 0;
};

}  // namespace

Template::Template(std::unique_ptr<Node> root, const Limits& limits)
    : root_(std::move(root)), limits_(limits) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source, const Limits& limits) {
  if (source.size() > limits.source_bytes_max)
    return invalid_argument(fmt::format("the template has {} bytes: at most {} are allowed",
                                        source.size(), limits.source_bytes_max));
  try {
    return Template(parse_template(source), limits);
  } catch (const SyntaxError& e) {
    return invalid_argument(fmt::format("line {}: {}", e.line, e.message));
  }
}

Result<Text> Template::render(const Globals& globals) const {
  Run run(limits_, globals);
  try {
    return run.render(*root_);
  } catch (const Raised& raised) {
    return invalid_argument(raised.message);
  } catch (const Failure& failure) {
    return invalid_argument(fmt::format("line {}: {}", run.line(), failure.message));
  }
}

}  // namespace trireme::jinja
