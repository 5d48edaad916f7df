#include "runtime/gateway/choice_text.h"

namespace trireme {

ChoiceText::ChoiceText(const Tokenizer& tokenizer, const SamplingParams& params,
                       bool skip_special_tokens)
    : stream_(TokenStream::after_prompt(tokenizer, skip_special_tokens)),
      stops_(params.stop, params.include_stop_str_in_output),
      min_tokens_(params.min_tokens) {}

bool ChoiceText::push(const SampledToken& token, ChoiceDelta& delta) {
  if (finished_) return false;
  ++tokens_;
  delta.tokens.push_back(token);
  delta.text += stops_.push(stream_.push(token.token), tokens_ > min_tokens_);
  if (!stops_.stopped()) return false;
  finished_ = true;
  finish_reason_ = "stop";
  stop_string_ = stops_.stop();
  delta.finished = true;
  return true;
}

void ChoiceText::finish(const Event& event, ChoiceDelta& delta) {
  if (finished_) return;
  finished_ = true;
  delta.finished = true;
  const bool armed = tokens_ > min_tokens_;
  delta.text += stops_.push(stream_.finish(), armed);
  if (stops_.stopped()) {
    finish_reason_ = "stop";
    stop_string_ = stops_.stop();
    return;
  }
  delta.text += stops_.finish();
  stop_token_ = event.stop_token;
  failure_ = event.failure;
  switch (event.finish) {
    case FinishReason::kStop:
      finish_reason_ = "stop";
      break;
    case FinishReason::kLength:
      finish_reason_ = "length";
      break;
    case FinishReason::kFailed:
      finish_reason_ = "error";
      break;
    case FinishReason::kCancelled:
    case FinishReason::kNone:
      finish_reason_ = "abort";
      break;
  }
}

}  // namespace trireme
