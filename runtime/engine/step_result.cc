#include "runtime/engine/step_result.h"

#include "comm/wire/bytes.h"

namespace trireme {
namespace {

void write(ByteWriter& out, const SampledToken& t) {
  out.number(t.token);
  out.number(t.logprob);
  out.number(static_cast<uint32_t>(t.top_logprobs.size()));
  for (const auto& [token, logprob] : t.top_logprobs) {
    out.number(token);
    out.number(logprob);
  }
}

SampledToken read_token(ByteReader& in) {
  SampledToken t;
  t.token = in.number<int32_t>();
  t.logprob = in.number<float>();
  for (uint32_t n = in.count(8); n > 0; --n) {
    const auto token = in.number<int32_t>();
    t.top_logprobs.emplace_back(token, in.number<float>());
  }
  return t;
}

constexpr size_t kTokenBytesMin = 12;

void write(ByteWriter& out, const std::vector<SampledToken>& tokens) {
  out.number(static_cast<uint32_t>(tokens.size()));
  for (const SampledToken& t : tokens) write(out, t);
}

std::vector<SampledToken> read_tokens(ByteReader& in) {
  std::vector<SampledToken> tokens;
  for (uint32_t n = in.count(kTokenBytesMin); n > 0 && !in.failed(); --n)
    tokens.push_back(read_token(in));
  return tokens;
}

}  // namespace

std::vector<std::byte> write_step_result(const StepResult& result) {
  ByteWriter out;
  out.number(result.step);
  out.number(result.busy_us);
  out.number(result.idle_us);
  out.number(static_cast<uint32_t>(result.sampled.size()));
  for (const StepResult::Sampled& s : result.sampled) {
    out.number(s.seq);
    write(out, s.tokens);
    out.number(static_cast<uint8_t>(s.failure.code()));
    out.text(s.failure.message());
  }
  out.number(static_cast<uint32_t>(result.scores.size()));
  for (const StepResult::PromptScores& s : result.scores) {
    out.number(s.seq);
    write(out, s.tokens);
  }
  return {out.bytes().begin(), out.bytes().end()};
}

Result<StepResult> read_step_result(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  StepResult result;
  result.step = in.number<uint64_t>();
  result.busy_us = in.number<uint64_t>();
  result.idle_us = in.number<uint64_t>();
  for (uint32_t n = in.count(17); n > 0 && !in.failed(); --n) {
    StepResult::Sampled s;
    s.seq = in.number<uint64_t>();
    s.tokens = read_tokens(in);
    const auto code = in.number<uint8_t>();
    std::string why = in.text();
    if (in.failed()) break;
    if (code > static_cast<uint8_t>(StatusCode::kUnimplemented) ||
        s.tokens.empty() == (code == 0) || (code == 0 && !why.empty()))
      return data_loss("a step result names no way in which a sequence could fail");
    if (code != 0) s.failure = Status(static_cast<StatusCode>(code), std::move(why));
    result.sampled.push_back(std::move(s));
  }
  for (uint32_t n = in.count(12); n > 0 && !in.failed(); --n) {
    StepResult::PromptScores s;
    s.seq = in.number<uint64_t>();
    s.tokens = read_tokens(in);
    result.scores.push_back(std::move(s));
  }
  if (Status s = in.finish("a step result"); !s.ok()) return s;
  return result;
}

}  // namespace trireme
