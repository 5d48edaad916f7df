#include "runtime/gateway/logprobs.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/text/utf8.h"

namespace trireme {

std::string TokenWriter::text(int32_t id) const {
  if (as_ids_) return fmt::format("token_id:{}", id);
  std::string text;
  Utf8Assembler assembler;
  assembler.push(tokenizer_.token_bytes(id), text);
  assembler.finish(text);
  return text;
}

JsonArray TokenWriter::bytes(int32_t id) const {
  JsonArray bytes;
  for (const char c : tokenizer_.token_bytes(id)) bytes.emplace_back(static_cast<uint8_t>(c));
  return bytes;
}

double api_logprob(float logprob) {
  return std::isfinite(logprob) ? std::max(static_cast<double>(logprob), -9999.0) : -9999.0;
}

void CompletionLogprobs::add_text(const std::string& text) {
  text_offset_.emplace_back(offset_);
  offset_ += static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  tokens_.emplace_back(text);
}

void CompletionLogprobs::add_first(int32_t id) {
  add_text(writer_.text(id));
  token_logprobs_.emplace_back(nullptr);
  top_logprobs_.emplace_back(nullptr);
}

void CompletionLogprobs::add(const SampledToken& token) {
  const std::string text = writer_.text(token.token);
  add_text(text);
  token_logprobs_.emplace_back(api_logprob(token.logprob));
  JsonObject top;
  // Two ids may have one text: the likelier stays.
  const auto put = [&](const std::string& key, float logprob) {
    const double value = api_logprob(logprob);
    const auto [it, is_new] = top.emplace(key, value);
    if (!is_new && it->value().as_double() < value) it->value() = value;
  };
  for (const auto& [id, logprob] : token.top_logprobs) put(writer_.text(id), logprob);
  put(text, token.logprob);
  if (top_ > 0) {
    top_logprobs_.emplace_back(std::move(top));
  } else {
    top_logprobs_.emplace_back(JsonObject{{text, api_logprob(token.logprob)}});
  }
}

JsonObject CompletionLogprobs::take() {
  JsonObject object;
  object["tokens"] = std::move(tokens_);
  object["token_logprobs"] = std::move(token_logprobs_);
  object["top_logprobs"] = std::move(top_logprobs_);
  object["text_offset"] = std::move(text_offset_);
  tokens_ = token_logprobs_ = top_logprobs_ = text_offset_ = JsonArray();
  return object;
}

JsonObject chat_logprob(const TokenWriter& writer, const SampledToken& token) {
  const auto entry = [&](int32_t id, float logprob) {
    JsonObject object;
    object["token"] = writer.text(id);
    object["logprob"] = api_logprob(logprob);
    object["bytes"] = writer.bytes(id);
    return object;
  };
  JsonObject object = entry(token.token, token.logprob);
  JsonArray top;
  for (const auto& [id, logprob] : token.top_logprobs) top.emplace_back(entry(id, logprob));
  object["top_logprobs"] = std::move(top);
  return object;
}

JsonArray prompt_logprobs(const TokenWriter& writer, std::span<const SampledToken> scores) {
  JsonArray list;
  list.emplace_back(nullptr);
  for (const SampledToken& score : scores) {
    JsonObject entry;
    const auto put = [&](int32_t id, float logprob, Json rank) {
      JsonObject value;
      value["logprob"] = api_logprob(logprob);
      value["rank"] = std::move(rank);
      value["decoded_token"] = writer.text(id);
      entry[std::to_string(id)] = std::move(value);
    };
    put(score.token, score.logprob, nullptr);
    int64_t rank = 1;
    for (const auto& [id, logprob] : score.top_logprobs) put(id, logprob, rank++);
    list.emplace_back(std::move(entry));
  }
  return list;
}

}  // namespace trireme
