// One rendering of a template: its frames, what it may spend, and how it goes through the nodes.
// run.cc: global functions; statements.cc, expressions.cc: nodes.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "runtime/chat/jinja/builtins.h"
#include "runtime/chat/jinja/syntax.h"
#include "runtime/chat/jinja/template.h"

namespace trireme::jinja {

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

inline FramePtr inside(const FramePtr& outer) {
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
  void add_functions();
  static Dict made_dict(Arguments& a);
  Value range(Arguments& a);

  void say(Text& out, const Text& text);
  void exec(const Node& n, const FramePtr& frame, Text& out);
  void assign(const Node& target, Value value, const FramePtr& frame);
  void exec_set(const Node& n, const FramePtr& frame);
  void exec_for(const Node& n, const FramePtr& frame, Text& out, const Value& iterable, int depth);
  Value loop_value(const Node& n, const FramePtr& frame, const List& items, size_t i, int depth);
  // For callables, which stand in frames: a frame that they held would never go. This run keeps it.
  std::weak_ptr<Frame> keep(const FramePtr& frame);
  // Parameters of a macro or of a call block's body, bound to arguments, and its output.
  Value macro(const Node& n, const FramePtr& frame, size_t body = 0);
  void exec_call(const Node& n, const FramePtr& frame, Text& out);

  Value invoke(const Value& callee, Arguments& a);
  Arguments arguments(const Node& n, size_t first, const FramePtr& frame);
  // A chain of filters whose innermost input is given.
  Value filtered(const Node& n, Value input, const FramePtr& frame);
  Value attribute(const Value& object, const std::string& name);
  Value eval(const Node& n, const FramePtr& frame);
  static Value unary(const Node& n, const Value& v);
  Value compare(const Node& n, const FramePtr& frame);
  static bool holds(const std::string& op, const Value& a, const Value& b);
  Value binary(const Node& n, const FramePtr& frame);
  Value bounded(Text text);
  Value repeated(const Value& v, int64_t times);
  // "%s and %d" % (a, b)
  static Value percent(const Text& format, const Value& values);
  // Python's: // and % round towards minus infinity, / is always a float.
  static Value arithmetic(const std::string& op, const Value& a, const Value& b);

  const Limits& limits_;
  const FramePtr globals_;
  std::vector<FramePtr> kept_;
  size_t steps_ = 0, said_ = 0, depth_ = 0;
  uint32_t line_ = 0;
};

}  // namespace trireme::jinja
