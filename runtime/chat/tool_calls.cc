#include "runtime/chat/tool_calls.h"

#include <utility>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr size_t kNameBytesMax = 512;
constexpr std::string_view kArgumentsTag = "[ARGS]";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_name(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '-' || c == '.';
}

std::string_view opening_tag(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return "<tool_call>";
    case ToolFormat::kLlama3:
      return "<|python_tag|>";
    case ToolFormat::kMistral:
      return "[TOOL_CALLS]";
    case ToolFormat::kList:
      return {};
  }
  return {};
}

}  // namespace

ToolCallReader::ToolCallReader(ToolReaderOptions options)
    : options_(std::move(options)), opening_(opening_tag(options_.format)) {
  if (options_.format == ToolFormat::kHermes) closing_ = "</tool_call>";
  if (options_.format == ToolFormat::kList) mode_ = Mode::kBetween;
}

ToolDelta ToolCallReader::push(std::string_view text) {
  for (const char c : text) step(c);
  return std::exchange(delta_, {});
}

ToolDelta ToolCallReader::finish() {
  switch (mode_) {
    case Mode::kText:
      add_content(std::exchange(held_, {}));
      break;
    case Mode::kBroken:
      add_arguments(std::exchange(held_, {}));
      break;
    case Mode::kBetween:
    case Mode::kNamed:
    case Mode::kCall:
      // The cut beginning of a list that has to be one says nothing to anybody.
      if (options_.format != ToolFormat::kList && !told_ &&
          (calls_ == 0 || mode_ != Mode::kBetween))
        add_content(std::exchange(raw_, {}));
      break;
    case Mode::kAfter:
      break;
  }
  if (calls_ == 0) delta_.content += std::exchange(spaces_, {});
  return std::exchange(delta_, {});
}

void ToolCallReader::step(char c) {
  switch (mode_) {
    case Mode::kText:
      return text(c);
    case Mode::kBetween:
      return between(c);
    case Mode::kNamed:
      return named(c);
    case Mode::kCall:
      return call(c);
    case Mode::kBroken:
      return broken(c);
    case Mode::kAfter:
      return after(c);
  }
}

std::string_view ToolCallReader::match(char c, const std::vector<std::string_view>& tags,
                                       std::string& rest) {
  held_ += c;
  for (; !held_.empty(); held_.erase(0, 1)) {
    bool begins = false;
    for (const std::string_view tag : tags) {
      if (held_ == tag) {
        held_.clear();
        return tag;
      }
      begins = begins || tag.starts_with(held_);
    }
    if (begins) return {};
    rest += held_[0];
  }
  return {};
}

void ToolCallReader::text(char c) {
  const bool whole = options_.format == ToolFormat::kLlama3 && !said_ && held_.empty();
  if (whole && c == '{') {
    begin_call(CallScanner());
    return call(c);
  }
  std::string rest;
  const std::string_view tag = match(c, {opening_}, rest);
  add_content(rest);
  if (!tag.empty()) open();
}

// The opening tag has been read.
void ToolCallReader::open() {
  raw_ = opening_;
  if (options_.format == ToolFormat::kHermes) return begin_call(CallScanner());
  mode_ = Mode::kBetween;
}

void ToolCallReader::between(char c) {
  if (c == '{') {
    begin_call(CallScanner());
    return call(c);
  }
  raw_ += c;
  if (is_space(c) || c == ',' || c == '[' || c == ']' || c == ';') return;
  if (options_.format == ToolFormat::kMistral && is_name(c)) {
    mode_ = Mode::kNamed;
    name_ = c;
    return;
  }
  give_up();
}

void ToolCallReader::named(char c) {
  if (c == '{') {
    if (name_.ends_with(kArgumentsTag)) name_.resize(name_.size() - kArgumentsTag.size());
    begin_call(CallScanner(std::exchange(name_, {})));
    return call(c);
  }
  raw_ += c;
  name_ += c;
  const size_t bracket = name_.find('[');
  const std::string_view tail =
      bracket == std::string::npos ? std::string_view() : std::string_view(name_).substr(bracket);
  const bool fits = bracket == std::string::npos ? is_name(c) : kArgumentsTag.starts_with(tail);
  if (!fits || name_.size() > kNameBytesMax) give_up();
}

void ToolCallReader::begin_call(CallScanner scanner) {
  scanner_ = std::move(scanner);
  told_ = false;
  mode_ = Mode::kCall;
}

void ToolCallReader::call(char c) {
  if (!told_) raw_ += c;
  const CallScanner::State state = scanner_.push(c);
  const bool done = state == CallScanner::State::kDone;
  if (!told_ && scanner_.name().has_value() && (scanner_.has_arguments() || done) && !tell())
    return give_up();
  if (told_) add_arguments(scanner_.take_arguments());
  if (done) return end_call();
  if (state == CallScanner::State::kMore) return;
  if (!told_) return give_up();
  mode_ = Mode::kBroken;
  broken(c);
}

// False: it is no call after all.
bool ToolCallReader::tell() {
  // Without a tag an answer in JSON looks like a call.
  const bool bare = options_.format == ToolFormat::kLlama3;
  if (bare && (!scanner_.has_arguments() || !options_.names.contains(*scanner_.name())))
    return false;
  raw_.clear();
  spaces_.clear();
  told_ = true;
  after_call_ = true;
  if (calls_++ >= options_.calls_max) return true;
  ToolCallDelta& begun = delta_.calls.emplace_back();
  begun.index = calls_ - 1;
  begun.id = options_.make_id ? options_.make_id() : fmt::format("call_{}", calls_ - 1);
  begun.name = *scanner_.name();
  if (!scanner_.has_arguments()) begun.arguments = "{}";
  return true;
}

void ToolCallReader::end_call() {
  told_ = false;
  if (!closing_.empty()) {
    mode_ = Mode::kAfter;
  } else {  // the form with a name before the braces has the tag before every call
    mode_ = scanner_.bare() ? Mode::kText : Mode::kBetween;
  }
}

// What was held back is content; its last byte, which made that plain, may begin a tag.
void ToolCallReader::give_up() {
  mode_ = Mode::kText;
  const char last = raw_.back();
  raw_.pop_back();
  add_content(std::exchange(raw_, {}));
  text(last);
}

void ToolCallReader::broken(char c) {
  if (closing_.empty()) {
    add_arguments(std::string_view(&c, 1));
    return;
  }
  std::string rest;
  const std::string_view tag = match(c, {closing_, opening_}, rest);
  add_arguments(rest);
  if (tag == closing_) mode_ = Mode::kText;
  if (tag == opening_) open();
}

void ToolCallReader::after(char c) {
  std::string rest;  // between the call and its closing tag: nothing that anybody asked for
  const std::string_view tag = match(c, {closing_, opening_}, rest);
  if (tag.empty()) return;
  mode_ = Mode::kText;
  if (tag == opening_) open();
}

void ToolCallReader::add_content(std::string_view text) {
  for (const char c : text) {
    if (is_space(c)) {
      spaces_ += c;
      continue;
    }
    if (std::exchange(after_call_, false)) spaces_.clear();
    delta_.content += std::exchange(spaces_, {});
    delta_.content += c;
    said_ = true;
  }
}

void ToolCallReader::add_arguments(std::string_view text) {
  if (text.empty() || calls_ > options_.calls_max) return;
  if (delta_.calls.empty() || delta_.calls.back().index != calls_ - 1) {
    delta_.calls.emplace_back();
    delta_.calls.back().index = calls_ - 1;
  }
  delta_.calls.back().arguments += text;
}

}  // namespace trireme
