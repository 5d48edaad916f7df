// The answers of /v1/completions.
#include "runtime/gateway/answer.h"
#include "runtime/gateway/logprobs.h"

namespace trireme {
namespace {

class CompletionWriter final : public AnswerWriter {
 public:
  CompletionWriter(const ApiRun& run, AnswerHead head)
      : AnswerWriter(run, std::move(head)),
        writer_(run.tokenizer(), run.call().return_tokens_as_token_ids) {
    for (size_t i = 0; i < run.choices(); ++i)
      choices_.push_back({"", {}, CompletionLogprobs(writer_, run.call().base.params.logprobs)});
  }

  std::vector<JsonObject> chunks(const std::vector<ChoiceDelta>& deltas) override {
    std::vector<JsonObject> chunks;
    for (size_t i = 0; i < deltas.size(); ++i) {
      const ChoiceDelta& delta = deltas[i];
      if (delta.empty()) continue;
      collect_one(i, delta);
      const ApiCall& call = run_.call();
      const bool says_tokens = (call.logprobs || call.return_token_ids) && !delta.tokens.empty();
      if (choices_[i].text.empty() && !says_tokens && !delta.finished) continue;
      JsonObject chunk = object("text_completion");
      chunk["choices"] = JsonArray{take(i)};
      if (call.continuous_usage) chunk["usage"] = usage();
      chunks.push_back(std::move(chunk));
    }
    return chunks;
  }

  void collect(const std::vector<ChoiceDelta>& deltas) override {
    // Before a choice's first delta the scores of its prompt need not be there.
    for (size_t i = 0; i < deltas.size(); ++i) {
      if (!deltas[i].empty()) collect_one(i, deltas[i]);
    }
  }

  JsonObject whole() override {
    JsonObject answer = object("text_completion");
    JsonArray list;
    for (size_t i = 0; i < choices_.size(); ++i) {
      collect_one(i, {});  // the prompt of one that said nothing
      list.emplace_back(take(i));
    }
    answer["choices"] = std::move(list);
    answer["usage"] = usage();
    return answer;
  }

 private:
  struct Choice {
    std::string text;  // since the last take()
    std::vector<int32_t> ids;
    CompletionLogprobs logprobs;
    bool echoed = false;
    bool told_prompt = false;  // its token ids
  };

  // The prompt comes before the first token, where it is to be echoed.
  void echo(size_t i) {
    Choice& c = choices_[i];
    if (std::exchange(c.echoed, true) || !run_.call().echo) return;
    const std::span<const int32_t> prompt = run_.prompt(i);
    c.text += run_.tokenizer().decode(prompt, run_.call().skip_special_tokens);
    if (!run_.call().logprobs) return;
    c.logprobs.add_first(prompt[0]);
    for (const SampledToken& score : run_.prompt_scores(i)) c.logprobs.add(score);
  }

  void collect_one(size_t i, const ChoiceDelta& delta) {
    echo(i);
    Choice& c = choices_[i];
    c.text += delta.text;
    for (const SampledToken& token : delta.tokens) {
      c.ids.push_back(token.token);
      if (run_.call().logprobs) c.logprobs.add(token);
    }
  }

  JsonObject take(size_t i) {
    Choice& c = choices_[i];
    const ChoiceText& text = run_.text(i);
    JsonObject choice;
    choice["index"] = i;
    choice["text"] = std::exchange(c.text, {});
    choice["logprobs"] = run_.call().logprobs ? Json(c.logprobs.take()) : Json(nullptr);
    choice["finish_reason"] = text.finished() ? Json(text.finish_reason()) : Json(nullptr);
    choice["stop_reason"] = stop_reason(text);
    add_token_ids(choice, c.ids);
    if (!std::exchange(c.told_prompt, true)) add_prompt_token_ids(choice, i);
    if (run_.call().base.prompt_logprobs >= 0 && !run_.call().stream)
      choice["prompt_logprobs"] = prompt_logprobs(writer_, run_.prompt_scores(i));
    return choice;
  }

  const TokenWriter writer_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_completion_writer(const ApiRun& run, AnswerHead head) {
  return std::make_unique<CompletionWriter>(run, std::move(head));
}

}  // namespace trireme
