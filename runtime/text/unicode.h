// Unicode algorithms that tokenizers use on whole texts: normalization forms, lower case, marks.
// Pure functions; any thread. The tables are libutf8proc's; the algorithms keep to O(n log n)
// whatever the text, which utf8proc's own canonical ordering does not (a run of n combining marks
// costs it n^2 / 4 swaps).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

enum class NormalForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// REQUIRES: text is well-formed UTF-8.
std::string normalize(std::string_view text, NormalForm form);

// Each character's lower case by itself (no context: a final sigma stays a plain one), as Rust's
// char::to_lowercase. REQUIRES: text is well-formed UTF-8.
std::string lower_case(std::string_view text);

// General category M.
bool is_mark(char32_t value);

}  // namespace trireme
