#include "runtime/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "kernels/base/check.h"
#include "kernels/base/random.h"
#include "runtime/sample/forbidden.h"

namespace trireme {
namespace {

using Candidate = SamplerScratch::Candidate;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// The order of preference: larger logit, then lower id.
bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}
bool lower_id(const Candidate& a, const Candidate& b) { return a.token < b.token; }

// The first of `before`, or an error where the row is not a row of logits. Token -1: all are -inf.
Result<Candidate> best_of(std::span<const float> logits) {
  Candidate best{kNever, -1};
  for (size_t i = 0; i < logits.size(); ++i) {
    const float l = logits[i];
    if (!(l < std::numeric_limits<float>::infinity())) {
      return data_loss(
          fmt::format("the model produced a logit that is not a number (token {}: {}): its weights "
                      "may be damaged, or too large for their dtype",
                      i, l));
    }
    if (l > best.logit) best = {l, static_cast<int32_t>(i)};
  }
  return best;
}

// The first `count` of `from` in the order of `before`, sorted by it. A small count takes one pass
// with a bounded heap: nearly every element costs one comparison.
void select_top(std::span<const Candidate> from, size_t count, std::vector<Candidate>& top) {
  constexpr size_t kHeapMax = 1024;
  top.clear();
  if (count == 0) return;
  if (count > kHeapMax) {
    top.assign(from.begin(), from.end());
    count = std::min(count, top.size());
    std::nth_element(top.begin(), top.begin() + static_cast<std::ptrdiff_t>(count), top.end(),
                     before);
    top.resize(count);
    std::sort(top.begin(), top.end(), before);
    return;
  }
  for (const Candidate& c : from) {
    if (top.size() < count) {
      top.push_back(c);
      std::push_heap(top.begin(), top.end(), before);
    } else if (before(c, top.front())) {  // the front is the last of the kept
      std::pop_heap(top.begin(), top.end(), before);
      top.back() = c;
      std::push_heap(top.begin(), top.end(), before);
    }
  }
  std::sort_heap(top.begin(), top.end(), before);
}

// Step 0, into `row`.
void keep_allowed(std::span<const float> logits, const SamplingParams& params,
                  const PenaltyState& penalties, std::span<const uint32_t> allowed,
                  std::vector<float>& row) {
  if (params.allowed_token_ids.empty()) {
    row.assign(logits.begin(), logits.end());
  } else {
    row.assign(logits.size(), kNever);
    for (int32_t token : params.allowed_token_ids)
      row[static_cast<size_t>(token)] = logits[static_cast<size_t>(token)];
  }
  for (size_t i = 0; i < (allowed.empty() ? 0 : row.size()); ++i) {
    if ((allowed[i / 32] >> (i % 32) & 1u) == 0) row[i] = kNever;
  }
  for_each_bad_word_end(params, penalties,
                        [&](int32_t token) { row[static_cast<size_t>(token)] = kNever; });
}

void apply_bias(const SamplingParams& params, std::span<float> logits) {
  for (const auto& [token, bias] : params.logit_bias) logits[static_cast<size_t>(token)] += bias;
}

void apply_minimum(const SamplingParams& params, std::span<const int32_t> eos,
                   std::span<float> logits) {
  for_each_end_token(params, eos,
                     [&](int32_t token) { logits[static_cast<size_t>(token)] = kNever; });
}

void apply_penalties(const SamplingParams& params, const PenaltyState& penalties,
                     std::span<float> logits) {
  for (const PenaltyState::Seen& seen : penalties.seen()) {
    float& l = logits[static_cast<size_t>(seen.token)];
    l = l > 0 ? std::min(l / params.repetition_penalty, std::numeric_limits<float>::max())
              : l * params.repetition_penalty;
    if (seen.output_count == 0) continue;
    l -= params.frequency_penalty * static_cast<float>(seen.output_count);
    l -= params.presence_penalty;
  }
}

// w[i] of every candidate, and their sum in the candidates' order.
double fill_weights(std::span<const Candidate> candidates, float max, float temperature,
                    std::vector<double>& weights) {
  weights.clear();
  double sum = 0;
  for (const Candidate& c : candidates) {
    const double distance = static_cast<double>(c.logit) - static_cast<double>(max);
    weights.push_back(std::exp(distance / static_cast<double>(temperature)));
    sum += weights.back();
  }
  return sum;
}

// Which of kTopPBuckets a logit falls in, the largest logits first. Never decreasing as l falls, so
// that every token of a bucket is before every token of the next. Beyond 40 temperatures below the
// largest, one bucket is enough: e^-40 of its weight.
constexpr size_t kTopPBuckets = 1024;
size_t bucket_of(float l, float max, float temperature) {
  const double distance = static_cast<double>(max) - static_cast<double>(l);
  const double at = distance / static_cast<double>(temperature) * (kTopPBuckets / 40.0);
  return at < static_cast<double>(kTopPBuckets - 1) ? static_cast<size_t>(at) : kTopPBuckets - 1;
}

// Cuts candidates down to the fewest whose weight reaches top_p of all, in one pass and a sort of
// the one bucket in which the sum reaches it; a sort of all took 12 to 55 ms of 128K tokens.
// REQUIRES: candidates in order of their ids, so that the sums do not depend on how they came.
void keep_top_p(const SamplingParams& params, float max, SamplerScratch& scratch) {
  const double goal = static_cast<double>(params.top_p) *
                      fill_weights(scratch.candidates, max, params.temperature, scratch.weights);
  scratch.buckets.assign(kTopPBuckets, 0.0);
  for (size_t i = 0; i < scratch.candidates.size(); ++i)
    scratch.buckets[bucket_of(scratch.candidates[i].logit, max, params.temperature)] +=
        scratch.weights[i];
  double sum = 0;
  size_t last = 0;
  while (last + 1 < kTopPBuckets && sum + scratch.buckets[last] < goal)
    sum += scratch.buckets[last++];

  scratch.top.clear();
  for (const Candidate& c : scratch.candidates) {
    if (bucket_of(c.logit, max, params.temperature) == last) scratch.top.push_back(c);
  }
  // The same numbers in another order may sum to a bit less: then the goal lies at the end of a
  // bucket, and an empty one follows.
  if (scratch.top.empty()) return;
  std::sort(scratch.top.begin(), scratch.top.end(), before);
  fill_weights(scratch.top, max, params.temperature, scratch.weights);
  size_t cut = 0;
  while (cut + 1 < scratch.top.size() && (sum += scratch.weights[cut]) < goal) ++cut;
  std::erase_if(scratch.candidates,
                [least = scratch.top[cut]](const Candidate& c) { return before(least, c); });
}

int32_t draw(std::span<const float> logits, float max, const SamplingParams& params, double u,
             SamplerScratch& scratch) {
  // min_p as a bound on logits: w >= min_p * 1  <=>  l >= max + temperature * ln(min_p).
  const double bound =
      params.min_p > 0 ? static_cast<double>(max) + static_cast<double>(params.temperature) *
                                                        std::log(static_cast<double>(params.min_p))
                       : -std::numeric_limits<double>::infinity();
  scratch.candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > kNever && static_cast<double>(logits[i]) >= bound)
      scratch.candidates.push_back({logits[i], static_cast<int32_t>(i)});
  }
  if (params.top_k >= 1 && static_cast<size_t>(params.top_k) < scratch.candidates.size()) {
    select_top(scratch.candidates, static_cast<size_t>(params.top_k), scratch.top);
    scratch.candidates.swap(scratch.top);
    std::sort(scratch.candidates.begin(), scratch.candidates.end(), lower_id);
  }
  if (params.top_p < 1.0f) {
    keep_top_p(params, max, scratch);
  }
  const double goal =
      u * fill_weights(scratch.candidates, max, params.temperature, scratch.weights);
  double sum = 0;
  int32_t last = scratch.candidates.front().token;
  for (size_t i = 0; i < scratch.candidates.size(); ++i) {
    if (scratch.weights[i] <= 0) continue;  // so small that f64 has no number for it
    last = scratch.candidates[i].token;
    sum += scratch.weights[i];
    if (sum > goal) break;
  }
  return last;
}

// Fills in the log-probabilities. REQUIRES: best is best_of(logits).
void report(std::span<const float> logits, const Candidate& best, int32_t count,
            SamplerScratch& scratch, SampledToken& out) {
  const auto max = static_cast<double>(best.logit);
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l) - max);
  const double log_sum = max + std::log(sum);
  const auto logprob = [&](float l) {
    return static_cast<float>(static_cast<double>(l) - log_sum);
  };
  out.logprob = logprob(logits[static_cast<size_t>(out.token)]);
  if (count <= 0) return;
  scratch.candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    scratch.candidates.push_back({logits[i], static_cast<int32_t>(i)});
  select_top(scratch.candidates, static_cast<size_t>(count), scratch.top);
  for (const Candidate& c : scratch.top) out.top_logprobs.emplace_back(c.token, logprob(c.logit));
}

}  // namespace

namespace {

// Steps 0 to 3 into scratch.logits.
Result<Candidate> adjust(std::span<const float> logits, const SamplingParams& params,
                         const PenaltyState& penalties, std::span<const int32_t> eos,
                         std::span<const uint32_t> allowed, SamplerScratch& scratch) {
  std::vector<float>& row = scratch.logits;
  keep_allowed(logits, params, penalties, allowed, row);
  apply_bias(params, row);
  if (holds_back(params, penalties)) apply_minimum(params, eos, row);
  apply_penalties(params, penalties, row);
  Result<Candidate> best = best_of(row);
  if (!best.ok() || best->token >= 0 || allowed.empty() || !holds_back(params, penalties))
    return best;
  keep_allowed(logits, params, penalties, allowed, row);
  apply_bias(params, row);
  apply_penalties(params, penalties, row);
  return best_of(row);
}

}  // namespace

Result<SampledToken> sample(std::span<const float> logits, const SamplingParams& params,
                            const PenaltyState& penalties, std::span<const int32_t> eos,
                            uint32_t choice, uint32_t position, SamplerScratch& scratch,
                            std::span<const uint32_t> allowed) {
  CHECK(allowed.empty() || allowed.size() * 32 >= logits.size());
  const Result<Candidate> raw_best = best_of(logits);
  if (!raw_best.ok()) return raw_best.status();

  if (raw_best->token < 0)
    return data_loss("the model gives every token the logit -inf: there is none to choose");
  const bool adjusted = !allowed.empty() || !params.allowed_token_ids.empty() ||
                        !params.bad_words.empty() || !params.logit_bias.empty() ||
                        !penalties.seen().empty() || holds_back(params, penalties);
  Candidate best = *raw_best;
  std::span<const float> row = logits;
  if (adjusted) {
    const Result<Candidate> adjusted_best =
        adjust(logits, params, penalties, eos, allowed, scratch);
    if (!adjusted_best.ok()) return adjusted_best.status();
    if (adjusted_best->token < 0)
      return invalid_argument(
          "no token may come: the form of the output, allowed_token_ids, bad_words and min_tokens "
          "together forbid all that the model gives");
    best = *adjusted_best;
    row = scratch.logits;
  }

  SampledToken out;
  out.token = params.temperature == 0.0f
                  ? best.token
                  : draw(row, best.logit, params, uniform(params.seed, choice, position), scratch);
  if (params.logprobs >= 0) report(logits, *raw_best, params.logprobs, scratch, out);
  return out;
}

Result<SampledToken> score(std::span<const float> logits, int32_t token, int32_t count,
                           SamplerScratch& scratch) {
  CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  const Result<Candidate> best = best_of(logits);
  if (!best.ok()) return best.status();
  if (best->token < 0)
    return data_loss("the model gives every token the logit -inf: there is nothing to score");
  SampledToken out;
  out.token = token;
  report(logits, *best, count, scratch, out);
  return out;
}

}  // namespace trireme
