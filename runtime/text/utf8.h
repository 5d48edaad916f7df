// UTF-8: validation, code points, and turning a stream of bytes into text. Pure functions and a
// small value type; any thread. What is well formed is table 3-7 of the Unicode standard: no
// surrogates, no overlong forms, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme {

// U+FFFD, what stands for bytes that are not text.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// The offset of the first byte that is not part of well-formed UTF-8, or nullopt.
std::optional<size_t> utf8_error(std::string_view text);

// What `bytes` begins with.
struct Utf8Unit {
  enum class Kind : uint8_t {
    kComplete,    // a character of `bytes` bytes
    kIncomplete,  // all of `bytes` (1 to 3 bytes) may still become a character
    kBad,         // `bytes` bytes (a "maximal subpart") that can never become one
  };
  Kind kind = Kind::kBad;
  size_t bytes = 0;
};
// REQUIRES: !bytes.empty().
Utf8Unit utf8_unit(std::string_view bytes);

struct CodePoint {
  char32_t value = 0;
  size_t bytes = 0;
};
// REQUIRES: a well-formed character begins at text[offset].
CodePoint code_point_at(std::string_view text, size_t offset);
// REQUIRES: offset > 0 and a well-formed character ends at text[offset].
CodePoint code_point_before(std::string_view text, size_t offset);

// REQUIRES: a Unicode scalar value.
void append_utf8(char32_t value, std::string& text);

// Unicode's White_Space property, as Rust's char::is_whitespace and Oniguruma's \s.
bool is_white_space(char32_t value);

// Turns bytes that arrive in pieces of any cut into well-formed UTF-8: one U+FFFD for each maximal
// subpart that can never become a character, as Rust's String::from_utf8_lossy does.
// INVARIANT: holds back at most 3 bytes.
class Utf8Assembler {
 public:
  void push(std::string_view bytes, std::string& text);
  // What is held back will not be completed: U+FFFD if there is any.
  void finish(std::string& text);
  size_t bytes_held() const { return held_bytes_; }

 private:
  char held_[4] = {};
  size_t held_bytes_ = 0;
};

}  // namespace trireme
