#include "runtime/text/utf8.h"

#include "kernels/base/check.h"

namespace trireme {
namespace {

// Length of the character that `lead` begins and the range of its second byte; 0: no lead byte.
struct Lead {
  uint8_t bytes;
  uint8_t second_min;
  uint8_t second_max;
};

Lead lead_of(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Unit utf8_unit(std::string_view bytes) {
  CHECK(!bytes.empty());
  const Lead lead = lead_of(static_cast<uint8_t>(bytes[0]));
  if (lead.bytes == 0) return {Utf8Unit::Kind::kBad, 1};
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (i == bytes.size()) return {Utf8Unit::Kind::kIncomplete, i};
    const uint8_t byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Unit::Kind::kBad, i};
  }
  return {Utf8Unit::Kind::kComplete, lead.bytes};
}

std::optional<size_t> utf8_error(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Unit unit = utf8_unit(text.substr(i, 4));
    if (unit.kind != Utf8Unit::Kind::kComplete) return i;
    i += unit.bytes;
  }
  return std::nullopt;
}

CodePoint code_point_at(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[offset + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {char32_t((lead & 0x1Fu) << 6 | (byte(1) & 0x3Fu)), 2};
  if (lead < 0xF0) {
    return {char32_t((lead & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu)), 3};
  }
  return {char32_t((lead & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 |
                   (byte(3) & 0x3Fu)),
          4};
}

CodePoint code_point_before(std::string_view text, size_t offset) {
  size_t begin = offset - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return code_point_at(text, begin);
}

void append_utf8(char32_t value, std::string& text) {
  const auto add = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    add(value);
  } else if (value < 0x800) {
    add(0xC0 | value >> 6);
    add(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    add(0xE0 | value >> 12);
    add(0x80 | (value >> 6 & 0x3F));
    add(0x80 | (value & 0x3F));
  } else {
    add(0xF0 | value >> 18);
    add(0x80 | (value >> 12 & 0x3F));
    add(0x80 | (value >> 6 & 0x3F));
    add(0x80 | (value & 0x3F));
  }
}

bool is_white_space(char32_t value) {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 ||
         value == 0x2029 || value == 0x202F || value == 0x205F || value == 0x3000;
}

void Utf8Assembler::push(std::string_view bytes, std::string& text) {
  size_t i = 0;
  while (held_bytes_ > 0 && i < bytes.size()) {  // complete or give up what is held back
    held_[held_bytes_] = bytes[i];
    const Utf8Unit unit = utf8_unit({held_, held_bytes_ + 1});
    if (unit.kind == Utf8Unit::Kind::kIncomplete) {
      ++held_bytes_;
      ++i;
    } else if (unit.kind == Utf8Unit::Kind::kComplete) {
      text.append(held_, unit.bytes);
      held_bytes_ = 0;
      ++i;
    } else {  // the held bytes were a maximal subpart; the new byte is looked at again
      text.append(kReplacementCharacter);
      held_bytes_ = 0;
    }
  }
  while (i < bytes.size()) {
    const Utf8Unit unit = utf8_unit(bytes.substr(i, 4));
    if (unit.kind == Utf8Unit::Kind::kComplete) {
      text.append(bytes.substr(i, unit.bytes));
    } else if (unit.kind == Utf8Unit::Kind::kBad) {
      text.append(kReplacementCharacter);
    } else {
      held_bytes_ = unit.bytes;
      bytes.copy(held_, unit.bytes, i);
    }
    i += unit.bytes;
  }
}

void Utf8Assembler::finish(std::string& text) {
  if (held_bytes_ > 0) text.append(kReplacementCharacter);
  held_bytes_ = 0;
}

}  // namespace trireme
