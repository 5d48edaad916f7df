// One choice of an answer, from the engine's tokens to the text that its client sees: whole
// characters, stop strings found and cut, log-probabilities beside it. One thread at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/request.h"
#include "runtime/text/stop_strings.h"
#include "runtime/text/token_stream.h"

namespace trireme {

// What a step adds to a choice.
struct ChoiceDelta {
  std::string text;
  std::vector<SampledToken> tokens;
  bool finished = false;  // the last delta
  bool empty() const { return text.empty() && tokens.empty() && !finished; }
};

class ChoiceText {
 public:
  ChoiceText(const Tokenizer& tokenizer, const SamplingParams& params, bool skip_special_tokens);

  // A token of the engine. True: the text has met a stop string with it, and the engine is to be
  // told. Tokens after the end are ignored.
  bool push(const SampledToken& token, ChoiceDelta& delta);
  // The engine's end of the choice, unless the text has ended before.
  void finish(const Event& event, ChoiceDelta& delta);

  bool finished() const { return finished_; }
  // "stop", "length", "abort" or "error"; "" before the end.
  const std::string& finish_reason() const { return finish_reason_; }
  const std::optional<std::string>& stop_string() const { return stop_string_; }
  int32_t stop_token() const { return stop_token_; }
  uint32_t tokens() const { return tokens_; }
  const Status& failure() const { return failure_; }

 private:
  TokenStream stream_;
  StopStrings stops_;
  const uint32_t min_tokens_;
  uint32_t tokens_ = 0;
  bool finished_ = false;
  std::string finish_reason_;
  std::optional<std::string> stop_string_;
  int32_t stop_token_ = -1;
  Status failure_;
};

}  // namespace trireme
