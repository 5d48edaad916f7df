// Requests read from JSON, without a server: each field in and out of its range, in each of its
// forms, with the parameter that an error names; what is left out, null, or said under another
// name.
#include "runtime/gateway/api_call.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

SamplingParams server_defaults() {
  SamplingParams p;
  p.temperature = 0.5f;
  p.top_k = 7;
  return p;
}

ParsedCall parse(bool chat, const std::string& more, const ApiLimits& limits = {}) {
  const std::string body = fmt::format(
      "{{{}{}{}}}", chat ? R"("messages": [{"role": "user", "content": "a"}])" : R"("prompt": "a")",
      more.empty() ? "" : ", ", more);
  Result<Json> json = parse_json(body);
  CHECK(json.ok()) << body;
  return chat ? parse_chat_call(json->as_object(), server_defaults(), limits)
              : parse_completion_call(json->as_object(), server_defaults(), limits);
}

ApiCall accepted(bool chat, const std::string& more) {
  ParsedCall parsed = parse(chat, more);
  const auto* error = std::get_if<ApiError>(&parsed);
  EXPECT_EQ(error, nullptr) << more << ": " << (error == nullptr ? "" : error->message);
  return error == nullptr ? std::get<ApiCall>(parsed) : ApiCall{};
}

// "" where it is accepted, else "param: message".
std::string refusal(bool chat, const std::string& more, const ApiLimits& limits = {}) {
  const ParsedCall parsed = parse(chat, more, limits);
  const auto* error = std::get_if<ApiError>(&parsed);
  if (error == nullptr) return "";
  EXPECT_EQ(error->status, 400);
  EXPECT_EQ(error->type, "invalid_request_error");
  return error->param + ": " + error->message;
}

TEST(ApiCall, WhatIsNotSaidIsTheServersDefault) {
  for (const bool chat : {false, true}) {
    for (const char* more :
         {"", R"("temperature": null, "top_k": null, "n": null, "stop": null, "seed": null,
                 "max_tokens": null, "stream": null, "stream_options": null, "logit_bias": null,
                 "response_format": null, "logprobs": null, "unheard_of": {"a": [1]})"}) {
      const ApiCall call = accepted(chat, more);
      EXPECT_EQ(call.base.params.temperature, 0.5f);
      EXPECT_EQ(call.base.params.top_k, 7);
      EXPECT_EQ(call.base.choices, 1u);
      EXPECT_FALSE(call.seeded);
      EXPECT_FALSE(call.stream);
      EXPECT_FALSE(call.logprobs);
      EXPECT_EQ(call.base.prompt_logprobs, -1);
      EXPECT_EQ(call.base.constraint.kind, ConstraintSpec::Kind::kNone);
      // Completions are short unless told; a chat has the rest of the context.
      EXPECT_EQ(call.max_tokens, chat ? std::nullopt : std::optional(16u));
      EXPECT_EQ(call.add_special_tokens, !chat);
    }
  }
}

TEST(ApiCall, WhatIsSaidCounts) {
  const ApiCall c =
      accepted(false,
               R"("model": "m", "temperature": 1.5, "top_p": 0.25, "top_k": -1, "min_p": 0.5,
         "presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.25, "n": 3,
         "seed": -5, "stop": ["x", ""], "stop_token_ids": [3, 4.0], "ignore_eos": true,
         "min_tokens": 2, "max_tokens": 5.0, "logit_bias": {"7": -100}, "echo": true,
         "logprobs": 0, "best_of": 3, "include_stop_str_in_output": true, "priority": -4,
         "cache_salt": "s", "skip_special_tokens": false, "return_token_ids": true,
         "return_tokens_as_token_ids": true, "truncate_prompt_tokens": -1, "stream": true,
         "stream_options": {"include_usage": true, "continuous_usage_stats": true},
         "request_id": "r", "timings_per_token": true, "add_special_tokens": false,
         "allowed_token_ids": [1, 2], "bad_words": "no", "user": "u", "suffix": null)");
  const SamplingParams& p = c.base.params;
  EXPECT_EQ(c.model, "m");
  EXPECT_EQ(p.temperature, 1.5f);
  EXPECT_EQ(p.top_p, 0.25f);
  EXPECT_EQ(p.top_k, -1);
  EXPECT_EQ(p.min_p, 0.5f);
  EXPECT_EQ(p.presence_penalty, -2.0f);
  EXPECT_EQ(p.frequency_penalty, 2.0f);
  EXPECT_EQ(p.repetition_penalty, 1.25f);
  EXPECT_EQ(c.base.choices, 3u);
  EXPECT_TRUE(c.seeded);
  EXPECT_EQ(p.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(p.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(p.stop_token_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_TRUE(p.ignore_eos && p.include_stop_str_in_output);
  EXPECT_EQ(p.min_tokens, 2u);
  EXPECT_EQ(c.max_tokens, 5u);
  EXPECT_EQ(p.logit_bias, (std::vector<std::pair<int32_t, float>>{{7, -100.0f}}));
  EXPECT_EQ(p.allowed_token_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(c.bad_words, std::vector<std::string>{"no"});
  EXPECT_TRUE(c.echo && c.logprobs);
  EXPECT_EQ(p.logprobs, 0);
  EXPECT_EQ(c.base.prompt_logprobs, 0);  // for the echo
  EXPECT_EQ(c.base.priority, -4);
  EXPECT_EQ(c.base.cache_salt, "s");
  EXPECT_FALSE(c.skip_special_tokens || c.add_special_tokens);
  EXPECT_TRUE(c.return_token_ids && c.return_tokens_as_token_ids && c.timings);
  EXPECT_EQ(c.truncate_prompt_tokens, UINT32_MAX);
  EXPECT_TRUE(c.stream && c.include_usage && c.continuous_usage);
  EXPECT_EQ(c.request_id, "r");

  const ApiCall chat = accepted(
      true, R"("max_tokens": 5, "max_completion_tokens": 6, "logprobs": true, "top_logprobs": 4,
               "chat_template_kwargs": {"a": 1}, "reasoning_effort": "low", "documents": [{"t": 2}],
               "continue_final_message": true, "repeat_penalty": 1.5)");
  EXPECT_EQ(chat.max_tokens, 6u);
  EXPECT_EQ(chat.base.params.logprobs, 4);
  EXPECT_EQ(chat.base.params.repetition_penalty, 1.5f);
  EXPECT_TRUE(chat.continue_final_message);
  EXPECT_FALSE(chat.add_generation_prompt);
  EXPECT_EQ(chat.chat_template_kwargs.at("a"), 1);
  EXPECT_EQ(chat.chat_template_kwargs.at("reasoning_effort"), "low");
  EXPECT_TRUE(chat.chat_template_kwargs.contains("documents"));
}

TEST(ApiCall, LlamaServersNames) {
  for (const bool chat : {false, true}) {
    EXPECT_EQ(accepted(chat, R"("n_predict": 9)").max_tokens, 9u);
    EXPECT_EQ(accepted(chat, R"("n_predict": 9, "max_tokens": 8)").max_tokens, 8u);
    EXPECT_EQ(accepted(chat, R"("grammar": "root ::= \"a\"")").base.constraint.kind,
              ConstraintSpec::Kind::kGrammar);
    EXPECT_EQ(accepted(chat, R"("json_schema": {}, "cache_prompt": true)").base.constraint,
              (ConstraintSpec{ConstraintSpec::Kind::kJsonSchema, "{}"}));
  }
  EXPECT_EQ(accepted(true, R"("n_predict": -1)").max_tokens, std::nullopt);
}

TEST(ApiCall, PromptsInEachForm) {
  const auto prompts = [](const std::string& prompt) {
    const Result<Json> json = parse_json("{\"prompt\": " + prompt + "}");
    CHECK(json.ok());
    ParsedCall parsed = parse_completion_call(json->as_object(), {}, {});
    return std::holds_alternative<ApiCall>(parsed) ? std::get<ApiCall>(parsed).prompts
                                                   : std::vector<PromptInput>{};
  };
  using Prompts = std::vector<PromptInput>;
  const std::vector<int32_t> ids = {1, 2};
  EXPECT_EQ(prompts(R"("a")"), (Prompts{"a"}));
  EXPECT_EQ(prompts(R"([1, 2])"), (Prompts{ids}));
  EXPECT_EQ(prompts(R"(["a", "b"])"), (Prompts{"a", "b"}));
  EXPECT_EQ(prompts(R"([[1, 2], [1, 2]])"), (Prompts{ids, ids}));
  EXPECT_EQ(prompts(R"(["a", [1, 2]])"), (Prompts{"a", ids}));
  for (const char* bad : {"1", "{}", "[]", "[[]]", "[1, \"a\"]", "[[1.5]]", "[null]", "[[1], 2]"})
    EXPECT_TRUE(prompts(bad).empty()) << bad;
}

TEST(ApiCall, TheFormOfTheOutputInEachDialect) {
  using Kind = ConstraintSpec::Kind;
  struct Case {
    std::string body;
    Kind kind;
    std::string text, field;
  };
  for (const Case& c : std::vector<Case>{
           {R"("response_format": {"type": "text"})", Kind::kNone, "", ""},
           {R"("response_format": {"type": "json_object"})", Kind::kJsonObject, "",
            "response_format"},
           {R"("response_format": {"type": "json_object", "schema": {"a": 1}})", Kind::kJsonSchema,
            R"({"a":1})", "response_format"},
           {R"("response_format": {"type": "json_schema", "json_schema": {"schema": true}})",
            Kind::kJsonSchema, "true", "response_format"},
           {R"("structured_outputs": {"json": {"a": 1}})", Kind::kJsonSchema, R"({"a":1})",
            "structured_outputs.json"},
           {R"("structured_outputs": {"regex": "a+"})", Kind::kRegex, "a+",
            "structured_outputs.regex"},
           {R"("structured_outputs": {"choice": ["a", "b"]})", Kind::kChoice, R"(["a","b"])",
            "structured_outputs.choice"},
           {R"("structured_outputs": {"grammar": "g"})", Kind::kGrammar, "g",
            "structured_outputs.grammar"},
           {R"("structured_outputs": {"json_object": true})", Kind::kJsonObject, "",
            "structured_outputs.json_object"},
           {R"("guided_json": "{}")", Kind::kJsonSchema, "{}", "guided_json"},
           {R"("guided_regex": "b")", Kind::kRegex, "b", "guided_regex"},
           {R"("guided_choice": ["c"])", Kind::kChoice, R"(["c"])", "guided_choice"},
           {R"("guided_grammar": "g")", Kind::kGrammar, "g", "guided_grammar"},
           {R"("guided_json_object": false)", Kind::kNone, "", ""},
       }) {
    for (const bool chat : {false, true}) {
      SCOPED_TRACE(c.body);
      const ApiCall call = accepted(chat, c.body);
      EXPECT_EQ(call.base.constraint, (ConstraintSpec{c.kind, c.text}));
      EXPECT_EQ(call.constraint_field, c.field);
    }
  }
}

TEST(ApiCall, WhatIsWrongAndWhere) {
  struct Case {
    char where;  // 'c'ompletions, c'h'at, 'b'oth
    std::string body, refusal;
  };
  for (const Case& c : std::vector<Case>{
           {'b', R"("model": 1)", "model: model is an integer: it must be a string"},
           {'b', R"("temperature": 2.5)",
            "temperature: temperature is 2.5: it must be from 0 to 2"},
           {'b', R"("top_k": -2)", "top_k: top_k is -2: it must be from -1 to 2147483647"},
           {'b', R"("min_p": -0.5)", "min_p: min_p is -0.5: it must be from 0 to 1"},
           {'b', R"("repetition_penalty": 0)",
            "repetition_penalty: repetition_penalty is 0: it must be"},
           {'b', R"("stop": 5)", "stop: stop is an integer: it must be a list"},
           {'b', R"("stop_token_ids": [-1])", "stop_token_ids: stop_token_ids has an entry that"},
           {'b', R"("n": 2, "temperature": 0)", "n: n is 2: it must be 1 with temperature 0"},
           {'b', R"("seed": 1e300)", "seed: seed is a number: it must be an integer"},
           {'b', R"("prompt_logprobs": -1)", "prompt_logprobs: prompt_logprobs is -1: it must be"},
           {'b', R"("prompt_logprobs": 1, "stream": true)", "prompt_logprobs: prompt_logprobs can"},
           {'b', R"("stream_options": {"include_usage": 1}, "stream": true)",
            "stream_options.include_usage: stream_options.include_usage is an integer"},
           {'b', R"("truncate_prompt_tokens": 0)", "truncate_prompt_tokens: "},
           {'b', R"("min_tokens": 6, "max_tokens": 5)", "min_tokens: min_tokens is 6: it must not"},
           {'b', R"("request_id": ")" + std::string(257, 'x') + "\"",
            "request_id: request_id has more than 256 bytes"},
           {'b', R"("cache_salt": ")" + std::string(1025, 'x') + "\"", "cache_salt: "},
           {'b', R"("response_format": {})", "response_format.type: "},
           {'b', R"("response_format": {"type": "json_schema"})", "response_format.json_schema: "},
           {'b', R"("guided_regex": "a", "grammar": "b")", "structured_outputs: structured_output"},
           {'b', R"("guided_choice": "a")", "guided_choice: guided_choice is a string: it must be"},
           {'c', R"("max_tokens": 0, "n": 2)", "n: n must be 1 where max_tokens is 0"},
           {'c', R"("logprobs": true)", "logprobs: logprobs is a boolean: it must be an integer"},
           {'c', R"("suffix": "")", "suffix: suffix is not supported"},
           {'h', R"("max_tokens": 0)", "max_tokens: max_tokens is 0: it must be from 1"},
           {'h', R"("max_completion_tokens": 0)", "max_completion_tokens: max_completion_tokens i"},
           {'h', R"("logprobs": 1)", "logprobs: logprobs is an integer: it must be true or false"},
           {'h', R"("top_logprobs": 21, "logprobs": true)", "top_logprobs: top_logprobs is 21"},
           {'h', R"("chat_template": "x")", "chat_template: chat_template is the server's to say"},
           {'h', R"("continue_final_message": true, "add_generation_prompt": true)",
            "continue_final_message: "},
           {'h', R"("tools": [{}])", "tools[0]: tools[0] must be"},
           {'h', R"("tool_choice": "some")", "tool_choice: tool_choice must be 'none', 'auto'"},
           {'h', R"("tool_choice": {"function": {"name": "f"}})",
            "tool_choice: tool_choice names the tool 'f', which is not in tools"},
           {'h', R"("tools": [{"function": {"name": "f"}}], "tool_choice": "required",
                    "guided_regex": "a")",
            "tool_choice: tool_choice asks for a tool call, and another field"},
       }) {
    for (const bool chat : {false, true}) {
      if (c.where == (chat ? 'c' : 'h')) continue;
      const std::string said = refusal(chat, c.body);
      EXPECT_TRUE(said.starts_with(c.refusal)) << c.body << "\n  said   " << said;
    }
  }
}

// Of two things that are wrong the first is told, and limits are the server's.
TEST(ApiCall, LimitsAreTheServers) {
  ApiLimits limits;
  limits.choices_max = 2;
  limits.prompts_max = 2;
  limits.messages_max = 1;
  limits.logprobs_max = 3;
  EXPECT_EQ(refusal(false, R"("n": 3)", limits), "n: n is 3: it must be from 1 to 2");
  EXPECT_EQ(refusal(false, R"("n": 2, "logprobs": 3)", limits), "");
  EXPECT_EQ(refusal(false, R"("logprobs": 4)", limits),
            "logprobs: logprobs is 4: it must be from 0 to 3");
  const Result<Json> prompts = parse_json(R"({"prompt": ["a", "b", "c"]})");
  const ParsedCall many = parse_completion_call(prompts->as_object(), {}, limits);
  EXPECT_EQ(std::get<ApiError>(many).message, "prompt has 3 entries: at most 2 are allowed");
}

}  // namespace
}  // namespace trireme
