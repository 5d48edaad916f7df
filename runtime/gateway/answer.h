// What the answers of /v1/completions and /v1/chat/completions look like: one object for the whole,
// or one chunk after the other. Renders; decides nothing about tokens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "runtime/gateway/api_run.h"

namespace trireme {

// What is the same in every object of an answer.
struct AnswerHead {
  std::string id;       // "cmpl-..." or "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;
  std::string fingerprint;
};

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // The chunks of a stream that a step's deltas make, each a JSON object, in order.
  virtual std::vector<JsonObject> chunks(const std::vector<ChoiceDelta>& deltas) = 0;
  // Takes a step's deltas for the whole answer.
  virtual void collect(const std::vector<ChoiceDelta>& deltas) = 0;
  // The whole answer. REQUIRES: the run has finished.
  virtual JsonObject whole() = 0;

 protected:
  AnswerWriter(const ApiRun& run, AnswerHead head) : run_(run), head_(std::move(head)) {}

  JsonObject object(std::string_view kind) const;
  JsonObject usage() const;
  Json stop_reason(const ChoiceText& text) const;
  // With return_token_ids, else nothing: what a choice has said since the last time; its prompt.
  void add_token_ids(JsonObject& object, std::vector<int32_t>& said) const;
  void add_prompt_token_ids(JsonObject& object, size_t choice) const;

  const ApiRun& run_;
  const AnswerHead head_;
};

std::unique_ptr<AnswerWriter> make_completion_writer(const ApiRun& run, AnswerHead head);
std::unique_ptr<AnswerWriter> make_chat_writer(const ApiRun& run, AnswerHead head);

// The last chunk of a stream with include_usage: no choices, the usage.
JsonObject usage_chunk(const ApiRun& run, const AnswerHead& head);

}  // namespace trireme
