// Filters, tests, methods and functions of Jinja and of Python's values, as far as chat templates
// use them. All throw Failure.
#pragma once

#include <string>

#include "runtime/chat/jinja/value.h"

namespace trireme::jinja {

// What a builtin may ask of the interpreter that runs it.
class Caller {
 public:
  virtual ~Caller() = default;
  // Counts the work that a loop inside a builtin does.
  virtual void spend(size_t steps) = 0;
  virtual Value filter(const std::string& name, const Value& input, Arguments& arguments) = 0;
  virtual bool test(const std::string& name, const Value& input, Arguments& arguments) = 0;
};

Value apply_filter(const std::string& name, const Value& input, Arguments& arguments,
                   Caller& caller);
bool apply_test(const std::string& name, const Value& input, Arguments& arguments);

// A method of a string, list or dict, bound to it; undefined where there is none of this name.
Value method_of(const Value& object, const std::string& name);

// get, keys, values or items of a dict.
Value dict_method(const Value& object, const std::string& name, Arguments& arguments);

// object[key] and object.key; undefined where there is nothing.
Value item_of(const Value& object, const Value& key);

// The items that a loop over it has: of a list its own, of a dict its keys, of a string its
// characters. Fails for others.
List items_of(const Value& value);

// Python's slice. Null parts: undefined or none.
Value slice_of(const Value& object, const Value& begin, const Value& end, const Value& step);

bool contains(const Value& container, const Value& item);

}  // namespace trireme::jinja
