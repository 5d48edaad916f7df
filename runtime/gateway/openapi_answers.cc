// The schemas of answers.
#include <string_view>

#include <boost/json/parse.hpp>

#include "kernels/base/check.h"
#include "runtime/gateway/openapi.h"

namespace trireme {
namespace {

constexpr std::string_view kAnswers = R"json({
  "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
    "required": ["message", "type", "param", "code"], "properties": {
      "message": {"type": "string"}, "type": {"type": "string"},
      "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
      "n_prompt_tokens": {"type": "integer"}, "max_model_len": {"type": "integer"}}}}},
  "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {
      "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
      "total_tokens": {"type": "integer"},
      "prompt_tokens_details": {"type": "object", "required": ["cached_tokens"],
        "properties": {"cached_tokens": {"type": "integer"}}}}},
  "Timings": {"type": "object", "description": "With timings_per_token.",
    "required": ["cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms"], "properties": {
      "cache_n": {"type": "integer"}, "prompt_n": {"type": "integer"},
      "prompt_ms": {"type": "number"}, "prompt_per_second": {"type": "number"},
      "predicted_n": {"type": "integer"}, "predicted_ms": {"type": "number"},
      "predicted_per_second": {"type": "number"}}},
  "TokenIds": {"type": "array", "items": {"type": "integer"},
    "description": "With return_token_ids."},
  "PromptLogprobs": {"type": "array", "description": "With prompt_logprobs; null for the first.",
    "items": {"type": ["object", "null"]}},
  "CompletionLogprobs": {"type": "object",
    "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"], "properties": {
      "tokens": {"type": "array", "items": {"type": "string"}},
      "token_logprobs": {"type": "array", "items": {"type": ["number", "null"]}},
      "top_logprobs": {"type": "array", "items": {"type": ["object", "null"]}},
      "text_offset": {"type": "array", "items": {"type": "integer"}}}},
  "CompletionChoice": {"type": "object",
    "required": ["index", "text", "logprobs", "finish_reason"], "properties": {
      "index": {"type": "integer"}, "text": {"type": "string"},
      "logprobs": {"anyOf": [{"$ref": "#/components/schemas/CompletionLogprobs"}, {"type": "null"}]},
      "finish_reason": {"enum": ["stop", "length", "abort", null]},
      "stop_reason": {"type": ["string", "integer", "null"]},
      "token_ids": {"$ref": "#/components/schemas/TokenIds"},
      "prompt_token_ids": {"$ref": "#/components/schemas/TokenIds"},
      "prompt_logprobs": {"$ref": "#/components/schemas/PromptLogprobs"}}},
  "Completion": {"type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"], "properties": {
      "id": {"type": "string"}, "object": {"const": "text_completion"},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "system_fingerprint": {"type": "string"},
      "choices": {"type": "array", "items": {"$ref": "#/components/schemas/CompletionChoice"}},
      "usage": {"$ref": "#/components/schemas/Usage"},
      "timings": {"$ref": "#/components/schemas/Timings"}}},
  "CompletionChunk": {"type": "object", "required": ["id", "object", "created", "model", "choices"],
    "properties": {
      "id": {"type": "string"}, "object": {"const": "text_completion"},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "choices": {"type": "array", "items": {"$ref": "#/components/schemas/CompletionChoice"}},
      "usage": {"$ref": "#/components/schemas/Usage"}}},
  "TokenLogprob": {"type": "object", "required": ["token", "logprob", "bytes"], "properties": {
    "token": {"type": "string"}, "logprob": {"type": "number", "maximum": 0},
    "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    "top_logprobs": {"type": "array", "items": {"$ref": "#/components/schemas/TokenLogprob"}}}},
  "ChatLogprobs": {"type": "object", "required": ["content", "refusal"], "properties": {
    "content": {"type": "array", "items": {"$ref": "#/components/schemas/TokenLogprob"}},
    "refusal": {"type": "null"}}},
  "ToolCall": {"type": "object", "required": ["id", "type", "function"], "properties": {
    "id": {"type": "string"}, "type": {"const": "function"},
    "function": {"type": "object", "required": ["name", "arguments"], "properties": {
      "name": {"type": "string"}, "arguments": {"type": "string"}}}}},
  "ChatChoice": {"type": "object",
    "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
      "index": {"type": "integer"},
      "message": {"type": "object", "required": ["role", "content", "refusal"], "properties": {
        "role": {"const": "assistant"}, "content": {"type": ["string", "null"]},
        "refusal": {"type": "null"},
        "tool_calls": {"type": "array", "minItems": 1,
          "items": {"$ref": "#/components/schemas/ToolCall"}}}},
      "logprobs": {"anyOf": [{"$ref": "#/components/schemas/ChatLogprobs"}, {"type": "null"}]},
      "finish_reason": {"enum": ["stop", "length", "tool_calls", "abort"]},
      "stop_reason": {"type": ["string", "integer", "null"]},
      "token_ids": {"$ref": "#/components/schemas/TokenIds"}}},
  "ChatCompletion": {"type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"], "properties": {
      "id": {"type": "string"}, "object": {"const": "chat.completion"},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "system_fingerprint": {"type": "string"},
      "choices": {"type": "array", "items": {"$ref": "#/components/schemas/ChatChoice"}},
      "usage": {"$ref": "#/components/schemas/Usage"},
      "timings": {"$ref": "#/components/schemas/Timings"},
      "prompt_token_ids": {"$ref": "#/components/schemas/TokenIds"},
      "prompt_logprobs": {"$ref": "#/components/schemas/PromptLogprobs"}}},
  "ChatCompletionChunk": {"type": "object",
    "required": ["id", "object", "created", "model", "choices"], "properties": {
      "id": {"type": "string"}, "object": {"const": "chat.completion.chunk"},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "choices": {"type": "array", "items": {"type": "object",
        "required": ["index", "delta", "finish_reason"], "properties": {
          "index": {"type": "integer"},
          "delta": {"type": "object", "properties": {
            "role": {"const": "assistant"}, "content": {"type": "string"},
            "tool_calls": {"type": "array", "items": {"type": "object",
              "required": ["index", "function"], "properties": {"index": {"type": "integer"},
                "id": {"type": "string"}, "type": {"const": "function"}}}}}},
          "logprobs": {"anyOf": [{"$ref": "#/components/schemas/ChatLogprobs"}, {"type": "null"}]},
          "finish_reason": {"enum": ["stop", "length", "tool_calls", "abort", null]}}}},
      "usage": {"$ref": "#/components/schemas/Usage"}}},
  "Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
    "id": {"type": "string"}, "object": {"const": "model"}, "created": {"type": "integer"},
    "owned_by": {"type": "string"}, "root": {"type": "string"}, "parent": {"type": "null"},
    "max_model_len": {"type": ["integer", "null"]}}},
  "ModelList": {"type": "object", "required": ["object", "data"], "properties": {
    "object": {"const": "list"},
    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
  "Health": {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
  "Version": {"type": "object", "required": ["version"],
    "properties": {"version": {"type": "string"}}},
  "Tokenized": {"type": "object", "required": ["count", "max_model_len", "tokens"], "properties": {
    "count": {"type": "integer"}, "max_model_len": {"type": ["integer", "null"]},
    "tokens": {"type": "array", "items": {"type": "integer"}},
    "token_strs": {"type": ["array", "null"], "items": {"type": "string"}}}},
  "Detokenized": {"type": "object", "required": ["prompt", "content"], "properties": {
    "prompt": {"type": "string"}, "content": {"type": "string"}}},
  "TokenizerInfo": {"type": "object", "required": ["bos_token", "eos_token", "chat_template"],
    "properties": {
      "tokenizer_class": {"type": "string"}, "vocab_size": {"type": "integer"},
      "bos_token": {"type": ["string", "null"]}, "eos_token": {"type": ["string", "null"]},
      "pad_token": {"type": ["string", "null"]}, "chat_template": {"type": ["string", "null"]},
      "model_max_length": {"type": ["integer", "null"]}}}
})json";

}  // namespace

JsonObject openapi_answers() {
  boost::system::error_code error;
  Json value = boost::json::parse(kAnswers, error);
  CHECK(!error && value.is_object()) << "the answers' schemas are not JSON: " << error.message();
  return std::move(value.get_object());
}

}  // namespace trireme
