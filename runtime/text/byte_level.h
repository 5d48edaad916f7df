// GPT-2's alphabet for bytes: each of the 256 bytes as one visible character, so that a
// vocabulary of strings can hold any bytes. The bytes ! to ~, 0xA1 to 0xAC and 0xAE to 0xFF stand
// for themselves; the other 68 are U+0100, U+0101, ... in order. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trireme {

void append_byte_level(std::string_view bytes, std::string& text);

// The bytes that `text` stands for, or nullopt where it has a character that is not of the
// alphabet. REQUIRES: text is well-formed UTF-8.
std::optional<std::string> bytes_of_byte_level(std::string_view text);

}  // namespace trireme
