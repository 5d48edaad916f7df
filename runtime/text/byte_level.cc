#include "runtime/text/byte_level.h"

#include <array>

#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kFirstOther = 0x100;
constexpr size_t kCharacters = 0x100 + 68;

constexpr std::array<char32_t, 256> characters() {
  std::array<char32_t, 256> table = {};
  char32_t other = kFirstOther;
  for (unsigned byte = 0; byte < 256; ++byte) {
    table[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : other++;
  }
  return table;
}
constexpr std::array<char32_t, 256> kCharacterOf = characters();

constexpr std::array<int16_t, kCharacters> bytes() {
  std::array<int16_t, kCharacters> table = {};
  for (int16_t& byte : table) byte = -1;
  for (int16_t byte = 0; byte < 256; ++byte) table[kCharacterOf[static_cast<size_t>(byte)]] = byte;
  return table;
}
constexpr std::array<int16_t, kCharacters> kByteOf = bytes();

}  // namespace

void append_byte_level(std::string_view bytes, std::string& text) {
  for (const char byte : bytes) append_utf8(kCharacterOf[static_cast<uint8_t>(byte)], text);
}

std::optional<std::string> bytes_of_byte_level(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = code_point_at(text, i);
    i += point.bytes;
    if (point.value >= kCharacters || kByteOf[point.value] < 0) return std::nullopt;
    out.push_back(static_cast<char>(kByteOf[point.value]));
  }
  return out;
}

}  // namespace trireme
