#include <cmath>

#include "runtime/chat/jinja/run.h"

namespace trireme::jinja {
namespace {
using Kind = Node::Kind;
}  // namespace

Value Run::invoke(const Value& callee, Arguments& a) {
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

Arguments Run::arguments(const Node& n, size_t first, const FramePtr& frame) {
  Arguments a;
  for (size_t i = first; i < n.children.size(); ++i)
    a.positional.push_back(eval(*n.children[i], frame));
  for (const auto& [name, value] : n.named) a.named.emplace_back(name, eval(*value, frame));
  return a;
}

Value Run::filtered(const Node& n, Value input, const FramePtr& frame) {
  if (n.children[0] != nullptr) input = filtered(*n.children[0], std::move(input), frame);
  Arguments a = arguments(n, 1, frame);
  return filter(n.text, input, a);
}

Value Run::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined())
    throw Failure{fmt::format("'{}' is undefined", object.undefined_name())};
  // As Python's getattr first: a dict's methods hide its keys of the same name.
  Value method = method_of(object, name);
  if (!method.is_undefined()) return method;
  if (object.is_dict()) return item_of(object, Value::text(name));
  return Value::undefined(name);
}

Value Run::eval(const Node& n, const FramePtr& frame) {
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

Value Run::unary(const Node& n, const Value& v) {
  if (n.text == "not") return Value::boolean(!v.truthy());
  const bool minus = n.text == "-";
  if (v.is_float()) return Value::number(minus ? -v.to_number("") : v.to_number(""));
  const int64_t i = v.to_integer(n.text);
  return Value::integer(minus ? static_cast<int64_t>(0 - static_cast<uint64_t>(i)) : i);
}

Value Run::compare(const Node& n, const FramePtr& frame) {
  Value left = eval(*n.children[0], frame);
  for (size_t i = 0; i < n.operators.size(); ++i) {
    Value right = eval(*n.children[i + 1], frame);
    if (!holds(n.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

bool Run::holds(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return a.equals(b);
  if (op == "!=") return !a.equals(b);
  if (op == "<") return a.less(b);
  if (op == ">") return b.less(a);
  if (op == "<=") return a.less(b) || a.equals(b);
  if (op == ">=") return b.less(a) || a.equals(b);
  return contains(b, a) == (op == "in");
}

Value Run::binary(const Node& n, const FramePtr& frame) {
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

Value Run::bounded(Text text) {
  spend(1 + text.size() / 64);
  if (text.size() > limits_.output_bytes_max)
    throw Failure{fmt::format("a string has more than {} bytes", limits_.output_bytes_max)};
  return Value::text(std::move(text));
}

Value Run::repeated(const Value& v, int64_t times) {
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

Value Run::percent(const Text& format, const Value& values) {
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

Value Run::arithmetic(const std::string& op, const Value& a, const Value& b) {
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

}  // namespace trireme::jinja
