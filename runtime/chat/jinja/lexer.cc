#include <algorithm>

#include <fmt/format.h>

#include "runtime/chat/jinja/syntax.h"
#include "runtime/text/utf8.h"

namespace trireme::jinja {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    // One newline at the end is not part of a template.
    if (source_.ends_with('\n')) source_.remove_suffix(1);
    if (source_.ends_with('\r')) source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) data();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string message) { throw SyntaxError{line_, std::move(message)}; }
  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, line_, std::move(text)});
  }

  // Text up to the next tag, and the tag.
  void data() {
    size_t open = at_;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == std::string_view::npos) open = source_.size();
      if (open + 1 >= source_.size()) {
        open = source_.size();
        break;
      }
      const char next = source_[open + 1];
      if (next == '{' || next == '%' || next == '#') break;
    }
    std::string text(source_.substr(at_, open - at_));
    strip_begin(text);
    if (open == source_.size()) {
      emit(std::move(text));
      at_ = open;
      return;
    }
    const char kind = source_[open + 1];
    size_t inside = open + 2;
    const char control = inside < source_.size() ? source_[inside] : ' ';
    if (control == '-') {
      text.erase(std::find_if_not(text.rbegin(), text.rend(), is_space).base(), text.end());
    } else if (control != '+' && kind != '{') {
      strip_line_start(text);
    }
    if (control == '-' || control == '+') ++inside;
    count_lines(source_.substr(at_, open - at_));
    emit(std::move(text));
    at_ = inside;
    if (kind == '#') return comment();
    if (kind == '%' && raw()) return;
    tag(kind == '%');
  }

  void emit(std::string text) {
    if (!text.empty()) add(Token::Kind::kData, std::move(text));
  }
  void count_lines(std::string_view text) {
    line_ += static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n'));
  }

  // What the tag before asks of the text after it.
  void strip_begin(std::string& text) {
    if (strip_all_) {
      text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_space));
    } else if (trim_newline_ && text.starts_with("\r\n")) {
      text.erase(0, 2);
    } else if (trim_newline_ && text.starts_with('\n')) {
      text.erase(0, 1);
    }
    strip_all_ = trim_newline_ = false;
  }
  // lstrip_blocks: blanks between the start of the line and a block.
  void strip_line_start(std::string& text) {
    size_t keep = text.size();
    while (keep > 0 && is_space(text[keep - 1]) && text[keep - 1] != '\n') --keep;
    const bool line_start = keep > 0 ? text[keep - 1] == '\n' : at_ == 0 || after_newline_;
    if (line_start) text.resize(keep);
  }

  void end_of_tag(char control, size_t after, bool block) {
    strip_all_ = control == '-';
    trim_newline_ = block && control != '+';
    at_ = after;
    // A newline that the tag takes away is the start of a line all the same.
    after_newline_ = after > 0 && trim_newline_ && source_.substr(after).starts_with('\n');
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) fail("a comment has no end: '#}' is missing");
    count_lines(source_.substr(at_, end - at_));
    const char control = end > at_ ? source_[end - 1] : ' ';
    end_of_tag(control, end + 2, true);
  }

  // {% raw %} ... {% endraw %}
  bool raw() {
    size_t i = skip_spaces(at_);
    if (source_.substr(i, 3) != "raw") return false;
    i = skip_spaces(i + 3);
    const char control = i < source_.size() ? source_[i] : ' ';
    if (control == '-' || control == '+') ++i;
    if (source_.substr(i, 2) != "%}") return false;
    end_of_tag(control, i + 2, false);
    for (size_t open = at_;; ++open) {
      open = source_.find("{%", open);
      if (open == std::string_view::npos) fail("raw has no end: {% endraw %} is missing");
      size_t j = open + 2;
      const char begin_control = j < source_.size() ? source_[j] : ' ';
      if (begin_control == '-' || begin_control == '+') ++j;
      j = skip_spaces(j);
      if (source_.substr(j, 6) != "endraw") continue;
      j = skip_spaces(j + 6);
      const char end_control = j < source_.size() ? source_[j] : ' ';
      if (end_control == '-' || end_control == '+') ++j;
      if (source_.substr(j, 2) != "%}") continue;
      std::string text(source_.substr(at_, open - at_));
      count_lines(text);
      strip_begin(text);
      if (begin_control == '-') {
        text.erase(std::find_if_not(text.rbegin(), text.rend(), is_space).base(), text.end());
      } else if (begin_control != '+') {
        strip_line_start(text);
      }
      emit(std::move(text));
      end_of_tag(end_control, j + 2, true);
      return true;
    }
  }

  size_t skip_spaces(size_t i) const {
    while (i < source_.size() && is_space(source_[i])) ++i;
    return i;
  }

  void tag(bool block) {
    add(block ? Token::Kind::kBlockBegin : Token::Kind::kVariableBegin, "");
    const std::string_view end = block ? "%}" : "}}";
    int depth = 0;  // of brackets: a dict's "}}" ends nothing
    for (;;) {
      while (at_ < source_.size() && is_space(source_[at_])) line_ += source_[at_++] == '\n';
      if (at_ >= source_.size()) fail(fmt::format("a tag has no end: '{}' is missing", end));
      const char c = source_[at_];
      const bool controlled = (c == '-' || c == '+') && source_.substr(at_ + 1, 2) == end;
      if (depth == 0 && (controlled || source_.substr(at_, 2) == end)) {
        add(block ? Token::Kind::kBlockEnd : Token::Kind::kVariableEnd, "");
        return end_of_tag(controlled ? c : ' ', at_ + (controlled ? 3 : 2), block);
      }
      if (is_name_start(c)) {
        name();
      } else if (is_digit(c)) {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        operation(depth);
      }
    }
  }

  void name() {
    size_t end = at_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
    add(Token::Kind::kName, std::string(source_.substr(at_, end - at_)));
    at_ = end;
  }

  void number() {
    size_t end = at_;
    bool floating = false;
    std::string text;
    const auto digits = [&] {
      while (end < source_.size() && (is_digit(source_[end]) || source_[end] == '_')) {
        if (source_[end] != '_') text += source_[end];
        ++end;
      }
    };
    digits();
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      floating = true;
      text += source_[end++];
      digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-'))
        ++exponent;
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        floating = true;
        text += source_.substr(end, exponent - end);
        end = exponent;
        digits();
      }
    }
    add(floating ? Token::Kind::kFloat : Token::Kind::kInteger, std::move(text));
    at_ = end;
  }

  void string(char quote) {
    std::string text;
    size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] == '\n') ++line_;
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        text += source_[i];
        continue;
      }
      i = escape(i + 1, text);
    }
    if (i >= source_.size()) fail("a string has no end");
    add(Token::Kind::kString, std::move(text));
    at_ = i + 1;
  }

  // Returns the place of the escape's last character.
  size_t escape(size_t i, std::string& text) {
    static constexpr std::string_view kFrom = "nrtbfav0\\'\"", kTo("\n\r\t\b\f\a\v\0\\'\"", 11);
    const char c = source_[i];
    if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
      text += kTo[k];
      return i;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      if (c != '\n') {
        text += '\\';
        text += c;
      }
      return i;
    }
    char32_t value = 0;
    for (size_t k = 1; k <= digits; ++k) {
      const char d = i + k < source_.size() ? source_[i + k] : ' ';
      const int hex = is_digit(d)            ? d - '0'
                      : d >= 'a' && d <= 'f' ? d - 'a' + 10
                      : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                             : -1;
      if (hex < 0) fail(fmt::format("\\{} needs {} hexadecimal digits", c, digits));
      value = value * 16 + static_cast<char32_t>(hex);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) fail("an escape is no character");
    append_utf8(value, text);
    return i + digits;
  }

  void operation(int& depth) {
    static constexpr std::string_view kLong[] = {"==", "!=", "<=", ">=", "//", "**"};
    for (const std::string_view op : kLong) {
      if (source_.substr(at_, 2) != op) continue;
      add(Token::Kind::kOperator, std::string(op));
      at_ += 2;
      return;
    }
    const char c = source_[at_];
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos)
      fail(fmt::format("'{}' means nothing here", c));
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    if (depth < 0) fail(fmt::format("'{}' closes nothing", c));
    add(Token::Kind::kOperator, std::string(1, c));
    ++at_;
  }

  std::string_view source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool strip_all_ = false, trim_newline_ = false, after_newline_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source) { return Lexer(source).run(); }

}  // namespace trireme::jinja
