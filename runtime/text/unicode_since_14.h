// What Unicode 15, 15.1 and 16 added to the properties that tokenizers' patterns name. PCRE2 10.42
// knows Unicode 14; Oniguruma 6.9.10, which the models' own tokenizers run on, knows Unicode 16,
// and among the 9,000 new letters are two blocks of Han.
//
// How the table was made: every code point was matched against the property by both libraries; the
// table holds what Oniguruma alone matched. With a newer PCRE2 it repeats what is there.
#pragma once

#include <string_view>

namespace trireme {

// Characters and ranges as they are written in a PCRE2 class, "\x{1C89}\x{A7CB}-\x{A7CC}"; empty
// where nothing was added. `property`: lower case, a general category of two letters, "alphabetic",
// "uppercase", "lowercase" or a script.
std::string_view unicode_since_14(std::string_view property);

}  // namespace trireme
