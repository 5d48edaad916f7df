// Codes of four and eight bits as checkpoints pack them in words of 32 bits, the first in the low
// bits. The methods' own (quantized_*.cc).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace trireme {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in the file");

// The eight nibbles of a word to eight bytes.
inline void spread_nibbles(uint32_t word, uint8_t* to) {
  uint64_t x = word;
  x = (x | x << 16) & 0x0000ffff0000ffffu;
  x = (x | x << 8) & 0x00ff00ff00ff00ffu;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
  std::memcpy(to, &x, sizeof x);
}

// The four bytes of a word, each less 128: codes of 0 .. 255 as signed bytes.
inline void spread_bytes(uint32_t word, uint8_t* to) {
  const uint32_t x = word ^ 0x80808080u;
  std::memcpy(to, &x, sizeof x);
}

// Code `index` of a word with codes of `bits`.
inline int32_t code_in_word(uint32_t word, int64_t index, int bits) {
  return static_cast<int32_t>(word >> (index * bits) & ((1u << bits) - 1));
}

}  // namespace trireme
