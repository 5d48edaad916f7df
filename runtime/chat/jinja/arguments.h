// Arguments of a builtin. All throw Failure.
#pragma once

#include <string_view>

#include "runtime/chat/jinja/value.h"

namespace trireme::jinja {

// An argument by place or by name; null: it is not given.
const Value* argument(const Arguments& a, size_t place, std::string_view name);
Value argument_or(const Arguments& a, size_t place, std::string_view name, Value otherwise);
const Value& need(const Arguments& a, size_t place, std::string_view what);
const Text& text_of(const Value& v, std::string_view what);

}  // namespace trireme::jinja
