// The bytes of answers, whole and streamed, over an engine that keeps to a script.
#include "runtime/gateway/answer.h"

#include <regex>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_gateway.h"

namespace trireme::test {
namespace {

// "And" " God" " said", then the end; one step a token.
Script and_god_said(const ScriptedGateway& gateway) {
  const auto scored = [&](int32_t id, float logprob) {
    SampledToken token;
    token.token = id;
    token.logprob = logprob;
    token.top_logprobs = {{id, logprob}, {gateway.tokens(" the")[0], -2.5f}};
    return token;
  };
  Script script;
  Event prompt;
  prompt.kind = Event::Kind::kPromptScored;
  prompt.prompt_scores = {scored(gateway.tokens("us")[0], -0.25f)};
  script.steps.push_back({scheduled_event(2), prompt});
  float logprob = -0.5f;
  for (const int32_t id : gateway.tokens("And God said")) {
    Event event = token_event(0, id);
    event.sampled = scored(id, logprob);
    script.steps.push_back({event});
    logprob *= 2;
  }
  script.steps.push_back({finished_event(0, FinishReason::kStop, 0)});
  return script;
}

// The answer's bytes, with its kind alone for what every object begins with.
std::string bytes(std::string_view path, std::string_view body) {
  ScriptedGateway gateway;
  gateway.engine().scripts = {and_god_said(gateway)};
  const FakeExchange& exchange = gateway.ask(path, body);
  gateway.drive();
  EXPECT_TRUE(exchange.complete());
  EXPECT_EQ(exchange.status(), 200);
  const std::regex head(R"re("id":"(?:chat)?cmpl-r","object":"([a-z_.]+)","created":[0-9]+,)re"
                        R"re("model":"demo","system_fingerprint":"trireme-test")re");
  return std::regex_replace(exchange.body(), head, "$1");
}

std::string completion(std::string_view more) {
  return bytes("/v1/completions",
               fmt::format(R"({{"prompt": "Thus", "request_id": "r"{}}})", more));
}
std::string chat(std::string_view more) {
  return bytes("/v1/chat/completions",
               fmt::format(R"({{"messages": [{{"role": "user", "content": "Who?"}}],
                               "request_id": "r"{}}})",
                           more));
}

TEST(AnswerBytes, Completion) {
  EXPECT_EQ(
      completion(""),
      R"({text_completion,"choices":[{"index":0,"text":"And God said","logprobs":null,)"
      R"("finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":2,)"
      R"("completion_tokens":3,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":2}}})");
}

TEST(AnswerBytes, CompletionThatEchoesWithLogprobs) {
  EXPECT_EQ(
      completion(R"(, "logprobs": 2, "echo": true)"),
      R"({text_completion,"choices":[{"index":0,"text":"ThusAnd God said","logprobs":)"
      R"({"tokens":["Th","us","And"," God"," said"],)"
      R"("token_logprobs":[null,-2.5E-1,-5E-1,-1E0,-2E0],)"
      R"("top_logprobs":[null,{"us":-2.5E-1," the":-2.5E0},{"And":-5E-1," the":-2.5E0},)"
      R"({" God":-1E0," the":-2.5E0},{" said":-2E0," the":-2.5E0}],"text_offset":[0,2,4,7,11]},)"
      R"("finish_reason":"stop","stop_reason":null,"prompt_logprobs":[null,)"
      R"({"399":{"logprob":-2.5E-1,"rank":1,"decoded_token":"us"},)"
      R"("259":{"logprob":-2.5E0,"rank":2,"decoded_token":" the"}}]}],)"
      R"("usage":{"prompt_tokens":2,)"
      R"("completion_tokens":3,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":2}}})");
}

TEST(AnswerBytes, CompletionStream) {
  EXPECT_EQ(
      completion(R"(, "stream": true, "stream_options": {"include_usage": true})"),
      R"(data: {text_completion,"choices":[{"index":0,"text":"And","logprobs":null,)"
      R"("finish_reason":null,"stop_reason":null}]})"
      "\n\n"
      R"(data: {text_completion,"choices":[{"index":0,"text":" God","logprobs":null,)"
      R"("finish_reason":null,"stop_reason":null}]})"
      "\n\n"
      R"(data: {text_completion,"choices":[{"index":0,"text":" said","logprobs":null,)"
      R"("finish_reason":null,"stop_reason":null}]})"
      "\n\n"
      R"(data: {text_completion,"choices":[{"index":0,"text":"","logprobs":null,)"
      R"("finish_reason":"stop","stop_reason":null}]})"
      "\n\n"
      R"(data: {text_completion,"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,)"
      R"("total_tokens":5,"prompt_tokens_details":{"cached_tokens":2}}})"
      "\n\n"
      "data: [DONE]\n\n");
}

TEST(AnswerBytes, Chat) {
  EXPECT_EQ(chat(""),
            R"({chat.completion,"choices":[{"index":0,"message":{"role":"assistant",)"
            R"("content":"And God said","refusal":null},"logprobs":null,"finish_reason":"stop",)"
            R"("stop_reason":null}],"usage":{"prompt_tokens":14,"completion_tokens":3,)"
            R"("total_tokens":17,"prompt_tokens_details":{"cached_tokens":2}}})");
}

TEST(AnswerBytes, ChatStream) {
  EXPECT_EQ(
      chat(R"(, "stream": true, "stream_options": {"include_usage": true})"),
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"role":"assistant",)"
      R"("content":""},"logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"content":"And"},)"
      R"("logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"content":" God"},)"
      R"("logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"content":" said"},)"
      R"("logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{},"logprobs":null,)"
      R"("finish_reason":"stop","stop_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[],"usage":{"prompt_tokens":14,)"
      R"("completion_tokens":3,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":2}}})"
      "\n\n"
      "data: [DONE]\n\n");
}

// Each piece is one write: the role and the first text, with its log-probability, come together.
TEST(AnswerBytes, ChatStreamWithLogprobs) {
  const std::string all = chat(R"(, "stream": true, "logprobs": true, "top_logprobs": 1)");
  EXPECT_TRUE(all.starts_with(
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"role":"assistant",)"
      R"("content":""},"logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {chat.completion.chunk,"choices":[{"index":0,"delta":{"content":"And"},)"
      R"("logprobs":{"content":[{"token":"And","logprob":-5E-1,"bytes":[65,110,100],)"
      R"("top_logprobs":[{"token":"And","logprob":-5E-1,"bytes":[65,110,100]},)"
      R"({"token":" the","logprob":-2.5E0,"bytes":[32,116,104,101]}]}],"refusal":null},)"
      R"("finish_reason":null}]})"
      "\n\n"))
      << all;
}

}  // namespace
}  // namespace trireme::test
