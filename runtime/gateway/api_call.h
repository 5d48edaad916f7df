// What a client asks of /v1/completions or /v1/chat/completions, read from its JSON: plain values,
// with every field in its range. Field names, ranges and defaults: OpenAI's API and vLLM's
// additions to it; a few of llama-server's names are accepted too.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/chat/tool_calls.h"
#include "runtime/engine/request.h"
#include "runtime/gateway/http/errors.h"

namespace trireme {

struct ApiLimits {
  uint32_t choices_max = 128;   // n
  uint32_t prompts_max = 2048;  // of one completions request
  uint32_t messages_max = 16384;
  int32_t logprobs_max = 20;
};

// Text, or its token ids.
using PromptInput = std::variant<std::string, std::vector<int32_t>>;

struct ToolChoice {
  enum class Kind : uint8_t { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kNone;
  std::string name;  // kNamed
};

struct ApiCall {
  bool chat = false;
  std::string model;  // "": not said
  Request base;       // without prompt; params.max_tokens counts only where max_tokens is given
  std::optional<uint32_t> max_tokens;  // none: what the endpoint says
  bool seeded = false;                 // base.params.seed was given
  std::string constraint_field;        // that says base.constraint
  std::string request_id;              // "": not said; goes into the answer's id
  bool timings = false;                // how long things took, in every object of the answer

  // Completions.
  std::vector<PromptInput> prompts;
  bool echo = false;
  // Chat.
  JsonArray messages, tools;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  // How tool calls stand in the output; none: it has none. kList, with base.constraint to match,
  // where a call is a must; else set_tool_format()'s matter.
  std::optional<ToolFormat> tool_format;
  bool add_generation_prompt = true, continue_final_message = false;
  JsonObject chat_template_kwargs;

  // Of both.
  std::vector<std::string> bad_words;  // text that never comes; its tokens go to base.params
  bool add_special_tokens = true;
  std::optional<uint32_t> truncate_prompt_tokens;
  bool logprobs = false;  // base.params.logprobs says how many
  bool stream = false, include_usage = false, continuous_usage = false;
  bool skip_special_tokens = true;
  bool return_token_ids = false, return_tokens_as_token_ids = false;
};

// The body of a request as an object.
std::variant<JsonObject, ApiError> parse_body(std::string_view body);

using ParsedCall = std::variant<ApiCall, ApiError>;

// `defaults`: what the server and the model say where the request does not.
ParsedCall parse_completion_call(const JsonObject& body, const SamplingParams& defaults,
                                 const ApiLimits& limits);
ParsedCall parse_chat_call(const JsonObject& body, const SamplingParams& defaults,
                           const ApiLimits& limits);

// For a chat whose model may call tools and writes calls in `format`, if it has one.
void set_tool_format(ApiCall& call, std::optional<ToolFormat> format);

}  // namespace trireme
