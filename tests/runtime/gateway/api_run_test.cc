// How calls end, over an engine that keeps to a script: every accepted choice ends once in the
// metrics, and what nobody waits for any more is cancelled once, wherever the client leaves.
#include "runtime/gateway/api_run.h"

#include <array>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_gateway.h"

namespace trireme::test {
namespace {

using Ends = std::map<std::string, int>;

constexpr std::array<const char*, 2> kPaths = {"/v1/completions", "/v1/chat/completions"};

std::string body(std::string_view path, std::string_view more) {
  const bool chat = path.find("chat") != std::string_view::npos;
  return fmt::format(
      "{{{}, \"temperature\": 1{}{}}}",
      chat ? R"("messages": [{"role": "user", "content": "Who?"}])" : R"("prompt": "And")",
      more.empty() ? "" : ", ", more);
}

// `tokens` steps of a token each for every choice, which then end by `reason`.
Script script(uint32_t choices, size_t tokens, FinishReason reason = FinishReason::kLength) {
  Script script;
  script.steps.push_back({scheduled_event()});
  for (size_t t = 0; t < tokens; ++t) {
    script.steps.emplace_back();
    for (uint32_t c = 0; c < choices; ++c)
      script.steps.back().push_back(token_event(c, static_cast<int32_t>(300 + 7 * t + c)));
  }
  for (uint32_t c = 0; c < choices; ++c) script.steps.back().push_back(finished_event(c, reason));
  return script;
}

Script endless(size_t tokens) {
  Script endless = script(1, tokens);
  std::erase_if(endless.steps.back(),
                [](const Event& event) { return event.kind == Event::Kind::kFinished; });
  return endless;
}

std::string error_code(const FakeExchange& exchange) {
  Result<Json> json = parse_json(exchange.body());
  CHECK(json.ok()) << exchange.body();
  return std::string(json->at("error").at("code").as_string());
}

TEST(ApiRun, CountsEndsByTheirReason) {
  for (const char* path : kPaths) {
    for (const char* stream : {R"("stream": false)", R"("stream": true)"}) {
      SCOPED_TRACE(fmt::format("{} {}", path, stream));
      ScriptedGateway gateway;
      gateway.engine().scripts = {script(2, 3), script(1, 2, FinishReason::kStop)};
      gateway.ask(path, body(path, fmt::format(R"("n": 2, {})", stream)));
      gateway.ask(path, body(path, stream));
      gateway.drive();
      EXPECT_EQ(gateway.ends(), (Ends{{"length", 2}, {"stop", 1}}));
      EXPECT_EQ(gateway.metric("vllm:e2e_request_latency_seconds_count"), 3);
      EXPECT_EQ(gateway.metric("vllm:request_generation_tokens_sum"), 8);
      EXPECT_EQ(gateway.metric("vllm:request_params_n_sum"), 3);
      EXPECT_TRUE(gateway.engine().cancelled.empty());
    }
  }
}

// A stop string in the last open choice ends the run before the engine says its end.
TEST(ApiRun, CountsStopStrings) {
  for (const char* path : kPaths) {
    for (const char* stream : {R"("stream": false)", R"("stream": true)"}) {
      SCOPED_TRACE(fmt::format("{} {}", path, stream));
      ScriptedGateway gateway;
      const std::vector<int32_t> first = gateway.tokens(" and"), stop = gateway.tokens(" Moses");
      ASSERT_TRUE(first.size() == 1 && stop.size() == 1);
      Script said;
      for (const int32_t token : {first[0], first[0], stop[0], first[0], first[0]})
        said.steps.push_back({token_event(0, token)});
      said.steps.push_back({finished_event(0, FinishReason::kLength)});
      gateway.engine().scripts = {said};
      const FakeExchange& exchange =
          gateway.ask(path, body(path, fmt::format(R"("stop": "Moses", {})", stream)));
      gateway.drive();
      EXPECT_TRUE(exchange.complete());
      EXPECT_NE(exchange.body().find(R"("stop_reason":"Moses")"), std::string::npos);
      EXPECT_EQ(gateway.ends(), (Ends{{"stop", 1}}));
      EXPECT_EQ(gateway.metric("vllm:e2e_request_latency_seconds_count"), 1);
      // Not the token that was under way, beyond the end.
      EXPECT_EQ(gateway.metric("vllm:request_generation_tokens_sum"), 3);
      EXPECT_EQ(gateway.engine().stopped.size(), 1u);
      EXPECT_TRUE(gateway.engine().cancelled.empty());
      EXPECT_EQ(gateway.engine().open_choices(), 0u);
    }
  }
}

// One choice meets its stop string, the other goes on: the engine's word for the first comes later
// and counts for nothing.
TEST(ApiRun, CountsAStoppedChoiceOnce) {
  ScriptedGateway gateway;
  const int32_t stop = gateway.tokens(" Moses")[0], other = gateway.tokens(" and")[0];
  Script said;
  for (const int32_t token : {other, stop, other, other})
    said.steps.push_back({token_event(0, token), token_event(1, other)});
  for (const uint32_t c : {0u, 1u})
    said.steps.back().push_back(finished_event(c, FinishReason::kLength));
  gateway.engine().scripts = {said};
  const FakeExchange& exchange =
      gateway.ask(kPaths[0], body(kPaths[0], R"("n": 2, "stop": "Moses")"));
  gateway.drive();
  EXPECT_TRUE(exchange.complete());
  EXPECT_EQ(gateway.ends(), (Ends{{"length", 1}, {"stop", 1}}));
  EXPECT_EQ(gateway.metric("vllm:request_generation_tokens_sum"), 6);
}

// The client leaves after each number of steps. Two prompts, of which one ends early.
TEST(ApiRun, AClientThatLeavesIsCancelledOnce) {
  const auto begin = [](ScriptedGateway& gateway, const char* path, bool stream) -> FakeExchange& {
    const bool chat = path == kPaths[1];
    gateway.engine().scripts = {script(2, 6)};
    if (!chat) gateway.engine().scripts.push_front(script(2, 2));
    std::string asked = body(path, fmt::format(R"("n": 2, "stream": {})", stream));
    if (!chat) asked.replace(asked.find("\"And\""), 5, R"(["And", "Thus"])");
    return gateway.ask(path, asked);
  };
  for (const char* path : kPaths) {
    const bool chat = path == kPaths[1];
    const int choices = chat ? 2 : 4;
    for (const bool stream : {false, true}) {
      for (size_t steps = 0; steps < 7; ++steps) {
        SCOPED_TRACE(fmt::format("{} stream {} after {} steps", path, stream, steps));
        ScriptedGateway gateway;
        FakeExchange& exchange = begin(gateway, path, stream);
        for (size_t i = 0; i < steps; ++i) EXPECT_TRUE(gateway.step());
        exchange.leave();
        gateway.poll();
        EXPECT_TRUE(exchange.returned());
        EXPECT_FALSE(exchange.complete());
        const int ended = !chat && steps >= 3 ? 2 : 0;  // of the prompt that ends early
        Ends ends = {{"abort", choices - ended}};
        if (ended > 0) ends["length"] = ended;
        EXPECT_EQ(gateway.ends(), ends);
        EXPECT_EQ(gateway.engine().cancelled.size(), chat || ended > 0 ? 1u : 2u);
        gateway.drive();
        EXPECT_EQ(gateway.engine().open_choices(), 0u);
        EXPECT_EQ(gateway.ends(), ends);
      }
      // Once it has its answer nothing is left to cancel.
      ScriptedGateway gateway;
      FakeExchange& exchange = begin(gateway, path, stream);
      gateway.drive();
      EXPECT_TRUE(exchange.complete());
      exchange.leave();
      EXPECT_TRUE(gateway.engine().cancelled.empty());
      EXPECT_EQ(gateway.ends(), (Ends{{"length", choices}}));
    }
  }
}

// A client that does not read is found out by a write, between two of its reads.
TEST(ApiRun, AClientThatDoesNotReadIsCancelledOnce) {
  for (size_t steps = 1; steps < 6; ++steps) {
    ScriptedGateway gateway;
    gateway.engine().scripts = {script(1, 6)};
    FakeExchange& exchange = gateway.ask(kPaths[0], body(kPaths[0], R"("stream": true)"));
    for (size_t i = 0; i < steps; ++i) gateway.step();
    exchange.stall();
    gateway.drive();
    EXPECT_TRUE(exchange.returned());
    EXPECT_FALSE(exchange.complete());
    EXPECT_EQ(gateway.engine().cancelled, std::vector<RequestId>{1});
    EXPECT_EQ(gateway.ends(), (Ends{{"abort", 1}}));
  }
}

// Each refusal of the engine, with the status that it has over HTTP.
TEST(ApiRun, PassesRefusalsOn) {
  struct Case {
    StatusCode code;
    int status;
    const char* name;
  };
  constexpr std::array<Case, 8> kCases = {{{StatusCode::kInvalidArgument, 400, "invalid_value"},
                                           {StatusCode::kNotFound, 500, "engine_error"},
                                           {StatusCode::kResourceExhausted, 429, "queue_full"},
                                           {StatusCode::kUnavailable, 503, "unavailable"},
                                           {StatusCode::kDeadlineExceeded, 408, "timeout"},
                                           {StatusCode::kCancelled, 500, "engine_error"},
                                           {StatusCode::kDataLoss, 500, "engine_error"},
                                           {StatusCode::kUnimplemented, 500, "engine_error"}}};
  for (const Case& c : kCases) {
    for (const char* path : kPaths) {
      for (const bool stream : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", status_code_name(c.code), path, stream));
        ScriptedGateway gateway;
        gateway.engine().scripts = {{.refusal = Status(c.code, "max_tokens is not to be had")}};
        const FakeExchange& exchange =
            gateway.ask(path, body(path, fmt::format(R"("stream": {})", stream)));
        EXPECT_TRUE(exchange.complete());
        EXPECT_EQ(exchange.status(), c.status);
        EXPECT_EQ(error_code(exchange), c.name);
        const bool again = c.status == 429 || c.status == 503;
        EXPECT_EQ(!exchange.head().headers.empty(), again);  // Retry-After
        EXPECT_NE(exchange.body().find("max_tokens is not to be had"), std::string::npos);
        EXPECT_EQ(exchange.body().find(R"("param":"max_tokens")") != std::string::npos,
                  c.status == 400);
        EXPECT_TRUE(gateway.ends().empty());
        EXPECT_EQ(gateway.metric("vllm:request_params_n_count"), 0);
        EXPECT_TRUE(gateway.engine().cancelled.empty());
      }
    }
  }
}

// The second of three prompts is refused: the first is cancelled, the third never asked for.
TEST(ApiRun, ARefusedPromptEndsTheOthers) {
  ScriptedGateway gateway;
  gateway.engine().scripts = {script(1, 6), {.refusal = resource_exhausted("the queue is full")}};
  const FakeExchange& exchange = gateway.ask(kPaths[0], R"({"prompt": ["a", "b", "c"]})");
  EXPECT_EQ(exchange.status(), 429);
  EXPECT_EQ(gateway.engine().cancelled, std::vector<RequestId>{1});
  EXPECT_EQ(gateway.ends(), (Ends{{"abort", 1}}));
  gateway.drive();
  EXPECT_EQ(gateway.engine().open_choices(), 0u);
}

// Before the first token a failure has a status; later it is the last event but [DONE].
TEST(ApiRun, TellsFailures) {
  for (const char* path : kPaths) {
    for (const bool stream : {false, true}) {
      for (const size_t tokens : {size_t{0}, size_t{1}, size_t{4}}) {
        SCOPED_TRACE(fmt::format("{} stream {} after {} tokens", path, stream, tokens));
        ScriptedGateway gateway;
        Script said = script(2, 8);
        said.steps.resize(1 + tokens);
        said.steps.push_back({failed_event(1, unavailable("rank 3 has ended"))});
        said.steps.push_back({token_event(0, 300)});
        said.steps.push_back({finished_event(0, FinishReason::kLength)});
        gateway.engine().scripts = {said};
        const FakeExchange& exchange =
            gateway.ask(path, body(path, fmt::format(R"("n": 2, "stream": {})", stream)));
        gateway.drive();
        EXPECT_TRUE(exchange.complete());
        if (!stream || tokens == 0) {
          EXPECT_EQ(exchange.status(), 503);
          EXPECT_EQ(error_code(exchange), "unavailable");
        } else {
          EXPECT_EQ(exchange.status(), 200);
          const std::string last = exchange.pieces().back();
          EXPECT_TRUE(last.starts_with(R"(data: {"error":{"message":"rank 3 has ended")")) << last;
          EXPECT_TRUE(last.ends_with("\n\ndata: [DONE]\n\n")) << last;
        }
        // A stream ends with the failure, and the other choice with it.
        EXPECT_EQ(gateway.ends(), (Ends{{"error", 1}, {stream ? "abort" : "length", 1}}));
        EXPECT_EQ(gateway.engine().cancelled.size(), stream ? 1u : 0u);
        EXPECT_EQ(gateway.engine().open_choices(), 0u);
      }
    }
  }
}

TEST(ApiRun, AnswersForAnEngineThatDoesNot) {
  ScriptedGatewayOptions options;
  options.gateway.request_timeout = std::chrono::milliseconds(1);
  for (const char* path : kPaths) {
    for (const bool stream : {false, true}) {
      for (const size_t tokens : {size_t{0}, size_t{2}}) {
        SCOPED_TRACE(fmt::format("{} stream {} after {} tokens", path, stream, tokens));
        ScriptedGateway gateway(options);
        gateway.engine().scripts = {endless(tokens)};
        const FakeExchange& exchange =
            gateway.ask(path, body(path, fmt::format(R"("stream": {})", stream)));
        for (size_t i = 0; i < tokens + 1; ++i) gateway.engine().step();
        gateway.wait();
        EXPECT_TRUE(exchange.complete());
        if (exchange.status() == 408) {
          EXPECT_EQ(error_code(exchange), "timeout");
        } else {
          EXPECT_TRUE(stream && tokens > 0);
          EXPECT_NE(exchange.body().find(R"("code":"timeout"}})"), std::string::npos);
          EXPECT_TRUE(exchange.body().ends_with("data: [DONE]\n\n"));
        }
        EXPECT_EQ(gateway.engine().cancelled, std::vector<RequestId>{1});
        EXPECT_EQ(gateway.ends(), (Ends{{"abort", 1}}));
      }
    }
  }
}

TEST(ApiRun, HealthSaysWhatThePingDid) {
  ScriptedGatewayOptions options;
  options.gateway.health_timeout = std::chrono::milliseconds(1);
  ScriptedGateway gateway(options);
  const auto health = [&]() -> const FakeExchange& {
    const FakeExchange& exchange = gateway.ask("/health", "", "GET");
    gateway.wait();
    return exchange;
  };
  EXPECT_EQ(health().status(), 200);
  gateway.engine().pong = unavailable("rank 3 has ended");
  EXPECT_EQ(health().status(), 503);
  gateway.engine().pong.reset();
  const FakeExchange& silent = health();
  EXPECT_EQ(silent.status(), 503);
  EXPECT_NE(silent.body().find("has not answered for 1 ms"), std::string::npos);
}

}  // namespace
}  // namespace trireme::test
