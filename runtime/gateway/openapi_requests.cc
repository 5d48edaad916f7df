// The schemas of request bodies. Absent and null are the same to the parsers, so null is put beside
// the kind of each field that is not required.
#include <string_view>

#include <boost/json/parse.hpp>

#include "kernels/base/check.h"
#include "runtime/gateway/openapi.h"

namespace trireme {
namespace {

constexpr std::string_view kCommon = R"json({
  "model": {"$ref": "#/components/schemas/ServedModel"},
  "stream": {"type": "boolean", "description": "Answer as server-sent events; the last is [DONE]."},
  "stream_options": {"type": "object", "properties": {
    "include_usage": {"type": ["boolean", "null"]},
    "continuous_usage_stats": {"type": ["boolean", "null"]}}},
  "n": {"type": "integer", "minimum": 1, "maximum": 128},
  "seed": {"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807},
  "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 64}]},
  "stop_token_ids": {"type": "array", "items": {"$ref": "#/components/schemas/Token"}, "maxItems": 64},
  "include_stop_str_in_output": {"type": "boolean"},
  "temperature": {"type": "number", "minimum": 0, "maximum": 2},
  "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
  "top_k": {"type": "integer", "minimum": -1, "maximum": 2147483647},
  "min_p": {"type": "number", "minimum": 0, "maximum": 1},
  "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "repetition_penalty": {"type": "number", "exclusiveMinimum": 0, "maximum": 3.4e38},
  "repeat_penalty": {"type": "number", "exclusiveMinimum": 0, "maximum": 3.4e38},
  "logit_bias": {"type": "object", "maxProperties": 4096,
    "propertyNames": {"pattern": "^[0-9]{1,9}$"},
    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
  "allowed_token_ids": {"type": "array", "minItems": 1, "maxItems": 1048576,
    "items": {"$ref": "#/components/schemas/Token"}},
  "bad_words": {"anyOf": [{"type": "string", "minLength": 1},
    {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 512}]},
  "ignore_eos": {"type": "boolean"},
  "min_tokens": {"type": "integer", "minimum": 0, "maximum": 2147483647},
  "n_predict": {"type": "integer", "minimum": -1, "maximum": 2147483647,
    "description": "max_tokens, where that is absent; -1: no limit but the context."},
  "priority": {"type": "integer", "minimum": -1000000, "maximum": 1000000,
    "description": "Lower is served first."},
  "prompt_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "cache_salt": {"type": "string", "maxLength": 1024},
  "request_id": {"type": "string", "maxLength": 256},
  "user": {"type": "string"},
  "truncate_prompt_tokens": {"type": "integer", "minimum": -1, "maximum": 2147483647,
    "not": {"const": 0}, "description": "Keeps the last so many tokens; -1: as many as fit."},
  "skip_special_tokens": {"type": "boolean"},
  "return_token_ids": {"type": "boolean"},
  "return_tokens_as_token_ids": {"type": "boolean"},
  "add_special_tokens": {"type": "boolean"},
  "timings_per_token": {"type": "boolean"},
  "response_format": {"type": "object", "required": ["type"], "anyOf": [
    {"properties": {"type": {"const": "text"}}},
    {"properties": {"type": {"const": "json_object"}}},
    {"properties": {"type": {"const": "json_schema"}, "json_schema": {"type": "object",
      "required": ["schema"], "properties": {"name": {}, "strict": {},
        "schema": {"$ref": "#/components/schemas/JsonSchema"}}}}, "required": ["json_schema"]}]},
  "structured_outputs": {"type": "object", "description": "The form of the output, one of these.",
    "properties": {
      "json": {"anyOf": [{"$ref": "#/components/schemas/JsonSchema"}, {"type": "null"}]},
      "regex": {"type": ["string", "null"]},
      "choice": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1,
        "maxItems": 4096},
      "grammar": {"type": ["string", "null"]},
      "json_object": {"type": ["boolean", "null"]}}},
  "guided_json": {"$ref": "#/components/schemas/JsonSchema"},
  "guided_regex": {"type": "string"},
  "guided_choice": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4096},
  "guided_grammar": {"type": "string"},
  "guided_json_object": {"type": "boolean"},
  "grammar": {"type": "string", "description": "GBNF; its start symbol is root."},
  "json_schema": {"$ref": "#/components/schemas/JsonSchema"}
})json";

constexpr std::string_view kCompletion = R"json({
  "prompt": {"anyOf": [
    {"type": "string"},
    {"type": "array", "items": {"$ref": "#/components/schemas/Token"}, "minItems": 1},
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
    {"type": "array", "minItems": 1, "items":
      {"type": "array", "items": {"$ref": "#/components/schemas/Token"}, "minItems": 1}}]},
  "max_tokens": {"type": "integer", "minimum": 0, "maximum": 2147483647, "default": 16},
  "echo": {"type": "boolean"},
  "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "best_of": {"type": "integer", "minimum": 1, "maximum": 128, "description": "Must equal n."},
  "suffix": {"type": "null"}
})json";

constexpr std::string_view kChat = R"json({
  "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
  "max_completion_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2147483647},
  "logprobs": {"type": "boolean"},
  "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "tools": {"type": "array", "maxItems": 1024, "items": {"$ref": "#/components/schemas/Tool"}},
  "tool_choice": {"anyOf": [
    {"type": "string", "enum": ["none", "auto", "required"]},
    {"type": "object", "required": ["function"], "properties": {
      "type": {"enum": ["function", null]},
      "function": {"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}}}}}]},
  "parallel_tool_calls": {"type": "boolean"},
  "add_generation_prompt": {"type": "boolean"},
  "continue_final_message": {"type": "boolean"},
  "chat_template_kwargs": {"type": "object"},
  "reasoning_effort": {"type": "string"},
  "documents": {"type": "array", "maxItems": 1024},
  "chat_template": {"type": "null"}
})json";

// What the fields refer to.
constexpr std::string_view kShared = R"json({
  "Token": {"type": "integer", "minimum": 0, "maximum": 2147483647},
  "JsonSchema": {"type": ["object", "boolean", "string"],
    "description": "A JSON schema, or the text of one."},
  "Message": {"type": "object", "required": ["role"], "properties": {
    "role": {"type": "string",
      "enum": ["system", "developer", "user", "assistant", "tool", "function"]},
    "content": {"anyOf": [{"type": "string"},
      {"type": "array", "items": {"$ref": "#/components/schemas/TextPart"}}, {"type": "null"}]},
    "name": {"type": ["string", "null"]},
    "tool_calls": {"type": ["array", "null"], "maxItems": 1024},
    "tool_call_id": {"type": ["string", "null"]}},
    "anyOf": [
      {"properties": {"role": {"enum": ["assistant", "function"]}}},
      {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}}]},
  "TextPart": {"type": "object", "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}}},
  "Tool": {"type": "object", "required": ["function"], "properties": {
    "type": {"enum": ["function", null]},
    "function": {"type": "object", "required": ["name"], "properties": {
      "name": {"type": "string", "minLength": 1},
      "description": {"type": ["string", "null"]},
      "parameters": {"type": ["object", "null"]}}}}},
  "TokenizeRequest": {"type": "object",
    "properties": {
      "model": {"anyOf": [{"$ref": "#/components/schemas/ServedModel"}, {"type": "null"}]},
      "return_token_strs": {"type": ["boolean", "null"]}},
    "anyOf": [
      {"$ref": "#/components/schemas/ChatCompletionRequest"},
      {"type": "object", "required": ["prompt"], "properties": {
        "messages": {"type": "null"},
        "prompt": {"type": "string"},
        "add_special_tokens": {"type": ["boolean", "null"]}}},
      {"type": "object", "required": ["content"], "properties": {
        "messages": {"type": "null"},
        "prompt": {"type": "null"},
        "content": {"type": "string", "description": "llama-server's name for a prompt."},
        "add_special": {"type": ["boolean", "null"]},
        "parse_special": {"type": ["boolean", "null"]}}}]},
  "DetokenizeRequest": {"type": "object", "required": ["tokens"], "properties": {
    "model": {"anyOf": [{"$ref": "#/components/schemas/ServedModel"}, {"type": "null"}]},
    "tokens": {"type": "array", "items": {"$ref": "#/components/schemas/Token"},
      "maxItems": 16777216}}}
})json";

// Our own text.
JsonObject literal(std::string_view text) {
  boost::system::error_code error;
  Json value = boost::json::parse(text, error);
  CHECK(!error && value.is_object()) << "a schema of the gateway is not JSON: " << error.message();
  return std::move(value.get_object());
}

// The same field, or null.
Json or_null(Json field) {
  JsonObject& object = field.as_object();
  Json* type = object.if_contains("type");
  if (type != nullptr && type->is_string() && *type != Json("null")) {
    *type = JsonArray{*type, "null"};
    return field;
  }
  if (JsonArray* any = object.contains("anyOf") ? &object["anyOf"].as_array() : nullptr) {
    any->emplace_back(JsonObject{{"type", "null"}});
    return field;
  }
  if (object.contains("$ref")) {
    JsonObject either;
    either["anyOf"] = JsonArray{std::move(field), JsonObject{{"type", "null"}}};
    return either;
  }
  return field;
}

JsonObject request(std::string_view own, std::string_view required) {
  JsonObject properties;
  for (JsonObject fields : {literal(own), literal(kCommon)}) {
    for (auto& [name, field] : fields)
      properties[name] = name == required ? std::move(field) : or_null(std::move(field));
  }
  JsonObject schema;
  schema["type"] = "object";
  schema["required"] = JsonArray{required};
  schema["properties"] = std::move(properties);
  return schema;
}

}  // namespace

JsonObject openapi_requests(const OpenApiOptions& options) {
  const ApiLimits& limits = options.limits;
  JsonObject schemas = literal(kShared);
  JsonObject& model = schemas["ServedModel"].emplace_object();
  model["type"] = "string";
  model["description"] = "One of /v1/models; the first where it is not said, or empty.";
  model["enum"] = JsonArray(options.model_names.begin(), options.model_names.end());
  model["enum"].as_array().emplace_back("");
  schemas["CompletionRequest"] = request(kCompletion, "prompt");
  schemas["ChatCompletionRequest"] = request(kChat, "messages");
  for (const char* name : {"CompletionRequest", "ChatCompletionRequest"}) {
    JsonObject& fields = schemas[name].as_object()["properties"].as_object();
    const auto set = [&](const char* field, const char* word, int64_t value) {
      if (Json* found = fields.if_contains(field)) found->as_object()[word] = value;
    };
    set("n", "maximum", limits.choices_max);
    set("best_of", "maximum", limits.choices_max);
    for (const char* field : {"prompt_logprobs", "top_logprobs"})
      set(field, "maximum", limits.logprobs_max);
    set("messages", "maxItems", limits.messages_max);
  }
  JsonObject& completion = schemas["CompletionRequest"].as_object()["properties"].as_object();
  completion["logprobs"].as_object()["maximum"] = limits.logprobs_max;
  JsonArray& forms = completion["prompt"].as_object()["anyOf"].as_array();
  for (const size_t several : {2, 3}) forms[several].as_object()["maxItems"] = limits.prompts_max;
  return schemas;
}

}  // namespace trireme
