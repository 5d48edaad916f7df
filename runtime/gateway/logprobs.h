// Log-probabilities as the API writes them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/sample/sampler.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

// How one token is written: its text (bytes that are no character as U+FFFD), or "token_id:7".
class TokenWriter {
 public:
  TokenWriter(const Tokenizer& tokenizer, bool as_ids) : tokenizer_(tokenizer), as_ids_(as_ids) {}
  std::string text(int32_t id) const;
  JsonArray bytes(int32_t id) const;

 private:
  const Tokenizer& tokenizer_;
  const bool as_ids_;
};

// The number, or -9999 for -inf and its like, which JSON has no word for.
double api_logprob(float logprob);

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of /v1/completions, as far as it has
// come. Offsets count code points of the tokens' texts.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const TokenWriter& writer, int32_t top) : writer_(writer), top_(top) {}

  // The first token of a prompt: nothing comes before it that could foretell it.
  void add_first(int32_t id);
  void add(const SampledToken& token);
  // What has been added since the last call.
  JsonObject take();

 private:
  void add_text(const std::string& text);

  const TokenWriter writer_;
  const int32_t top_;
  JsonArray tokens_, token_logprobs_, top_logprobs_, text_offset_;
  size_t offset_ = 0;
};

// An entry of choices[].logprobs.content of a chat completion.
JsonObject chat_logprob(const TokenWriter& writer, const SampledToken& token);

// vLLM's prompt_logprobs: [null, {"<id>": {"logprob", "rank"?, "decoded_token"}}, ...].
JsonArray prompt_logprobs(const TokenWriter& writer, std::span<const SampledToken> scores);

}  // namespace trireme
