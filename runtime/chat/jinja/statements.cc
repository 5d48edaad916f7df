#include "runtime/chat/jinja/run.h"

namespace trireme::jinja {
namespace {
using Kind = Node::Kind;
}  // namespace

void Run::say(Text& out, const Text& text) {
  out.append(text);
  said_ += text.size();
  if (said_ > limits_.output_bytes_max)
    throw Failure{fmt::format("the output has more than {} bytes", limits_.output_bytes_max)};
}

void Run::exec(const Node& n, const FramePtr& frame, Text& out) {
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

void Run::assign(const Node& target, Value value, const FramePtr& frame) {
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

void Run::exec_set(const Node& n, const FramePtr& frame) {
  if (!n.flag) return assign(*n.children[0], eval(*n.children[1], frame), frame);
  Text body;
  exec(*n.children[1], inside(frame), body);
  Value value = Value::text(std::move(body));
  if (n.children[2] != nullptr) value = filtered(*n.children[2], std::move(value), frame);
  assign(*n.children[0], std::move(value), frame);
}

void Run::exec_for(const Node& n, const FramePtr& frame, Text& out, const Value& iterable,
                   int depth) {
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

Value Run::loop_value(const Node& n, const FramePtr& frame, const List& items, size_t i,
                      int depth) {
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

std::weak_ptr<Frame> Run::keep(const FramePtr& frame) {
  constexpr size_t kKeptMax = 100'000;
  if (kept_.empty() || kept_.back() != frame) kept_.push_back(frame);
  if (kept_.size() > kKeptMax)
    throw Failure{fmt::format("it defines more than {} macros", kKeptMax)};
  return frame;
}

Value Run::macro(const Node& n, const FramePtr& frame, size_t body) {
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

void Run::exec_call(const Node& n, const FramePtr& frame, Text& out) {
  const Node& call = *n.children[0];
  Arguments a = arguments(call, 1, frame);
  a.named.emplace_back("caller", macro(n, frame, 1));
  say(out, invoke(eval(*call.children[0], frame), a).to_text());
}

}  // namespace trireme::jinja
