// The answers of /v1/chat/completions.
#include <random>

#include "runtime/gateway/answer.h"
#include "runtime/gateway/logprobs.h"

namespace trireme {
namespace {

// Nine letters and digits where the templates of the family refuse others.
std::string make_call_id(ToolFormat format) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  const bool mistral = format == ToolFormat::kMistral;
  std::string id = mistral ? "" : "call_";
  for (int i = mistral ? 9 : 24; i > 0; --i) id += kLetters[random() % kLetters.size()];
  return id;
}

std::optional<ToolCallReader> make_tool_reader(const ApiCall& call) {
  if (!call.tool_format.has_value()) return std::nullopt;
  ToolReaderOptions options;
  options.format = *call.tool_format;
  for (const Json& tool : call.tools)
    options.names.emplace(tool.at("function").at("name").get_string());
  if (!call.parallel_tool_calls) options.calls_max = 1;
  options.make_id = [format = options.format] { return make_call_id(format); };
  return ToolCallReader(std::move(options));
}

JsonObject function_call(std::string id, std::string name, std::string arguments) {
  JsonObject function;
  function["name"] = std::move(name);
  function["arguments"] = std::move(arguments);
  JsonObject call;
  call["id"] = std::move(id);
  call["type"] = "function";
  call["function"] = std::move(function);
  return call;
}

class ChatWriter final : public AnswerWriter {
 public:
  ChatWriter(const ApiRun& run, AnswerHead head)
      : AnswerWriter(run, std::move(head)),
        writer_(run.tokenizer(), run.call().return_tokens_as_token_ids),
        choices_(run.choices()) {
    for (Choice& c : choices_) c.reader = make_tool_reader(run.call());
  }

  std::vector<JsonObject> chunks(const std::vector<ChoiceDelta>& deltas) override {
    std::vector<JsonObject> chunks;
    for (size_t i = 0; i < deltas.size(); ++i) {
      if (deltas[i].empty()) continue;
      add_chunks(i, deltas[i], chunks);
    }
    return chunks;
  }

  void collect(const std::vector<ChoiceDelta>& deltas) override {
    for (size_t i = 0; i < deltas.size(); ++i) collect_one(i, deltas[i]);
  }

  JsonObject whole() override {
    JsonObject answer = object("chat.completion");
    JsonArray list;
    for (size_t i = 0; i < choices_.size(); ++i) {
      JsonObject message;
      message["role"] = "assistant";
      const Choice& c = choices_[i];
      message["content"] = c.text.empty() && !c.calls.empty() ? Json(nullptr) : Json(c.text);
      message["refusal"] = nullptr;
      if (!c.calls.empty()) message["tool_calls"] = whole_calls(c);
      JsonObject choice;
      choice["index"] = i;
      choice["message"] = std::move(message);
      choice["logprobs"] = logprobs(i);
      choice["finish_reason"] = finish_reason(i);
      choice["stop_reason"] = stop_reason(run_.text(i));
      add_token_ids(choice, choices_[i].ids);
      list.emplace_back(std::move(choice));
    }
    answer["choices"] = std::move(list);
    answer["usage"] = usage();
    if (run_.call().base.prompt_logprobs >= 0)
      answer["prompt_logprobs"] = prompt_logprobs(writer_, run_.prompt_scores(0));
    add_prompt_token_ids(answer, 0);
    return answer;
  }

 private:
  struct Choice {
    bool begun = false;
    std::string text;
    std::optional<ToolCallReader> reader;
    std::vector<ToolCallDelta> calls;  // of a stream: since the last chunk
    std::vector<int32_t> ids;
    JsonArray logprobs;
  };

  void collect_one(size_t i, const ChoiceDelta& delta) {
    Choice& c = choices_[i];
    collect_text(c, delta);
    for (const SampledToken& token : delta.tokens) {
      c.ids.push_back(token.token);
      if (run_.call().logprobs) c.logprobs.emplace_back(chat_logprob(writer_, token));
    }
  }

  void collect_text(Choice& c, const ChoiceDelta& delta) {
    if (!c.reader.has_value()) {
      c.text += delta.text;
      return;
    }
    add_tool_delta(c, c.reader->push(delta.text));
    if (delta.finished) add_tool_delta(c, c.reader->finish());
  }

  static void add_tool_delta(Choice& c, ToolDelta delta) {
    c.text += delta.content;
    for (ToolCallDelta& call : delta.calls) {
      if (!c.calls.empty() && c.calls.back().index == call.index) {
        c.calls.back().arguments += call.arguments;
      } else {
        c.calls.push_back(std::move(call));
      }
    }
  }

  static JsonArray whole_calls(const Choice& c) {
    JsonArray list;
    for (const ToolCallDelta& call : c.calls)
      list.emplace_back(function_call(call.id, call.name, call.arguments));
    return list;
  }

  // First who is called, then what the arguments add: where a call begins, both at once.
  static JsonArray call_deltas(const std::vector<ToolCallDelta>& calls) {
    JsonArray list;
    for (const ToolCallDelta& call : calls) {
      JsonObject object;
      if (!call.id.empty()) {
        object = function_call(call.id, call.name, call.arguments);
      } else {
        object["function"] = JsonObject{{"arguments", call.arguments}};
      }
      object["index"] = call.index;
      list.emplace_back(std::move(object));
    }
    return list;
  }

  // A choice that called tools ended for their sake, unless it was cut, or had to call that one.
  std::string finish_reason(size_t i) const {
    const std::string& reason = run_.text(i).finish_reason();
    const auto& reader = choices_[i].reader;
    const bool called = reader.has_value() && reader->calls() > 0;
    const bool named = run_.call().tool_choice.kind == ToolChoice::Kind::kNamed;
    return called && !named && reason == "stop" ? "tool_calls" : reason;
  }

  Json logprobs(size_t i) {
    if (!run_.call().logprobs) return nullptr;
    JsonObject object;
    object["content"] = std::exchange(choices_[i].logprobs, {});
    object["refusal"] = nullptr;
    return object;
  }

  // The role, then text as it comes, then the reason of the end in a chunk of its own: what clients
  // of OpenAI's API expect.
  void add_chunks(size_t i, const ChoiceDelta& delta, std::vector<JsonObject>& chunks) {
    Choice& c = choices_[i];
    collect_one(i, delta);
    if (!std::exchange(c.begun, true)) chunks.push_back(first_chunk(i));
    const ApiCall& call = run_.call();
    const bool says_tokens = (call.logprobs || call.return_token_ids) && !delta.tokens.empty();
    if (!c.calls.empty()) {
      if (!c.text.empty())
        chunks.push_back(chunk(i, JsonObject{{"content", std::exchange(c.text, {})}}, logprobs(i)));
      JsonObject called{{"tool_calls", call_deltas(std::exchange(c.calls, {}))}};
      chunks.push_back(chunk(i, std::move(called), logprobs(i)));
    } else if (!c.text.empty() || says_tokens) {
      JsonObject said{{"content", std::exchange(c.text, {})}};
      chunks.push_back(chunk(i, std::move(said), logprobs(i)));
    }
    if (!delta.finished) return;
    JsonObject last = chunk(i, JsonObject(), nullptr);
    JsonObject& choice = last["choices"].as_array()[0].as_object();
    choice["finish_reason"] = finish_reason(i);
    choice["stop_reason"] = stop_reason(run_.text(i));
    chunks.push_back(std::move(last));
  }

  // Who speaks; of its tokens none yet.
  JsonObject first_chunk(size_t i) {
    std::vector<int32_t> ids = std::exchange(choices_[i].ids, {});
    JsonObject first = chunk(i, JsonObject{{"role", "assistant"}, {"content", ""}}, nullptr);
    choices_[i].ids = std::move(ids);
    add_prompt_token_ids(first, i);
    return first;
  }

  JsonObject chunk(size_t i, JsonObject delta, Json logprobs) {
    JsonObject choice;
    choice["index"] = i;
    choice["delta"] = std::move(delta);
    choice["logprobs"] = std::move(logprobs);
    choice["finish_reason"] = nullptr;
    add_token_ids(choice, choices_[i].ids);
    JsonObject object = this->object("chat.completion.chunk");
    object["choices"] = JsonArray{std::move(choice)};
    if (run_.call().continuous_usage) object["usage"] = usage();
    return object;
  }

  const TokenWriter writer_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_chat_writer(const ApiRun& run, AnswerHead head) {
  return std::make_unique<ChatWriter>(run, std::move(head));
}

}  // namespace trireme
