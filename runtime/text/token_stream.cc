#include "runtime/text/token_stream.h"

namespace trireme {
namespace {

void append_replacements(size_t count, std::string& text) {
  for (size_t i = 0; i < count; ++i) text.append(kReplacementCharacter);
}

}  // namespace

std::string TokenStream::push(int32_t id) {
  std::string text;
  push_to(id, text);
  strip_start_of(text);
  hold_back_end_of(text);
  return text;
}

std::string TokenStream::finish() {
  std::string text;
  finish_to(text);
  strip_start_of(text);
  hold_back_end_of(text);
  tail_.clear();
  return text;
}

void TokenStream::push_to(int32_t id, std::string& text) {
  const TokenText token = tokenizer_.token_text(id, first_);
  if (!token.exists || (skip_special_ && token.special)) return;
  if (token.fallback_byte && rules_.byte_runs) {
    first_ = false;
    add_fallback_byte(token.bytes[0], text);
    return;
  }
  end_run(text);
  if (rules_.spaces_between && !first_) assembler_.push(" ", text);
  first_ = false;
  assembler_.push(token.bytes, text);
}

void TokenStream::finish_to(std::string& text) {
  end_run(text);
  assembler_.finish(text);
}

void TokenStream::add_fallback_byte(char byte, std::string& text) {
  if (run_bad_) {
    append_replacements(1, text);
    return;
  }
  run_.push_back(byte);
  if (whole_runs_) return;
  const Utf8Unit unit = utf8_unit(run_);
  if (unit.kind == Utf8Unit::Kind::kComplete) {
    text.append(run_);
    run_.clear();
  } else if (unit.kind == Utf8Unit::Kind::kBad) {
    append_replacements(run_.size(), text);
    run_.clear();
    run_bad_ = true;
  }
}

void TokenStream::end_run(std::string& text) {
  if (!run_.empty()) {
    if (whole_runs_ && !utf8_error(run_)) {
      text.append(run_);
    } else {
      append_replacements(run_.size(), text);
    }
  }
  run_.clear();
  run_bad_ = false;
}

void TokenStream::strip_start_of(std::string& text) {
  size_t bytes = 0;
  while (strip_left_ > 0 && bytes < text.size()) {
    if (std::string_view(text).substr(bytes).starts_with(rules_.strip)) {
      bytes += rules_.strip.size();
      --strip_left_;
    } else {
      strip_left_ = 0;
    }
  }
  text.erase(0, bytes);
}

void TokenStream::hold_back_end_of(std::string& text) {
  if (rules_.strip_end == 0) return;
  text.insert(0, tail_);
  size_t kept = text.size();
  for (size_t i = 0; i < rules_.strip_end; ++i) {
    if (!std::string_view(text).substr(0, kept).ends_with(rules_.strip)) break;
    kept -= rules_.strip.size();
  }
  tail_ = text.substr(kept);
  text.resize(kept);
}

}  // namespace trireme
