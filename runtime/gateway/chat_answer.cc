// The answers of /v1/chat/completions.
#include "runtime/gateway/answer.h"
#include "runtime/gateway/logprobs.h"

namespace trireme {
namespace {

class ChatWriter final : public AnswerWriter {
 public:
  ChatWriter(const ApiRun& run, AnswerHead head)
      : AnswerWriter(run, std::move(head)),
        writer_(run.tokenizer(), run.call().return_tokens_as_token_ids),
        choices_(run.choices()) {}

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
      message["content"] = choices_[i].text;
      message["refusal"] = nullptr;
      JsonObject choice;
      choice["index"] = i;
      choice["message"] = std::move(message);
      choice["logprobs"] = logprobs(i);
      choice["finish_reason"] = run_.text(i).finish_reason();
      choice["stop_reason"] = stop_reason(run_.text(i));
      if (run_.call().return_token_ids)
        choice["token_ids"] = JsonArray(choices_[i].ids.begin(), choices_[i].ids.end());
      list.emplace_back(std::move(choice));
    }
    answer["choices"] = std::move(list);
    answer["usage"] = usage();
    if (run_.call().base.prompt_logprobs >= 0)
      answer["prompt_logprobs"] = prompt_logprobs(writer_, run_.prompt_scores(0));
    if (run_.call().return_token_ids) {
      const auto prompt = run_.prompt(0);
      answer["prompt_token_ids"] = JsonArray(prompt.begin(), prompt.end());
    }
    return answer;
  }

 private:
  struct Choice {
    bool begun = false;
    std::string text;
    std::vector<int32_t> ids;
    JsonArray logprobs;
  };

  void collect_one(size_t i, const ChoiceDelta& delta) {
    Choice& c = choices_[i];
    c.text += delta.text;
    for (const SampledToken& token : delta.tokens) {
      c.ids.push_back(token.token);
      if (run_.call().logprobs) c.logprobs.emplace_back(chat_logprob(writer_, token));
    }
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
    if (!std::exchange(c.begun, true))
      chunks.push_back(chunk(i, JsonObject{{"role", "assistant"}, {"content", ""}}, nullptr));
    const ApiCall& call = run_.call();
    const bool says_tokens = (call.logprobs || call.return_token_ids) && !delta.tokens.empty();
    if (!c.text.empty() || says_tokens) {
      JsonObject said{{"content", std::exchange(c.text, {})}};
      chunks.push_back(chunk(i, std::move(said), logprobs(i)));
    }
    if (!delta.finished) return;
    JsonObject last = chunk(i, JsonObject(), nullptr);
    JsonObject& choice = last["choices"].as_array()[0].as_object();
    choice["finish_reason"] = run_.text(i).finish_reason();
    choice["stop_reason"] = stop_reason(run_.text(i));
    chunks.push_back(std::move(last));
  }

  JsonObject chunk(size_t i, JsonObject delta, Json logprobs) {
    JsonObject choice;
    choice["index"] = i;
    choice["delta"] = std::move(delta);
    choice["logprobs"] = std::move(logprobs);
    choice["finish_reason"] = nullptr;
    if (run_.call().return_token_ids) {
      choice["token_ids"] = JsonArray(choices_[i].ids.begin(), choices_[i].ids.end());
      choices_[i].ids.clear();
    }
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
