// The keywords of JSON Schema: which are read, and what they say, as far as that is about one
// keyword alone. All throw GrammarError with the place in the schema.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "kernels/base/json.h"

namespace trireme::grammar {

// Throws "at #/properties/a: what".
[[noreturn]] void fail(const std::string& where, std::string_view what);

// `type` as a string.
std::string name_of(const Json& type, const std::string& where);

// Of a schema without `type`, by its keywords: "object", ..., or "any".
std::string implied_type(const JsonObject& o);

// A keyword that would be wrong to ignore is refused.
void check_keywords(const JsonObject& o, const std::string& where);

// Says nothing about values.
bool is_annotation(std::string_view key);

// A keyword beside `word` that would have to hold as well is refused.
void only_beside(const char* word, const std::set<std::string_view>& known, const JsonObject& o,
                 const std::string& where);

// Whether a value is of a type of JSON Schema: integers are numbers.
bool has_type(const Json& value, std::string_view type);

// A number of characters or items; `otherwise` where there is none.
uint32_t count(const JsonObject& o, const char* word, uint32_t otherwise, const std::string& where);

// The bound as an integer; `otherwise` where there is none.
int64_t bound(const JsonObject& o, const char* word, int64_t otherwise, const std::string& where);

}  // namespace trireme::grammar
