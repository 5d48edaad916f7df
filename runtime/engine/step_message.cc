#include "runtime/engine/step_message.h"

#include "comm/wire/bytes.h"

namespace trireme {
namespace {

void write(ByteWriter& out, const SamplingParams& p) {
  out.number(p.temperature);
  out.number(p.top_p);
  out.number(p.min_p);
  out.number(p.top_k);
  out.number(p.repetition_penalty);
  out.number(p.presence_penalty);
  out.number(p.frequency_penalty);
  out.number(static_cast<uint32_t>(p.logit_bias.size()));
  for (const auto& [token, bias] : p.logit_bias) {
    out.number(token);
    out.number(bias);
  }
  out.numbers(p.allowed_token_ids);
  out.number(static_cast<uint32_t>(p.bad_words.size()));
  for (const std::vector<int32_t>& word : p.bad_words) out.numbers(word);
  out.numbers(p.stop_token_ids);
  out.number(static_cast<uint32_t>(p.stop.size()));
  for (const std::string& stop : p.stop) out.text(stop);
  out.number(p.include_stop_str_in_output);
  out.number(p.ignore_eos);
  out.number(p.min_tokens);
  out.number(p.max_tokens);
  out.number(p.seed);
  out.number(p.logprobs);
}

SamplingParams read_params(ByteReader& in) {
  SamplingParams p;
  p.temperature = in.number<float>();
  p.top_p = in.number<float>();
  p.min_p = in.number<float>();
  p.top_k = in.number<int32_t>();
  p.repetition_penalty = in.number<float>();
  p.presence_penalty = in.number<float>();
  p.frequency_penalty = in.number<float>();
  for (uint32_t n = in.count(8); n > 0; --n) {
    const auto token = in.number<int32_t>();
    p.logit_bias.emplace_back(token, in.number<float>());
  }
  p.allowed_token_ids = in.numbers<int32_t>();
  for (uint32_t n = in.count(4); n > 0; --n) p.bad_words.push_back(in.numbers<int32_t>());
  p.stop_token_ids = in.numbers<int32_t>();
  for (uint32_t n = in.count(4); n > 0; --n) p.stop.push_back(in.text());
  p.include_stop_str_in_output = in.flag();
  p.ignore_eos = in.flag();
  p.min_tokens = in.number<uint32_t>();
  p.max_tokens = in.number<uint32_t>();
  p.seed = in.number<uint64_t>();
  p.logprobs = in.number<int32_t>();
  return p;
}

void write(ByteWriter& out, const SequenceAdmission& a) {
  out.numbers(a.prompt);
  write(out, a.params);
  out.number(a.choices);
  out.number(a.prompt_logprobs);
  out.number(static_cast<uint8_t>(a.constraint.kind));
  out.text(a.constraint.text);
  out.text(a.cache_salt);
}

SequenceAdmission read_admission(ByteReader& in) {
  SequenceAdmission a;
  a.prompt = in.numbers<int32_t>();
  a.params = read_params(in);
  a.choices = in.number<uint32_t>();
  a.prompt_logprobs = in.number<int32_t>();
  a.constraint.kind = static_cast<ConstraintSpec::Kind>(in.number<uint8_t>());
  a.constraint.text = in.text();
  a.cache_salt = in.text();
  return a;
}

void write(ByteWriter& out, const SequenceOp& op) {
  out.number(static_cast<uint8_t>(op.kind));
  out.number(op.seq);
  out.number(op.token);
  out.number(op.child);
  out.number(op.choice);
  out.number(op.flag);
  if (op.kind == SequenceOp::Kind::kAdmit) write(out, op.admission);
}

constexpr size_t kOpBytesMin = 26;
constexpr size_t kRunBytes = 17;

SequenceOp read_op(ByteReader& in) {
  SequenceOp op;
  op.kind = static_cast<SequenceOp::Kind>(in.number<uint8_t>());
  op.seq = in.number<uint64_t>();
  op.token = in.number<int32_t>();
  op.child = in.number<uint64_t>();
  op.choice = in.number<uint32_t>();
  op.flag = in.flag();
  if (op.kind == SequenceOp::Kind::kAdmit) op.admission = read_admission(in);
  return op;
}

}  // namespace

std::vector<std::byte> write_step_message(const StepMessage& message) {
  ByteWriter out;
  out.number(static_cast<uint8_t>(message.kind));
  out.number(message.step);
  out.number(message.digest);
  out.number(message.idle_us);
  out.number(static_cast<uint32_t>(message.ops.size()));
  for (const SequenceOp& op : message.ops) write(out, op);
  out.number(static_cast<uint32_t>(message.runs.size()));
  for (const StepPlan::Run& run : message.runs) {
    out.number(run.seq);
    out.number(run.first);
    out.number(run.count);
    out.number(run.wants_logits);
  }
  return {out.bytes().begin(), out.bytes().end()};
}

Result<StepMessage> read_step_message(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  StepMessage message;
  const auto kind = in.number<uint8_t>();
  message.kind = static_cast<StepMessage::Kind>(kind);
  message.step = in.number<uint64_t>();
  message.digest = in.number<uint64_t>();
  message.idle_us = in.number<uint64_t>();
  bool known = kind <= static_cast<uint8_t>(StepMessage::Kind::kStop);
  for (uint32_t n = in.count(kOpBytesMin); n > 0 && !in.failed(); --n) {
    message.ops.push_back(read_op(in));
    known = known && message.ops.back().kind <= SequenceOp::Kind::kReset &&
            message.ops.back().admission.constraint.kind <= ConstraintSpec::Kind::kGrammar;
  }
  for (uint32_t n = in.count(kRunBytes); n > 0 && !in.failed(); --n) {
    StepPlan::Run run;
    run.seq = in.number<uint64_t>();
    run.first = in.number<uint32_t>();
    run.count = in.number<uint32_t>();
    run.wants_logits = in.flag();
    message.runs.push_back(run);
  }
  if (Status s = in.finish("a step message"); !s.ok()) return s;
  if (!known) return data_loss("a step message has a kind that this version does not know");
  return message;
}

}  // namespace trireme
