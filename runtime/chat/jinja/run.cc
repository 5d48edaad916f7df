#include "runtime/chat/jinja/run.h"

namespace trireme::jinja {

void Run::add_functions() {
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

Dict Run::made_dict(Arguments& a) {
  Dict dict;
  if (!a.positional.empty() && a.positional[0].is_dict()) dict = a.positional[0].as_dict();
  for (auto& [name, value] : a.named) dict.set(name, value);
  return dict;
}

Value Run::range(Arguments& a) {
  if (a.positional.empty() || a.positional.size() > 3) throw Failure{"range takes 1 to 3 numbers"};
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

}  // namespace trireme::jinja
