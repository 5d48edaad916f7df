// What Python's strings can do. All throw Failure; whose a text is goes with its bytes.
#pragma once

#include <string>

#include "runtime/chat/jinja/value.h"

namespace trireme::jinja {

// Each character by itself, as Unicode's simple mappings have it.
std::string map_case(const std::string& s, bool upper);
bool is_alpha(char c);
std::string capitalized(const std::string& s);
std::string titled(const std::string& s);
Text stripped(const Text& t, const Value* chars, bool left, bool right);
List split(const Text& t, const Value* separator, int64_t count, bool from_right);
List split_lines(const Text& t, bool keep_ends);
// Keeps what is the user's and what is not, piece by piece.
Text replaced(const Text& t, const Text& from, const Text& to, int64_t count);
bool any_affix(const Value& affix, const std::string& s, bool start);
// The method of this name. REQUIRES: is_text_method(name).
Value text_method(const Text& t, const std::string& name, Arguments& a);
bool is_text_method(std::string_view name);

}  // namespace trireme::jinja
