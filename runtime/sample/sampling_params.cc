#include "runtime/sample/sampling_params.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include <fmt/format.h>

namespace trireme {
namespace {

Status out_of_range(std::string_view field, float value, std::string_view range) {
  return invalid_argument(fmt::format("{} is {}: it must be {}", field, value, range));
}

Status check_penalty(std::string_view field, float value) {
  if (value >= -2.0f && value <= 2.0f) return {};
  return out_of_range(field, value, "from -2 to 2");
}

Status check_token(std::string_view field, int32_t id, int32_t vocab) {
  if (id >= 0 && id < vocab) return {};
  if (id < 0) return invalid_argument(fmt::format("{} names token {}: ids start at 0", field, id));
  return invalid_argument(fmt::format("{} names token {}: the vocabulary has {} tokens, 0 to {}",
                                      field, id, vocab, vocab - 1));
}

Status check_numbers(const SamplingParams& p) {
  // Written so that a NaN fails.
  if (!(p.temperature >= 0.0f && p.temperature <= 2.0f))
    return out_of_range("temperature", p.temperature, "from 0 (greedy) to 2");
  if (!(p.top_p > 0.0f && p.top_p <= 1.0f))
    return out_of_range("top_p", p.top_p, "above 0 and at most 1 (1 = off)");
  if (!(p.min_p >= 0.0f && p.min_p <= 1.0f))
    return out_of_range("min_p", p.min_p, "from 0 (off) to 1");
  if (p.top_k < -1)
    return invalid_argument(
        fmt::format("top_k is {}: it must be at least 1, or 0 or -1 for off", p.top_k));
  if (!(p.repetition_penalty > 0.0f && std::isfinite(p.repetition_penalty)))
    return out_of_range("repetition_penalty", p.repetition_penalty, "above 0 (1 = off)");
  if (Status s = check_penalty("presence_penalty", p.presence_penalty); !s.ok()) return s;
  return check_penalty("frequency_penalty", p.frequency_penalty);
}

Status check_lengths(const SamplingParams& p) {
  if (p.max_tokens < 1) return invalid_argument("max_tokens is 0: it must be at least 1");
  if (p.min_tokens > p.max_tokens)
    return invalid_argument(fmt::format("min_tokens is {}: it must not be above max_tokens, {}",
                                        p.min_tokens, p.max_tokens));
  if (p.logprobs < -1 || p.logprobs > kLogprobsMax)
    return invalid_argument(fmt::format("logprobs is {}: it must be from 0 to {}, or -1 for off",
                                        p.logprobs, kLogprobsMax));
  return {};
}

Status check_stops(const SamplingParams& p, int32_t vocab) {
  if (p.stop.size() > kStopsMax || p.stop_token_ids.size() > kStopsMax)
    return invalid_argument(
        fmt::format("stop or stop_token_ids has more than {} entries: give fewer", kStopsMax));
  for (const std::string& stop : p.stop) {
    if (stop.empty())
      return invalid_argument("stop has an empty string: it would end every text at once");
    if (stop.size() > kStopBytesMax)
      return invalid_argument(fmt::format("stop has a string of {} bytes: at most {} are allowed",
                                          stop.size(), kStopBytesMax));
  }
  for (int32_t id : p.stop_token_ids) {
    if (Status s = check_token("stop_token_ids", id, vocab); !s.ok()) return s;
  }
  return {};
}

Status check_logit_bias(const SamplingParams& p, int32_t vocab) {
  if (p.logit_bias.size() > kLogitBiasMax)
    return invalid_argument(fmt::format("logit_bias has {} entries: at most {} are allowed",
                                        p.logit_bias.size(), kLogitBiasMax));
  std::vector<int32_t> ids;
  for (const auto& [id, bias] : p.logit_bias) {
    if (Status s = check_token("logit_bias", id, vocab); !s.ok()) return s;
    if (!(bias >= -100.0f && bias <= 100.0f))
      return out_of_range(fmt::format("logit_bias of token {}", id), bias, "from -100 to 100");
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice != ids.end())
    return invalid_argument(fmt::format("logit_bias names token {} twice: keep one", *twice));
  return {};
}

Status check_forbidden(const SamplingParams& p, int32_t vocab) {
  if (p.allowed_token_ids.size() > kAllowedTokensMax)
    return invalid_argument(fmt::format("allowed_token_ids has {} entries: at most {} are allowed",
                                        p.allowed_token_ids.size(), kAllowedTokensMax));
  for (int32_t id : p.allowed_token_ids) {
    if (Status s = check_token("allowed_token_ids", id, vocab); !s.ok()) return s;
  }
  if (p.bad_words.size() > kBadWordsMax)
    return invalid_argument(fmt::format("bad_words has {} entries: at most {} are allowed",
                                        p.bad_words.size(), kBadWordsMax));
  for (const std::vector<int32_t>& word : p.bad_words) {
    if (word.empty())
      return invalid_argument("bad_words has an entry without tokens: it would forbid nothing");
    if (word.size() > kBadWordTokensMax)
      return invalid_argument(
          fmt::format("bad_words has an entry of {} tokens: at most {} are "
                      "allowed",
                      word.size(), kBadWordTokensMax));
    for (int32_t id : word) {
      if (Status s = check_token("bad_words", id, vocab); !s.ok()) return s;
    }
  }
  return {};
}

}  // namespace

Status validate(const SamplingParams& params, int32_t vocab) {
  if (Status s = check_numbers(params); !s.ok()) return s;
  if (Status s = check_lengths(params); !s.ok()) return s;
  if (Status s = check_stops(params, vocab); !s.ok()) return s;
  if (Status s = check_forbidden(params, vocab); !s.ok()) return s;
  return check_logit_bias(params, vocab);
}

Status validate(const SamplingParams& params) {
  return validate(params, std::numeric_limits<int32_t>::max());
}

}  // namespace trireme
