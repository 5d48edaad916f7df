// The OpenAI-compatible API over a real engine and real sockets: what clients send and what they
// get.
#include "runtime/gateway/gateway.h"

#include <cstring>
#include <map>
#include <set>
#include <thread>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/support/gateway_harness.h"

namespace trireme::test {
namespace {

JsonObject parsed(std::string_view text) {
  Result<Json> json = parse_json(text);
  CHECK(json.ok() && json->is_object()) << text;
  return json->as_object();
}
const JsonObject& choice(const JsonObject& answer, size_t index = 0) {
  return answer.at("choices").as_array().at(index).as_object();
}
std::string text(const Json& value) { return std::string(value.as_string()); }

constexpr std::string_view kPrompt = R"("prompt": "And God said unto Moses", "temperature": 0)";

std::string completion(std::string_view more) {
  return fmt::format("{{\"model\": \"demo\", {}{}{}}}", kPrompt, more.empty() ? "" : ", ", more);
}
std::string chat(std::string_view more) {
  return fmt::format(
      "{{\"model\": \"demo\", \"messages\": [{{\"role\": \"user\", \"content\": \"Who?\"}}], "
      "\"temperature\": 0{}{}}}",
      more.empty() ? "" : ", ", more);
}

TEST(Gateway, CompletesAPrompt) {
  GatewayHarness server(gateway_harness());
  const HttpReply reply = server.post("/v1/completions", completion(R"("max_tokens": 12)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const JsonObject answer = parsed(reply.body);
  EXPECT_EQ(text(answer.at("object")), "text_completion");
  EXPECT_TRUE(text(answer.at("id")).starts_with("cmpl-"));
  EXPECT_EQ(text(answer.at("model")), "demo");
  EXPECT_EQ(text(choice(answer).at("finish_reason")), "length");
  EXPECT_TRUE(choice(answer).at("logprobs").is_null());
  const JsonObject& usage = answer.at("usage").as_object();
  EXPECT_EQ(usage.at("completion_tokens").to_number<int>(), 12);
  EXPECT_EQ(usage.at("total_tokens").to_number<int>(),
            12 + usage.at("prompt_tokens").to_number<int>());
  // The same request gives the same text; by another name of the model, too; and without /v1.
  for (const char* path : {"/v1/completions", "/completions"}) {
    const JsonObject again = parsed(server.post(path, completion(R"("max_tokens": 12)")).body);
    EXPECT_EQ(choice(again).at("text"), choice(answer).at("text"));
  }
}

// Where a body is read is nobody's business: a large one is answered as a small one is.
TEST(Gateway, LargeBodiesSayWhatSmallOnesSay) {
  GatewayHarness server(gateway_harness());
  const std::string padding = fmt::format(R"(, "user": "{}")", std::string(100'000, 'x'));
  for (const bool is_chat : {false, true}) {
    const std::string path = is_chat ? "/v1/chat/completions" : "/v1/completions";
    std::vector<JsonArray> choices;
    for (const std::string& more :
         {std::string(R"("max_tokens": 9)"), R"("max_tokens": 9)" + padding}) {
      const HttpReply reply = server.post(path, is_chat ? chat(more) : completion(more));
      ASSERT_EQ(reply.status, 200) << reply.body.substr(0, 300);
      choices.push_back(parsed(reply.body).at("choices").as_array());
    }
    EXPECT_EQ(choices[0], choices[1]);
    for (const std::string& wrong : {R"("max_tokens": -1)" + padding, R"("n": [])" + padding}) {
      const HttpReply reply = server.post(path, is_chat ? chat(wrong) : completion(wrong));
      EXPECT_EQ(reply.status, 400);
      EXPECT_FALSE(parsed(reply.body).at("error").at("param").is_null()) << reply.body;
    }
    EXPECT_EQ(server.post(path, std::string(50'000, '[')).status, 400);
  }
}

// Every way to ask, once whole and once as a stream: the deltas put together are the whole.
TEST(Gateway, StreamsSayWhatWholesSay) {
  GatewayHarness server(gateway_harness());
  const std::vector<std::string> manners = {
      R"("max_tokens": 40)",
      R"("max_tokens": 40, "stop": ["LORD", "the s"])",
      R"("max_tokens": 40, "stop": "unto", "include_stop_str_in_output": true)",
      R"("max_tokens": 30, "n": 3, "temperature": 0.8, "seed": 7)",
      R"("max_tokens": 20, "logprobs": LOGPROBS)",
      R"("max_tokens": 1)",
  };
  for (const bool is_chat : {false, true}) {
    for (std::string manner : manners) {
      SCOPED_TRACE(fmt::format("{} {}", is_chat ? "chat" : "completion", manner));
      const size_t at = manner.find("LOGPROBS");
      if (at != std::string::npos)
        manner.replace(at, 8, is_chat ? "true, \"top_logprobs\": 2" : "2");
      const size_t warm = manner.find("\"temperature\"");
      std::string body = is_chat ? chat(manner) : completion(manner);
      if (warm != std::string::npos) {  // the last of two would be an error: leave out the first
        const size_t first = body.find(", \"temperature\": 0");
        body.erase(first, 18);
      }
      const std::string path = is_chat ? "/v1/chat/completions" : "/v1/completions";
      const HttpReply whole_reply = server.post(path, body);
      ASSERT_EQ(whole_reply.status, 200) << whole_reply.body;
      const JsonObject whole = parsed(whole_reply.body);
      body.back() = ',';
      body += R"( "stream": true, "stream_options": {"include_usage": true}})";
      const HttpReply stream = server.post(path, body);
      ASSERT_EQ(stream.status, 200) << stream.body;
      EXPECT_EQ(stream.headers.at("content-type"), "text/event-stream; charset=utf-8");
      std::vector<std::string> events = sse_events(stream.body);
      ASSERT_GE(events.size(), 3u);
      EXPECT_EQ(events.back(), "[DONE]");
      events.pop_back();
      const JsonObject usage = parsed(events.back());
      EXPECT_TRUE(usage.at("choices").as_array().empty());
      EXPECT_EQ(usage.at("usage").at("completion_tokens"),
                whole.at("usage").at("completion_tokens"));
      events.pop_back();
      std::map<int, std::string> texts, reasons;
      std::map<int, size_t> roles;
      std::map<int, JsonArray> logprobs;
      std::set<std::string> ids;
      for (const std::string& event : events) {
        const JsonObject chunk = parsed(event);
        ids.insert(text(chunk.at("id")));
        ASSERT_EQ(chunk.at("choices").as_array().size(), 1u);
        const JsonObject& c = choice(chunk);
        const int index = c.at("index").to_number<int>();
        EXPECT_FALSE(reasons.contains(index)) << "something after the end";
        if (is_chat) {
          const JsonObject& delta = c.at("delta").as_object();
          roles[index] += delta.contains("role");
          if (const Json* content = delta.if_contains("content")) texts[index] += text(*content);
        } else {
          texts[index] += text(c.at("text"));
        }
        if (!c.at("finish_reason").is_null()) reasons[index] = text(c.at("finish_reason"));
        if (c.at("logprobs").is_object()) {
          const Json& list =
              is_chat ? c.at("logprobs").at("content") : c.at("logprobs").at("tokens");
          for (const Json& entry : list.as_array()) logprobs[index].push_back(entry);
        }
      }
      EXPECT_EQ(ids.size(), 1u);
      const size_t n = whole.at("choices").as_array().size();
      for (size_t i = 0; i < n; ++i) {
        const JsonObject& c = choice(whole, i);
        const int index = static_cast<int>(i);
        EXPECT_EQ(texts[index], text(is_chat ? c.at("message").at("content") : c.at("text")));
        EXPECT_EQ(reasons[index], text(c.at("finish_reason")));
        if (is_chat) {
          EXPECT_EQ(roles[index], 1u);
        }
        if (!c.at("logprobs").is_object()) continue;
        EXPECT_EQ(Json(logprobs[index]),
                  is_chat ? c.at("logprobs").at("content") : c.at("logprobs").at("tokens"));
      }
      // The role comes with the first token, so that the first byte is an honest first token.
      if (is_chat) {
        EXPECT_GE(sse_events(stream.chunks[0]).size(), n == 1 ? 2u : 1u);
      }
    }
  }
}

TEST(Gateway, StopStringsEndTheText) {
  GatewayHarness server(gateway_harness());
  const JsonObject whole =
      parsed(server.post("/v1/completions", completion(R"("max_tokens": 40)")).body);
  const std::string all = text(choice(whole).at("text"));
  const std::string stop = all.substr(all.size() / 2, 5);
  const std::string body = completion(
      fmt::format("\"max_tokens\": 40, \"stop\": [{}]", boost::json::serialize(Json(stop))));
  const JsonObject cut = parsed(server.post("/v1/completions", body).body);
  EXPECT_EQ(text(choice(cut).at("text")), all.substr(0, all.find(stop)));
  EXPECT_EQ(text(choice(cut).at("finish_reason")), "stop");
  EXPECT_EQ(text(choice(cut).at("stop_reason")), stop);
}

// What lm-eval asks: the scores of a prompt, with nothing after it or one token.
TEST(Gateway, EchoesWithLogprobs) {
  GatewayHarness server(gateway_harness());
  for (const int max_tokens : {0, 1, 3}) {
    const HttpReply reply = server.post(
        "/v1/completions",
        completion(fmt::format("\"max_tokens\": {}, \"echo\": true, \"logprobs\": 1", max_tokens)));
    ASSERT_EQ(reply.status, 200) << reply.body;
    const JsonObject answer = parsed(reply.body);
    const JsonObject& logprobs = choice(answer).at("logprobs").as_object();
    const JsonArray& tokens = logprobs.at("tokens").as_array();
    const JsonArray& values = logprobs.at("token_logprobs").as_array();
    const JsonArray& top = logprobs.at("top_logprobs").as_array();
    const JsonArray& offsets = logprobs.at("text_offset").as_array();
    const size_t prompt = answer.at("usage").at("prompt_tokens").to_number<size_t>();
    ASSERT_EQ(tokens.size(), prompt + static_cast<size_t>(max_tokens));
    ASSERT_TRUE(values.size() == tokens.size() && top.size() == tokens.size() &&
                offsets.size() == tokens.size());
    EXPECT_TRUE(values[0].is_null() && top[0].is_null());
    std::string joined;
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(offsets[i].to_number<size_t>(), joined.size());
      joined += text(tokens[i]);
      if (i == 0) continue;
      const JsonObject& best = top[i].as_object();
      EXPECT_TRUE(best.size() == 1 || best.size() == 2);
      EXPECT_EQ(best.at(tokens[i].as_string()), values[i]);
      for (const auto& [token, logprob] : best) EXPECT_LE(logprob.to_number<double>(), 0.0);
      // A greedy token is its own likeliest.
      if (i >= prompt) {
        EXPECT_EQ(best.size(), 1u);
      }
    }
    EXPECT_TRUE(joined.ends_with(text(choice(answer).at("text")).substr(4))) << joined;
    EXPECT_TRUE(text(choice(answer).at("text")).starts_with("And God said unto Moses"));
  }
}

TEST(Gateway, BatchesPrompts) {
  GatewayHarness server(gateway_harness());
  const std::vector<int32_t> ids = *server.tokenizer().encode("In the beginning", {});
  const std::string list = fmt::format("[{}]", fmt::join(ids, ", "));
  const auto ask = [&](const std::string& prompt) {
    return parsed(server
                      .post("/v1/completions",
                            "{\"prompt\": " + prompt +
                                ", \"max_tokens\": 5, \"temperature\": 0.7, \"n\": 2, \"seed\": 3}")
                      .body);
  };
  const JsonObject by_text = ask("\"In the beginning\"");
  const JsonObject by_ids = ask(list);
  const JsonObject both = ask("[\"In the beginning\", \"Thus saith\"]");
  const JsonObject lists = ask("[" + list + ", " + list + "]");
  ASSERT_EQ(both.at("choices").as_array().size(), 4u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(choice(by_ids, i).at("text"), choice(by_text, i).at("text"));
    EXPECT_EQ(choice(both, i).at("text"), choice(by_text, i).at("text"));
    EXPECT_EQ(choice(lists, i + 2).at("text"), choice(by_text, i).at("text"));
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(choice(both, i).at("index").to_number<size_t>(), i);
}

// What is wrong, with which status, and which parameter is named.
TEST(Gateway, SaysWhatIsWrong) {
  GatewayHarness server(gateway_harness());
  struct Case {
    std::string path, body;
    int status;
    std::string param, message;
  };
  const std::string long_prompt(4000, 'a');
  const std::vector<Case> cases = {
      {"/v1/completions", "{", 400, "", "the body is not JSON"},
      {"/v1/completions", "[]", 400, "", "not an object"},
      {"/v1/completions", "{\"prompt\": \"a\", \"prompt\": \"b\"}", 400, "", "prompt"},
      {"/v1/completions", "{}", 400, "prompt", "must be a string"},
      {"/v1/completions", "{\"prompt\": []}", 400, "prompt", "must be a string"},
      {"/v1/completions", "{\"prompt\": [1, \"a\"]}", 400, "prompt", "must be a string"},
      {"/v1/completions", "{\"prompt\": [1000000]}", 400, "", "vocabulary has tokens 0 to"},
      {"/v1/completions", "{\"prompt\": [-1]}", 400, "prompt", "token -1"},
      {"/v1/completions", completion("\"top_p\": 0"), 400, "top_p", "above 0 and at most 1"},
      {"/v1/completions", completion("\"top_p\": \"x\""), 400, "top_p", "must be a number"},
      {"/v1/completions", completion("\"max_tokens\": -1"), 400, "max_tokens", "from 0 to"},
      {"/v1/completions", completion("\"max_tokens\": 1.5"), 400, "max_tokens",
       "must be an integer"},
      {"/v1/completions", completion("\"n\": 0"), 400, "n", "from 1 to 128"},
      {"/v1/completions", completion("\"n\": 2"), 400, "n", "temperature 0"},
      {"/v1/completions", completion("\"best_of\": 2"), 400, "best_of", "must equal n"},
      {"/v1/completions", completion("\"suffix\": \"x\""), 400, "suffix", "not supported"},
      {"/v1/completions", completion("\"logprobs\": 21"), 400, "logprobs", "from 0 to 20"},
      {"/v1/completions", completion("\"stop\": [1]"), 400, "stop", "no string"},
      {"/v1/completions", completion("\"logit_bias\": {\"x\": 1}"), 400, "logit_bias", "token ids"},
      {"/v1/completions", completion("\"logit_bias\": {\"1\": 200}"), 400, "logit_bias",
       "-100 to 100"},
      {"/v1/completions", completion("\"stream_options\": {}"), 400, "stream_options",
       "for streams"},
      {"/v1/completions", completion("\"min_tokens\": 99"), 400, "min_tokens", "above max_tokens"},
      {"/v1/completions", completion("\"response_format\": {\"type\": \"xml\"}"), 400,
       "response_format.type", "one of text, json_object, json_schema"},
      {"/v1/completions", fmt::format("{{\"prompt\": \"{}\"}}", long_prompt), 400, "prompt",
       "context holds 512"},
      {"/v1/completions", "{\"model\": \"other\", \"prompt\": \"a\"}", 404, "model",
       "is not served here: demo, alias is"},
      {"/v1/chat/completions", "{}", 400, "messages", "at least one message"},
      {"/v1/chat/completions", "{\"messages\": [{\"role\": \"robot\", \"content\": \"a\"}]}", 400,
       "messages[0].role", "must be system"},
      {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\"}]}", 400, "messages[0].content",
       "is missing"},
      {"/v1/chat/completions",
       "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", 400,
       "messages", "no text"},
      {"/v1/chat/completions", chat("\"top_logprobs\": 3"), 400, "top_logprobs", "needs logprobs"},
      {"/v1/chat/completions", chat("\"tool_choice\": \"required\""), 400, "tool_choice",
       "needs tools"},
      {"/detokenize", "{\"tokens\": \"x\"}", 400, "tokens", "must be a list"},
      // Once ended the server: gcc 12 and a conditional expression next to a co_await.
      {"/detokenize", "[null, null]", 400, "", "not an object"},
      {"/tokenize", "[null, null]", 400, "", "not an object"},
      {"/tokenize", "[", 400, "", "the body is not JSON"},
      {"/tokenize", "{}", 400, "prompt", "is missing"},
      {"/tokenize", "{\"prompt\": \"a\", \"model\": \"b\"}", 404, "model", "is not served"},
      {"/tokenize", "{\"messages\": []}", 400, "messages", "at least one message"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.path + " " + c.body.substr(0, 120));
    const HttpReply reply = server.post(c.path, c.body);
    EXPECT_EQ(reply.status, c.status) << reply.body;
    const JsonObject error = parsed(reply.body).at("error").as_object();
    EXPECT_NE(text(error.at("message")).find(c.message), std::string::npos) << reply.body;
    const Json& param = error.at("param");
    EXPECT_EQ(param.is_null() ? "" : text(param), c.param);
    EXPECT_TRUE(error.contains("type") && error.contains("code"));
  }
  // Null is the default, and what nobody knows is nobody's matter.
  EXPECT_EQ(server
                .post("/v1/completions",
                      completion("\"max_tokens\": 2, \"stop\": null, \"n\": null, \"colour\": 3"))
                .status,
            200);
}

// The form of the output, as each dialect says it; streamed and whole.
TEST(Gateway, KeepsOutputsToTheirForm) {
  GatewayHarness server(gateway_harness());
  const std::string schema =
      R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "n": {"type":
          "integer", "minimum": 1, "maximum": 40}}, "required": ["name", "n"]})";
  const auto answer = [&](const std::string& more) {
    const HttpReply reply = server.post(
        "/v1/completions",
        R"({"prompt": "And", "max_tokens": 120, "temperature": 1, "seed": 4, )" + more + "}");
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.status == 200 ? parsed(reply.body) : JsonObject();
  };
  for (const std::string& form :
       {R"("response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": )" +
            schema + "}}",
        R"("structured_outputs": {"json": )" + schema + "}", R"("guided_json": )" + schema}) {
    const JsonObject made = answer(form);
    EXPECT_EQ(text(choice(made).at("finish_reason")), "stop");
    const JsonObject value = parsed(text(choice(made).at("text")));
    EXPECT_LE(text(value.at("name")).size(), 20u);
    EXPECT_GE(value.at("n").to_number<int>(), 1);
    EXPECT_LE(value.at("n").to_number<int>(), 40);
  }
  const std::string digits =
      text(choice(answer(R"("structured_outputs": {"regex": "[0-9]{3}-[0-9]{2}"})")).at("text"));
  EXPECT_EQ(digits.size(), 6u) << digits;
  const std::string chosen =
      text(choice(answer(R"("guided_choice": ["Moses", "Aaron"])")).at("text"));
  EXPECT_TRUE(chosen == "Moses" || chosen == "Aaron") << chosen;
  const std::string by_grammar =
      text(choice(answer(R"("grammar": "root ::= \"[\" [a-c]{2,4} \"]\"")")).at("text"));
  EXPECT_TRUE(by_grammar.starts_with("[") && by_grammar.ends_with("]")) << by_grammar;
  const HttpReply bad =
      server.post("/v1/completions",
                  R"({"prompt": "And", "response_format": {"type": "json_schema", "json_schema":
                             {"schema": {"type": "date"}}}})");
  EXPECT_EQ(bad.status, 400);
  EXPECT_NE(bad.body.find("'date' is no type of JSON"), std::string::npos) << bad.body;
}

// What a request asks for leaves no token at all: found when one is to be chosen, and its own
// fault.
TEST(Gateway, RefusesWhatLeavesNoToken) {
  GatewayHarness server(gateway_harness());
  for (const char* n : {"1", "2"}) {
    const HttpReply reply = server.post(
        "/v1/completions",
        fmt::format(R"({{"prompt": "And", "n": {}, "structured_outputs": {{"choice": ["Moses"]}},
                         "allowed_token_ids": [300]}})",
                    n));
    EXPECT_EQ(reply.status, 400) << reply.body;
    EXPECT_NE(reply.body.find("no token may come"), std::string::npos) << reply.body;
  }
}

TEST(Gateway, ChoosesAmongAllowedTokensAndAvoidsBadWords) {
  GatewayHarness server(gateway_harness());
  const auto ids = [](const JsonObject& answer) {
    std::vector<int> out;
    for (const Json& id : choice(answer).at("token_ids").as_array())
      out.push_back(id.to_number<int>());
    return out;
  };
  const auto ask = [&](const std::string& more) {
    const HttpReply reply = server.post(
        "/v1/completions", completion(R"("max_tokens": 16, "return_token_ids": true)" + more));
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.status == 200 ? parsed(reply.body) : JsonObject();
  };
  for (const int id : ids(ask(R"(, "allowed_token_ids": [40, 41, 42])"))) {
    EXPECT_GE(id, 40);
    EXPECT_LE(id, 42);
  }
  // The first word of what it would say; then of what it says instead.
  const std::string first = text(choice(ask("")).at("text"));
  const size_t from = first.find_first_not_of(" ,");
  const std::string word = first.substr(from, first.find_first_of(" ,.", from) - from);
  ASSERT_FALSE(word.empty());
  const std::string without =
      text(choice(ask(fmt::format(R"(, "bad_words": ["{}"])", word))).at("text"));
  EXPECT_NE(without.substr(0, from + word.size()), first.substr(0, from + word.size()));
  for (const char* bad : {R"("allowed_token_ids": [])", R"("allowed_token_ids": [1000000])",
                          R"("bad_words": [""])", R"("bad_words": 7)"}) {
    const HttpReply reply = server.post("/v1/completions", completion(bad));
    EXPECT_EQ(reply.status, 400) << bad << reply.body;
  }
}

TEST(Gateway, KnowsItsModelsAndTokens) {
  GatewayHarness server(gateway_harness());
  const JsonObject models = parsed(server.get("/v1/models").body);
  const JsonArray& list = models.at("data").as_array();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(text(list[0].at("id")), "demo");
  EXPECT_EQ(text(list[0].at("root")), "configs/models/gqa");
  EXPECT_EQ(list[0].at("max_model_len").to_number<int>(), 512);
  EXPECT_EQ(server.get("/v1/models/alias").status, 200);
  EXPECT_EQ(server.get("/v1/models/none").status, 404);
  const JsonObject tokens = parsed(
      server.post("/tokenize", R"({"prompt": "And it came", "add_special_tokens": false})").body);
  const JsonArray& ids = tokens.at("tokens").as_array();
  EXPECT_EQ(ids.size(), tokens.at("count").to_number<size_t>());
  const JsonObject back =
      parsed(server.post("/detokenize", "{\"tokens\": " + boost::json::serialize(ids) + "}").body);
  EXPECT_EQ(text(back.at("prompt")), "And it came");
  EXPECT_TRUE(parsed(server.get("/tokenizer_info").body).contains("eos_token"));
  EXPECT_EQ(text(parsed(server.get("/version").body).at("version")), "test");
}

TEST(Gateway, SaysHowItIs) {
  GatewayHarnessOptions o = gateway_harness();
  o.engine_at_once = false;
  GatewayHarness server(o);
  EXPECT_EQ(server.get("/health").status, 503);
  const HttpReply early = server.post("/v1/completions", completion(""));
  EXPECT_EQ(early.status, 503);
  EXPECT_EQ(text(parsed(early.body).at("error").at("code")), "loading");
  EXPECT_EQ(server.get("/metrics").status, 200);
  server.start_engine();
  EXPECT_EQ(server.get("/health").status, 200);
  server.gateway().set_draining();
  const HttpReply late = server.post("/v1/completions", completion(""));
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(text(parsed(late.body).at("error").at("code")), "draining");
  EXPECT_TRUE(late.headers.contains("retry-after"));
}

// Name{labels} -> value, of the text format; each name has its TYPE once, before its samples.
std::map<std::string, double> metrics(const std::string& page) {
  std::map<std::string, double> values;
  std::set<std::string> types;
  size_t begin = 0;
  while (begin < page.size()) {
    const size_t end = page.find('\n', begin);
    const std::string line = page.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("# TYPE ")) {
      const std::string name = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(types.insert(name).second) << name << " has two types";
    }
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    std::string name = line.substr(0, line.find('{'));
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      const std::string base = name.substr(0, name.size() - std::strlen(suffix));
      if (name.ends_with(suffix) && types.contains(base)) name = base;
    }
    EXPECT_TRUE(types.contains(name)) << line;
    EXPECT_TRUE(values.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << line;
  }
  return values;
}

TEST(Gateway, CountsWhatItDoes) {
  GatewayHarness server(gateway_harness());
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(server.post("/v1/completions", completion("\"max_tokens\": 8")).status, 200);
  const HttpReply page = server.get("/metrics");
  EXPECT_EQ(page.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const auto values = metrics(page.body);
  const std::string labels = "{model_name=\"demo\",engine=\"0\"}";
  EXPECT_EQ(values.at("vllm:generation_tokens_total" + labels), 24);
  EXPECT_EQ(values.at("vllm:num_requests_running" + labels), 0);
  EXPECT_EQ(values.at("vllm:num_preemptions_total" + labels), 0);
  EXPECT_TRUE(values.contains("vllm:gpu_cache_usage_perc" + labels));
  EXPECT_GT(values.at("trireme_steps_total" + labels), 8);
  double ttft = -1, success = -1, itl = -1, answered = -1;
  for (const auto& [name, value] : values) {
    if (name.starts_with("vllm:time_to_first_token_seconds_count")) ttft = value;
    if (name.starts_with("vllm:inter_token_latency_seconds_count")) itl = value;
    if (name.starts_with("vllm:request_success_total") && name.find("length") != std::string::npos)
      success = value;
    if (name.starts_with("trireme_http_responses_total") &&
        name.find("/v1/completions") != std::string::npos)
      answered = value;
  }
  EXPECT_EQ(ttft, 3);
  EXPECT_EQ(itl, 21);
  EXPECT_EQ(success, 3);
  EXPECT_EQ(answered, 3);
}

TEST(Gateway, AsksForAKey) {
  GatewayHarnessOptions o = gateway_harness();
  o.api_keys = {"first-secret", "second-secret"};
  GatewayHarness server(o);
  const std::string body = completion("\"max_tokens\": 1");
  const auto with = [&](const std::string& header) {
    return http(server.port(), "POST", "/v1/completions", body, {header});
  };
  const HttpReply none = server.post("/v1/completions", body);
  EXPECT_EQ(none.status, 401);
  EXPECT_EQ(none.headers.at("www-authenticate"), "Bearer");
  EXPECT_EQ(text(parsed(none.body).at("error").at("code")), "invalid_api_key");
  EXPECT_EQ(with("Authorization: Bearer wrong").status, 401);
  EXPECT_EQ(with("Authorization: first-secret").status, 401);
  EXPECT_EQ(with("Authorization: Bearer first-secret").status, 200);
  EXPECT_EQ(with("Authorization: Bearer second-secret").status, 200);
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/v1/models").status, 401);
}

// Waits for a condition that events in other threads bring about.
template <class Condition>
bool eventually(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(Gateway, AClientThatLeavesIsNotServedOn) {
  GatewayHarness server(gateway_harness());
  for (const bool stream : {true, false}) {
    const uint64_t before = server.engine().stats().finished_cancelled;
    HttpConnection client(server.port());
    client.request("POST", "/v1/completions",
                   completion(fmt::format(
                       "\"max_tokens\": 480, \"ignore_eos\": true, \"stream\": {}", stream)));
    if (stream) client.read_until("data: ");
    EXPECT_TRUE(eventually([&] { return server.engine().stats().steps > 0; }));
    client.close();
    EXPECT_TRUE(eventually([&] { return server.engine().stats().finished_cancelled > before; }));
  }
  // The stream had begun; the other had not been answered, and that is no failure of the server.
  EXPECT_TRUE(eventually([&] {
    const std::string page = server.get("/metrics").body;
    const auto counts = [&](int status) {
      return page.find(fmt::format(
                 "trireme_http_responses_total{{route=\"/v1/completions\",status=\"{}\"}} 1",
                 status)) != std::string::npos;
    };
    EXPECT_FALSE(counts(500)) << page;
    return counts(200) && counts(499);
  }));
}

TEST(Gateway, RefusesMoreThanItCanKeepWaiting) {
  GatewayHarnessOptions o = gateway_harness();
  o.engine.engine.requests_waiting_max = 1;
  o.engine.engine.budget.sequences_max = 1;
  GatewayHarness server(o);
  std::vector<std::unique_ptr<HttpConnection>> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(std::make_unique<HttpConnection>(server.port()));
    clients.back()->request("POST", "/v1/completions",
                            completion("\"max_tokens\": 200, \"ignore_eos\": true"));
  }
  std::map<int, int> statuses;
  for (const auto& client : clients) {
    const HttpReply reply = client->reply();
    ++statuses[reply.status];
    if (reply.status == 429) {
      EXPECT_TRUE(reply.headers.contains("retry-after"));
    }
  }
  EXPECT_GT(statuses[200], 0);
  EXPECT_GT(statuses[429], 0);
  EXPECT_EQ(statuses[200] + statuses[429], 12);
}

// Many streams at once over few threads: each is what it is alone.
TEST(Gateway, ManyStreamsAtOnce) {
  GatewayHarness server(gateway_harness());
  constexpr int kClients = 64;
  const auto body = [](int i) {
    return fmt::format(
        "{{\"prompt\": \"And {} said\", \"max_tokens\": {}, \"temperature\": 0.9, \"seed\": {}, "
        "\"stream\": true}}",
        i % 7, 5 + i % 20, i % 9);
  };
  std::map<std::string, std::string> alone;
  const auto joined = [](const HttpReply& reply) {
    std::string all;
    for (const std::string& event : sse_events(reply.body)) {
      if (event != "[DONE]") all += text(choice(parsed(event)).at("text"));
    }
    return all;
  };
  for (int i = 0; i < kClients; ++i) {
    if (!alone.contains(body(i))) alone[body(i)] = joined(server.post("/v1/completions", body(i)));
  }
  std::vector<std::unique_ptr<HttpConnection>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<HttpConnection>(server.port()));
    clients.back()->request("POST", "/v1/completions", body(i));
  }
  for (int i = 0; i < kClients; ++i) {
    const HttpReply reply = clients[static_cast<size_t>(i)]->reply();
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(joined(reply), alone[body(i)]) << i;
  }
}

}  // namespace
}  // namespace trireme::test
