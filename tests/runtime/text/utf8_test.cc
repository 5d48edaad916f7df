// Well-formed UTF-8 is told from what is not at the right byte, and bytes cut anywhere become the
// same text.
#include "runtime/text/utf8.h"

#include <utility>

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(Utf8, ErrorIsTheOffsetOfTheFirstBadByte) {
  const std::pair<std::string, std::optional<size_t>> cases[] = {
      {"", std::nullopt},
      {"plain", std::nullopt},
      {"h\u00e9 \u4f60 \U0001F642", std::nullopt},
      {std::string("a\0b", 3), std::nullopt},
      {"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", std::nullopt},  // U+D7FF U+E000 U+10FFFF
      {"ab\x80", 2},
      {"\xC0\xAF", 0},           // overlong '/'
      {"a\xC1\xBF", 1},          // overlong
      {"\xE0\x9F\xBF", 0},       // overlong
      {"\xF0\x8F\xBF\xBF", 0},   // overlong
      {"\xED\xA0\x80", 0},       // U+D800
      {"x\xF4\x90\x80\x80", 1},  // above U+10FFFF
      {"\xF5\x80\x80\x80", 0},
      {"\u00e9\xE2\x82", 2},  // ends in the middle
      {"\xE2\x82(", 0},
      {"\xFF", 0}};
  for (const auto& [text, error] : cases) EXPECT_EQ(utf8_error(text), error) << text;
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t value = 0; value <= 0x10FFFF; value = value == 0xD7FF ? 0xE000 : value + 1) {
    std::string text;
    append_utf8(value, text);
    ASSERT_EQ(utf8_error(text), std::nullopt) << text;
    ASSERT_TRUE(code_point_at(text, 0).value == value) << text;
    ASSERT_EQ(code_point_at(text, 0).bytes, text.size());
    ASSERT_TRUE(code_point_before("x" + text, text.size() + 1).value == value) << text;
  }
}

std::string assemble(std::string_view bytes, size_t piece) {
  Utf8Assembler assembler;
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += piece) {
    assembler.push(bytes.substr(i, piece), text);
    EXPECT_EQ(utf8_error(text), std::nullopt) << "after byte " << i;
    EXPECT_LE(assembler.bytes_held(), 3u);
  }
  assembler.finish(text);
  return text;
}

TEST(Utf8, AssemblerGivesOneReplacementForEachMaximalSubpart) {
  const std::string r(kReplacementCharacter);
  const std::pair<std::string, std::string> cases[] = {
      {"h\u00e9\u4f60\U0001F642!", "h\u00e9\u4f60\U0001F642!"},
      {"\xF0\x9F\x99", r},  // one: the beginning of a character
      {"\xF0\x9F\x99x", r + "x"},
      {"\xE2\x82\xE2\x82\xAC", r + "\u20ac"},
      {"\xED\xA0\x80", r + r + r},  // a surrogate: no subpart is longer than a byte
      {"\x80\x80", r + r},
      {"\xC3\xC3\xA9", r + "\u00e9"},
      {"\xF0\x80\x80", r + r + r},
      {"\xFF"
       "a",
       r + "a"}};
  for (const auto& [bytes, text] : cases) {
    for (size_t piece = 1; piece <= bytes.size(); ++piece) {
      EXPECT_EQ(assemble(bytes, piece), text) << "in pieces of " << piece;
    }
  }
}

TEST(Utf8, WhiteSpaceIsUnicodesAndLeavesOutTheMongolianVowelSeparator) {
  int count = 0;
  for (char32_t value = 0; value <= 0x10FFFF; ++value) count += is_white_space(value);
  EXPECT_EQ(count, 25);
  EXPECT_TRUE(is_white_space(0x3000));
  EXPECT_FALSE(is_white_space(0x180E));
  EXPECT_FALSE(is_white_space(0x200B));
}

}  // namespace
}  // namespace trireme
