#include "runtime/chat/jinja/arguments.h"

#include <fmt/format.h>

namespace trireme::jinja {

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

}  // namespace trireme::jinja
