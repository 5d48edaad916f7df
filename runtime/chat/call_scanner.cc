#include "runtime/chat/call_scanner.h"

#include <string_view>
#include <utility>

#include "kernels/base/json.h"

namespace trireme {
namespace {

constexpr size_t kNameBytesMax = 512;
constexpr size_t kWordBytesMax = 64;
constexpr size_t kDepthMax = 64;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '+' || c == '-' ||
         c == '.';
}

// The content of a string with its quotes.
std::optional<std::string> unquoted(const std::string& token) {
  Result<Json> value = parse_json(token);
  if (!value.ok() || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

}  // namespace

bool CallScanner::in_string(char c) {
  if (std::exchange(escaped_, false)) return false;
  if (c == '\\') escaped_ = true;
  return c == '"';
}

CallScanner::State CallScanner::push(char c) {
  switch (part_) {
    case Part::kOpen:
      if (is_space(c)) return State::kMore;
      part_ = Part::kKey;
      return c == '{' ? State::kMore : State::kBroken;
    case Part::kKey:
      if (is_space(c)) return State::kMore;
      if (c == '}') return name_.has_value() ? State::kDone : State::kBroken;
      token_ = c;
      part_ = Part::kInKey;
      return c == '"' ? State::kMore : State::kBroken;
    case Part::kInKey: {
      token_ += c;
      if (!in_string(c)) return token_.size() > kNameBytesMax ? State::kBroken : State::kMore;
      const std::optional<std::string> key = unquoted(token_);
      if (!key.has_value()) return State::kBroken;
      member_ = Member::kOther;
      if (*key == "name") member_ = Member::kName;
      if (*key == "arguments" || *key == "parameters") member_ = Member::kArguments;
      if ((member_ == Member::kName && name_.has_value()) ||
          (member_ == Member::kArguments && has_arguments_))
        return State::kBroken;
      part_ = Part::kColon;
      return State::kMore;
    }
    case Part::kColon:
      if (is_space(c)) return State::kMore;
      part_ = Part::kValue;
      return c == ':' ? State::kMore : State::kBroken;
    case Part::kValue:
      return is_space(c) ? State::kMore : begin_value(c);
    case Part::kInValue:
      return in_value(c);
    case Part::kNext:
      if (is_space(c)) return State::kMore;
      if (c == '}') return name_.has_value() ? State::kDone : State::kBroken;
      part_ = Part::kKey;
      return c == ',' ? State::kMore : State::kBroken;
  }
  return State::kBroken;
}

void CallScanner::keep(char c) {
  if (member_ == Member::kArguments && form_ == Form::kNested) {
    arguments_ += c;
  } else if (member_ != Member::kOther) {
    token_ += c;
  }
}

CallScanner::State CallScanner::begin_value(char c) {
  part_ = Part::kInValue;
  token_.clear();
  open_.clear();
  string_ = c == '"';
  form_ = string_ ? Form::kString : c == '{' || c == '[' ? Form::kNested : Form::kWord;
  if (form_ == Form::kWord && !is_word(c)) return State::kBroken;
  if (form_ != Form::kString && member_ == Member::kName) return State::kBroken;
  if (form_ == Form::kNested) {
    open_ = c;
    if (member_ == Member::kArguments) has_arguments_ = true;
  }
  keep(c);
  return State::kMore;
}

CallScanner::State CallScanner::in_value(char c) {
  if (string_) {
    keep(c);
    if (member_ == Member::kName && token_.size() > kNameBytesMax) return State::kBroken;
    if (!in_string(c)) return State::kMore;
    string_ = false;
    return form_ == Form::kString ? end_value() : State::kMore;
  }
  if (form_ == Form::kWord) {
    if (is_word(c)) {
      keep(c);
      return token_.size() > kWordBytesMax ? State::kBroken : State::kMore;
    }
    const State ended = end_value();
    return ended == State::kMore ? push(c) : ended;
  }
  if (c == '}' || c == ']') {
    if (open_.back() != (c == '}' ? '{' : '[')) return State::kBroken;
    open_.pop_back();
    keep(c);
    return open_.empty() ? end_value() : State::kMore;
  }
  if (c == '{' || c == '[') {
    if (open_.size() == kDepthMax) return State::kBroken;
    open_ += c;
  } else if (c == '"') {
    string_ = true;
  } else if (!is_word(c) && !is_space(c) && c != ',' && c != ':') {
    return State::kBroken;
  }
  keep(c);
  return State::kMore;
}

CallScanner::State CallScanner::end_value() {
  part_ = Part::kNext;
  if (member_ == Member::kName) {
    name_ = unquoted(token_);
    if (!name_.has_value() || name_->empty()) return State::kBroken;
  } else if (member_ == Member::kArguments && form_ != Form::kNested) {
    has_arguments_ = true;
    std::optional<std::string> content = token_;
    if (form_ == Form::kString) content = unquoted(token_);
    if (!content.has_value()) return State::kBroken;
    arguments_ = *content == "null" ? "{}" : *content;
  }
  return bare_ ? State::kDone : State::kMore;
}

}  // namespace trireme
