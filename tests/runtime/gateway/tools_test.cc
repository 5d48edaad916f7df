// Tools over real sockets: calls that are a must, calls that a model may make, whole and as a
// stream, and what is refused. The demo model knows no tools: masks make it write calls.
#include <array>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/gateway_harness.h"

namespace trireme::test {
namespace {

constexpr std::string_view kTools = R"("tools": [
  {"type": "function", "function": {"name": "add", "parameters": {"type": "object",
    "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 99}, "b": {"$ref": "#/$defs/n"}},
    "required": ["a", "b"], "$defs": {"n": {"enum": ["one", "two"]}}}}},
  {"type": "function", "function": {"name": "ping"}}])";

// 460 tokens are enough for one call with all the white space that its form allows.
std::string request(std::string_view more) {
  return fmt::format(
      R"({{"model": "demo", "messages": [{{"role": "user", "content": "Who?"}}], "max_tokens": 460,
          "temperature": 1, "seed": 11, {}, {}}})",
      kTools, more);
}

std::string text(const Json& value) { return std::string(value.as_string()); }

// What a choice says, from a whole or put together from a stream.
struct Said {
  std::string content, reason;
  std::vector<std::array<std::string, 3>> calls;  // id, name, arguments
};

Json parsed(std::string_view body) {
  Result<Json> json = parse_json(body);
  CHECK(json.ok()) << body;
  return json.take();
}

Said whole(GatewayHarness& server, std::string_view more) {
  const HttpReply reply = server.post("/v1/chat/completions", request(more));
  EXPECT_EQ(reply.status, 200) << reply.body;
  const Json answer = parsed(reply.body);
  const Json& choice = answer.at("choices").at(0);
  const Json& message = choice.at("message");
  Said said{.content = {}, .reason = text(choice.at("finish_reason")), .calls = {}};
  if (message.at("content").is_string()) said.content = text(message.at("content"));
  if (const Json* calls = find(message, "tool_calls")) {
    EXPECT_EQ(message.at("content").is_null(), said.content.empty());
    for (const Json& call : calls->as_array()) {
      EXPECT_EQ(call.at("type"), "function");
      const Json& function = call.at("function");
      said.calls.push_back(
          {text(call.at("id")), text(function.at("name")), text(function.at("arguments"))});
    }
  }
  return said;
}

Said streamed(GatewayHarness& server, std::string_view more) {
  const HttpReply reply =
      server.post("/v1/chat/completions", request(fmt::format(R"({}, "stream": true)", more)));
  EXPECT_EQ(reply.status, 200) << reply.body;
  Said said;
  for (const std::string& event : sse_events(reply.body)) {
    if (event == "[DONE]") break;
    const Json chunk = parsed(event);
    const Json& choice = chunk.at("choices").at(0);
    EXPECT_TRUE(said.reason.empty()) << "something after the end";
    if (choice.at("finish_reason").is_string()) said.reason = text(choice.at("finish_reason"));
    const Json& delta = choice.at("delta");
    if (const Json* content = find(delta, "content")) said.content += text(*content);
    const Json* calls = find(delta, "tool_calls");
    if (calls == nullptr) continue;
    for (const Json& call : calls->as_array()) {
      const auto index = call.at("index").to_number<size_t>();
      if (const Json* id = find(call, "id")) {
        EXPECT_EQ(index, said.calls.size());
        EXPECT_EQ(call.at("type"), "function");
        said.calls.push_back({text(*id), text(call.at("function").at("name")), ""});
      }
      EXPECT_EQ(index + 1, said.calls.size());
      if (index < said.calls.size())
        said.calls[index][2] += text(call.at("function").at("arguments"));
    }
  }
  return said;
}

// Ids are new each time; all else is the same.
void expect_same(const Said& a, const Said& b) {
  EXPECT_EQ(a.content, b.content);
  EXPECT_EQ(a.reason, b.reason);
  ASSERT_EQ(a.calls.size(), b.calls.size());
  for (size_t i = 0; i < a.calls.size(); ++i) {
    EXPECT_NE(a.calls[i][0], b.calls[i][0]);
    EXPECT_EQ(a.calls[i][1], b.calls[i][1]);
    EXPECT_EQ(a.calls[i][2], b.calls[i][2]);
  }
}

void expect_valid(const std::array<std::string, 3>& call) {
  EXPECT_TRUE(call[0].starts_with("call_")) << call[0];
  const Json arguments = parsed(call[2]);
  if (call[1] == "ping") {
    EXPECT_TRUE(arguments.as_object().empty());
    return;
  }
  EXPECT_EQ(call[1], "add");
  EXPECT_GE(arguments.at("a").to_number<int>(), 1);
  EXPECT_LE(arguments.at("a").to_number<int>(), 99);
  EXPECT_TRUE(arguments.at("b") == "one" || arguments.at("b") == "two") << call[2];
}

TEST(GatewayTools, CallsThatAreAMust) {
  GatewayHarness server(gateway_harness());
  const std::string_view required = R"("tool_choice": "required", "parallel_tool_calls": false)";
  const Said any = whole(server, required);
  EXPECT_EQ(any.content, "");
  EXPECT_EQ(any.reason, "tool_calls");
  ASSERT_EQ(any.calls.size(), 1u);
  expect_valid(any.calls[0]);
  expect_same(streamed(server, required), any);

  const std::string_view many = R"("tool_choice": "required")";
  const Said several = whole(server, many);
  EXPECT_EQ(several.content, "");
  ASSERT_GE(several.calls.size(), 1u);
  if (several.reason == "tool_calls") {  // else cut in the last
    for (const auto& call : several.calls) expect_valid(call);
  }
  expect_same(streamed(server, many), several);

  for (const char* name : {"add", "ping"}) {
    const std::string named =
        fmt::format(R"("tool_choice": {{"type": "function", "function": {{"name": "{}"}}}})", name);
    const Said one = whole(server, named);
    EXPECT_EQ(one.reason, "stop");
    ASSERT_EQ(one.calls.size(), 1u);
    EXPECT_EQ(one.calls[0][1], name);
    expect_valid(one.calls[0]);
    expect_same(streamed(server, named), one);
  }
}

TEST(GatewayTools, CallsThatAModelMayMake) {
  GatewayHarnessOptions options = gateway_harness();
  options.chat_template += "{#- calls: <tool_call>{...}</tool_call> #}";
  GatewayHarness server(options);
  const std::string grammar =
      R"("grammar": "root ::= \"So. <tool_call>{\\\"name\\\": \\\"add\\\", )"
      R"(\\\"arguments\\\": {\\\"a\\\": \" [1-9]{2} \"}}</tool_call>\"")";
  const Said said = whole(server, grammar);
  EXPECT_EQ(said.content, "So.");
  EXPECT_EQ(said.reason, "tool_calls");
  ASSERT_EQ(said.calls.size(), 1u);
  EXPECT_EQ(said.calls[0][1], "add");
  const auto a = parsed(said.calls[0][2]).at("a").to_number<int>();
  EXPECT_GE(a, 11);
  EXPECT_LE(a, 99);
  expect_same(streamed(server, grammar), said);
  // Nobody asked for calls: the text as it is.
  const Said plain = whole(server, grammar + R"(, "tool_choice": "none")");
  EXPECT_TRUE(plain.content.starts_with("So. <tool_call>{")) << plain.content;
  EXPECT_EQ(plain.reason, "stop");
  EXPECT_TRUE(plain.calls.empty());
  // A template that knows no tags: no calls.
  GatewayHarness without(gateway_harness());
  EXPECT_TRUE(whole(without, grammar).calls.empty());
}

TEST(GatewayTools, SayWhatIsWrong) {
  GatewayHarness server(gateway_harness());
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {R"("tool_choice": "required", "response_format": {"type": "json_object"})", "keep one"},
      {R"("tool_choice": {"type": "function", "function": {"name": "sub"}})", "'sub'"},
      {R"("tool_choice": "perhaps")", "'required'"},
  };
  for (const auto& [more, sentence] : cases) {
    const HttpReply reply = server.post("/v1/chat/completions", request(more));
    EXPECT_EQ(reply.status, 400) << reply.body;
    EXPECT_EQ(parsed(reply.body).at("error").at("param"), "tool_choice") << reply.body;
    EXPECT_NE(reply.body.find(sentence), std::string::npos) << reply.body;
  }
}

}  // namespace
}  // namespace trireme::test
