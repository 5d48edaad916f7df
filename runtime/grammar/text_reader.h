// A text that is read character by character, with a bound on depth: what the front ends share.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "runtime/grammar/expression.h"
#include "runtime/text/utf8.h"

namespace trireme::grammar {

class TextReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) {
    if (const auto bad = utf8_error(text))
      throw GrammarError{fmt::format("byte {} is not UTF-8", *bad)};
  }
  bool done() const { return at_ >= text_.size(); }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool starts(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(std::string_view what) {
    if (!starts(what)) return false;
    at_ += what.size();
    return true;
  }
  char32_t character() {
    if (done()) fail("it ends too early");
    const CodePoint c = code_point_at(text_, at_);
    at_ += c.bytes;
    return c.value;
  }
  uint32_t number(uint32_t max) {
    uint64_t value = 0;
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + static_cast<uint64_t>(text_[at_++] - '0');
      if (value > max) fail(fmt::format("a number is above {}", max));
    }
    if (at_ == begin) fail("a number is missing");
    return static_cast<uint32_t>(value);
  }
  char32_t hexadecimal(int digits) {
    char32_t value = 0;
    for (; digits > 0; --digits) {
      const char c = peek();
      const int d = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
      if (d < 0) fail("an escape needs more hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(d);
      ++at_;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      fail("an escape names no character");
    return value;
  }
  [[noreturn]] void fail(std::string_view what) const {
    throw GrammarError{fmt::format("at byte {}: {}", at_, what)};
  }
  // {m}, {m,}, {m,n}, after the '{'.
  std::pair<uint32_t, uint32_t> bounds() {
    const uint32_t min = number(kRepeatMax);
    uint32_t max = min;
    if (take(",")) max = peek() == '}' ? kUnbounded : number(kRepeatMax);
    if (!take("}")) fail("'}' is missing");
    if (max < min) fail("the second number of a repetition is below the first");
    return {min, max};
  }
  size_t place() const { return at_; }
  void go_to(size_t at) { at_ = at; }

  struct Deeper {
    explicit Deeper(TextReader& r) : reader(r) {
      if (++reader.depth_ > kDepthMax) reader.fail("it is nested too deep");
    }
    ~Deeper() { --reader.depth_; }
    TextReader& reader;
  };
  static constexpr int kDepthMax = 100;
  static constexpr uint32_t kRepeatMax = 10000;

 private:
  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace trireme::grammar
