#include "runtime/gateway/answer.h"

namespace trireme {
namespace {

// llama-server's names.
JsonObject timings_object(const ApiRun& run) {
  const RunTimings t = run.timings();
  const auto per_second = [](uint64_t tokens, double ms) {
    return ms > 0 ? static_cast<double>(tokens) * 1000 / ms : 0.0;
  };
  JsonObject object;
  object["cache_n"] = run.cached_tokens();
  object["prompt_n"] = t.prompt_tokens;
  object["prompt_ms"] = t.prompt_ms;
  object["prompt_per_second"] = per_second(t.prompt_tokens, t.prompt_ms);
  object["predicted_n"] = t.predicted_tokens;
  object["predicted_ms"] = t.predicted_ms;
  object["predicted_per_second"] = per_second(t.predicted_tokens, t.predicted_ms);
  return object;
}

JsonObject head_object(const ApiRun& run, const AnswerHead& head, std::string_view kind) {
  JsonObject object;
  object["id"] = head.id;
  object["object"] = kind;
  object["created"] = head.created;
  object["model"] = head.model;
  object["system_fingerprint"] = head.fingerprint;
  if (run.call().timings) object["timings"] = timings_object(run);
  return object;
}

JsonObject usage_object(const ApiRun& run) {
  JsonObject usage;
  usage["prompt_tokens"] = run.prompt_tokens();
  usage["completion_tokens"] = run.completion_tokens();
  usage["total_tokens"] = run.prompt_tokens() + run.completion_tokens();
  usage["prompt_tokens_details"] = JsonObject{{"cached_tokens", run.cached_tokens()}};
  return usage;
}

}  // namespace

JsonObject AnswerWriter::object(std::string_view kind) const {
  return head_object(run_, head_, kind);
}
JsonObject AnswerWriter::usage() const { return usage_object(run_); }

Json AnswerWriter::stop_reason(const ChoiceText& text) const {
  if (text.stop_string().has_value()) return Json(*text.stop_string());
  const auto& ids = run_.call().base.params.stop_token_ids;
  for (const int32_t id : ids) {
    if (id == text.stop_token()) return Json(id);
  }
  return nullptr;
}

void AnswerWriter::add_token_ids(JsonObject& object, std::vector<int32_t>& said) const {
  if (!run_.call().return_token_ids) return;
  object["token_ids"] = JsonArray(said.begin(), said.end());
  said.clear();
}

void AnswerWriter::add_prompt_token_ids(JsonObject& object, size_t choice) const {
  if (!run_.call().return_token_ids) return;
  const std::span<const int32_t> prompt = run_.prompt(choice);
  object["prompt_token_ids"] = JsonArray(prompt.begin(), prompt.end());
}

JsonObject usage_chunk(const ApiRun& run, const AnswerHead& head) {
  JsonObject chunk =
      head_object(run, head, run.call().chat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = JsonArray();
  chunk["usage"] = usage_object(run);
  return chunk;
}

}  // namespace trireme
