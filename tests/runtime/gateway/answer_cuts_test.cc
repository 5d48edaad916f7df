// Streams say what wholes say: random tokens, of which many are parts of characters, in calls of
// every manner, cut into steps one way for the whole answer and another way for the stream.
#include <algorithm>
#include <array>
#include <map>
#include <random>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/http_client.h"
#include "tests/support/scripted_gateway.h"

namespace trireme::test {
namespace {

// One choice, put together.
struct Said {
  std::string text, reason;
  Json stop_reason;
  std::map<std::string, JsonArray> logprobs;  // each list of the object
  JsonArray ids, prompt_ids;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  int roles = 0;
  bool operator==(const Said&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Said& s) {
  out << s.text << " | " << s.reason << " " << s.stop_reason << " " << s.ids << s.prompt_ids;
  for (const auto& [name, list] : s.logprobs) out << " " << name << list;
  for (const auto& [name, arguments] : s.calls) out << " " << name << arguments;
  return out << " roles " << s.roles;
}

Json parsed(std::string_view text) {
  Result<Json> json = parse_json(text);
  CHECK(json.ok()) << text;
  return json.take();
}
std::string text(const Json& value) { return std::string(value.as_string()); }

void append(JsonArray& to, const Json* list) {
  if (list == nullptr || !list->is_array()) return;
  for (const Json& entry : list->as_array()) to.push_back(entry);
}

// What a choice of a whole answer, or of a chunk, adds.
void add(Said& said, const Json& choice) {
  ASSERT_EQ(said.reason, "") << "something after the end: " << choice;
  const Json* message = find(choice, "message");
  if (message == nullptr) message = find(choice, "delta");
  const Json* words = find(message == nullptr ? choice : *message, message ? "content" : "text");
  if (words != nullptr && words->is_string()) said.text += text(*words);
  if (message != nullptr) {
    said.roles += find(*message, "role") != nullptr;
    if (const Json* calls = find(*message, "tool_calls")) {
      for (const Json& call : calls->as_array()) {
        const Json& function = call.at("function");
        if (const Json* name = find(function, "name")) said.calls.emplace_back(text(*name), "");
        ASSERT_FALSE(said.calls.empty());
        if (const Json* index = find(call, "index")) {
          ASSERT_EQ(index->to_number<size_t>() + 1, said.calls.size());
        }
        said.calls.back().second += text(function.at("arguments"));
      }
    }
  }
  if (const Json* logprobs = find(choice, "logprobs"); logprobs && logprobs->is_object()) {
    for (const auto& [name, list] : logprobs->as_object()) {
      if (list.is_array() && !list.as_array().empty())
        append(said.logprobs[std::string(name)], &list);
    }
  }
  append(said.ids, find(choice, "token_ids"));
  append(said.prompt_ids, find(choice, "prompt_token_ids"));
  if (choice.at("finish_reason").is_string()) {
    said.reason = text(choice.at("finish_reason"));
    said.stop_reason = choice.at("stop_reason");
  }
}

struct Answer {
  std::vector<Said> choices;
  Json usage;
};

Answer whole(const FakeExchange& exchange) {
  const Json body = parsed(exchange.body());
  Answer answer;
  for (const Json& choice : body.at("choices").as_array()) {
    EXPECT_EQ(choice.at("index").to_number<size_t>(), answer.choices.size());
    add(answer.choices.emplace_back(), choice);
    append(answer.choices.back().prompt_ids, find(body, "prompt_token_ids"));
  }
  answer.usage = body.at("usage");
  return answer;
}

Answer streamed(const FakeExchange& exchange, size_t choices) {
  std::vector<std::string> events = sse_events(exchange.body());
  Answer answer;
  answer.choices.resize(choices);
  EXPECT_GE(events.size(), 2u);
  EXPECT_EQ(events.back(), "[DONE]");
  events.pop_back();
  for (size_t i = 0; i < events.size(); ++i) {
    const Json chunk = parsed(events[i]);
    const JsonArray& list = chunk.at("choices").as_array();
    EXPECT_EQ(list.size(), i + 1 < events.size() ? 1u : 0u) << events[i];
    if (list.empty()) {
      answer.usage = chunk.at("usage");
      continue;
    }
    Said& said = answer.choices.at(list[0].at("index").to_number<size_t>());
    add(said, list[0]);
    append(said.prompt_ids, find(chunk, "prompt_token_ids"));
  }
  return answer;
}

// One call, and what the engine says to it.
class Case {
 public:
  Case(const ScriptedGateway& gateway, uint64_t seed) : gateway_(gateway), random_(seed) {
    chat_ = chance(0.5);
    tools_ = chat_ && chance(0.4);
    for (size_t i = 1 + below(3); i > 0; --i) choices_.push_back(make_choice());
    ask();
  }

  bool chat() const { return chat_; }
  size_t choices() const { return choices_.size(); }
  std::string body(bool stream) const {
    return body_ + (stream ? R"(, "stream": true, "stream_options": {"include_usage": true}})"
                           : R"(, "stream": false})");
  }

  // The events of all choices, cut into steps anew.
  Script script() {
    Script script;
    Event scores;
    scores.kind = Event::Kind::kPromptScored;
    scores.prompt_scores = scores_;
    script.steps.push_back({scheduled_event(1), scores});
    std::vector<size_t> at(choices_.size(), 0);
    for (size_t left = choices_.size(); left > 0;) {
      std::vector<Event>& step = script.steps.emplace_back();
      for (size_t c = 0; c < choices_.size(); ++c) {
        for (size_t n = below(4); n > 0 && at[c] < choices_[c].size(); --n) {
          step.push_back(choices_[c][at[c]++]);
          step.back().choice = static_cast<uint32_t>(c);
          left -= step.back().kind == Event::Kind::kFinished;
        }
      }
    }
    return script;
  }

 private:
  size_t below(size_t n) { return random_() % n; }
  bool chance(double p) { return static_cast<double>(below(1000)) < p * 1000; }
  float logprob() { return -static_cast<float>(below(4000)) / 256; }

  SampledToken scored(int32_t id) {
    SampledToken token;
    token.token = id;
    token.logprob = logprob();
    for (int i = 0; i < 2; ++i) token.top_logprobs.emplace_back(token_id(), logprob());
    return token;
  }
  // Half of them single bytes, a few special.
  int32_t token_id() {
    const auto vocab = static_cast<size_t>(gateway_.tokenizer().vocab_size());
    return static_cast<int32_t>(chance(0.5) ? below(std::min<size_t>(vocab, 260)) : below(vocab));
  }

  std::vector<Event> make_choice() {
    std::vector<int32_t> ids;
    for (size_t i = below(20); i > 0; --i) ids.push_back(token_id());
    for (size_t i = tools_ ? below(3) : 0; i > 0; --i) {
      constexpr std::array<const char*, 4> kCalls = {
          R"(<tool_call>{"name": "add", "arguments": {"a": [1, "}"]}}</tool_call>)",
          R"( <tool_call>{"arguments": {}, "name": "ping"})", R"(<tool_call>{"name": 7})",
          "<tool_c"};
      for (const int32_t id : gateway_.tokens(kCalls[below(kCalls.size())])) ids.push_back(id);
      for (size_t n = below(4); n > 0; --n) ids.push_back(token_id());
    }
    all_.insert(all_.end(), ids.begin(), ids.end());
    std::vector<Event> events;
    for (const int32_t id : ids) {
      events.push_back(token_event(0, id));
      events.back().sampled = scored(id);
    }
    const bool length = chance(0.4);
    events.push_back(finished_event(0, length ? FinishReason::kLength : FinishReason::kStop,
                                    length || chance(0.5) ? -1 : kStopToken));
    return events;
  }

  // A piece of what is said: characters, not bytes.
  std::string stop() {
    const std::string said = gateway_.tokenizer().decode(all_, /*skip_special=*/false);
    std::vector<size_t> starts;
    for (size_t i = 0; i < said.size(); ++i) {
      if ((said[i] & 0xC0) != 0x80) starts.push_back(i);
    }
    if (starts.empty()) return "none";
    const size_t first = below(starts.size());
    const size_t last = std::min(first + 1 + below(6), starts.size());
    const size_t end = last == starts.size() ? said.size() : starts[last];
    return said.substr(starts[first], end - starts[first]);
  }

  void ask() {
    const auto boolean = [&](const char* name, double p) {
      if (chance(p)) body_ += fmt::format(R"(, "{}": true)", name);
    };
    const std::vector<int32_t> prompt = gateway_.tokens("Thus saith the LORD");
    for (size_t i = 1; i < prompt.size(); ++i) scores_.push_back(scored(prompt[i]));
    body_ = chat_ ? R"({"messages": [{"role": "user", "content": "Who?"}])"
                  : R"({"prompt": "Thus saith the LORD")";
    body_ += fmt::format(R"(, "temperature": 1, "n": {}, "stop_token_ids": [{}])", choices_.size(),
                         kStopToken);
    if (tools_)
      body_ += R"(, "tools": [{"function": {"name": "add"}}, {"function": {"name": "ping"}}])";
    if (tools_ && chance(0.2)) body_ += R"(, "parallel_tool_calls": false)";
    if (chance(0.5))
      body_ += chat_ ? R"(, "logprobs": true, "top_logprobs": 2)" : R"(, "logprobs": 2)";
    if (!chat_) boolean("echo", 0.3);
    boolean("return_token_ids", 0.5);
    boolean("return_tokens_as_token_ids", 0.2);
    boolean("include_stop_str_in_output", 0.3);
    if (chance(0.3)) body_ += R"(, "skip_special_tokens": false)";
    if (chance(0.3)) body_ += fmt::format(R"(, "min_tokens": {}, "max_tokens": 500)", below(12));
    if (!chance(0.6)) return;
    JsonArray stops;
    for (size_t i = 1 + below(3); i > 0; --i) stops.emplace_back(stop());
    body_ += R"(, "stop": )" + boost::json::serialize(stops);
  }

  static constexpr int32_t kStopToken = 7;
  const ScriptedGateway& gateway_;
  std::mt19937_64 random_;
  bool chat_ = false, tools_ = false;
  std::vector<std::vector<Event>> choices_;
  std::vector<int32_t> all_;  // tokens of all choices
  std::vector<SampledToken> scores_;
  std::string body_;
};

TEST(AnswerCuts, StreamsSayWhatWholesSay) {
  ScriptedGatewayOptions options;
  options.gateway.tool_format = ToolFormat::kHermes;
  ScriptedGateway gateway(options);
  size_t stopped = 0, called = 0, scored = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    Case c(gateway, seed);
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, c.body(true)));
    const std::string path = c.chat() ? "/v1/chat/completions" : "/v1/completions";
    const auto run = [&](bool stream) -> const FakeExchange& {
      gateway.engine().scripts = {c.script()};
      FakeExchange& exchange = gateway.ask(path, c.body(stream));
      // Prompts with tools become tokens on another thread.
      gateway.until([&] { return gateway.engine().scripts.empty() || exchange.returned(); });
      gateway.drive();
      return exchange;
    };
    const FakeExchange& one = run(false);
    ASSERT_EQ(one.status(), 200) << one.body();
    const FakeExchange& other = run(true);
    ASSERT_EQ(other.status(), 200) << other.body();
    const Answer all = whole(one), pieces = streamed(other, c.choices());
    EXPECT_EQ(all.choices, pieces.choices);
    EXPECT_EQ(all.usage, pieces.usage);
    for (const Said& said : all.choices) {
      EXPECT_NE(said.reason, "");
      stopped += said.stop_reason.is_string();
      called += !said.calls.empty();
      scored += !said.logprobs.empty();
    }
    if (HasFailure()) break;
  }
  // The seeds reach what they are for.
  EXPECT_GT(stopped, 300u);
  EXPECT_GT(called, 100u);
  EXPECT_GT(scored, 300u);
  EXPECT_EQ(gateway.engine().open_choices(), 0u);
  EXPECT_TRUE(gateway.engine().cancelled.empty());
}

}  // namespace
}  // namespace trireme::test
