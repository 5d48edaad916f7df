#include "runtime/sample/device_batch.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/random.h"
#include "runtime/sample/forbidden.h"

namespace trireme {
namespace {

// Two edits of one token become one. They come from different steps of sample(), or say the same.
void merge(const LogitEdit& more, LogitEdit& into) {
  into.forbidden = into.forbidden || more.forbidden;
  into.bias += more.bias;
  into.repetition *= more.repetition;
  into.frequency += more.frequency;
  into.presence += more.presence;
}

}  // namespace

void DeviceBatch::clear() {
  rows_.clear();
  edits_.clear();
  masks_.clear();
}

void DeviceBatch::add(int32_t row, const SamplingParams& params, const PenaltyState& penalties,
                      std::span<const int32_t> eos, uint32_t choice, uint32_t position,
                      std::span<const uint32_t> allowed) {
  CHECK(can_choose(params));
  SampleRow r;
  r.row = row;
  r.temperature = params.temperature;
  r.min_p = params.min_p;
  r.top_p = params.top_p;
  r.top_k = params.top_k;
  r.u = uniform(params.seed, choice, position);
  r.first_edit = static_cast<int32_t>(edits_.size());
  edit(params, penalties, eos);
  r.edits = static_cast<int32_t>(edits_.size()) - r.first_edit;
  r.mask = mask(params, allowed);
  rows_.push_back(r);
}

void DeviceBatch::edit(const SamplingParams& params, const PenaltyState& penalties,
                       std::span<const int32_t> eos) {
  const auto first = static_cast<std::ptrdiff_t>(edits_.size());
  const auto forbid = [&](int32_t token) { edits_.push_back({.token = token, .forbidden = true}); };
  for_each_bad_word_end(params, penalties, forbid);
  if (holds_back(params, penalties)) for_each_end_token(params, eos, forbid);
  for (const auto& [token, bias] : params.logit_bias)
    edits_.push_back({.token = token, .bias = bias});
  for (const PenaltyState::Seen& seen : penalties.seen()) {
    LogitEdit e{.token = seen.token, .repetition = params.repetition_penalty};
    if (seen.output_count > 0) {
      e.frequency = params.frequency_penalty * static_cast<float>(seen.output_count);
      e.presence = params.presence_penalty;
    }
    edits_.push_back(e);
  }
  std::stable_sort(edits_.begin() + first, edits_.end(),
                   [](const LogitEdit& a, const LogitEdit& b) { return a.token < b.token; });
  auto last = edits_.begin() + first;
  for (auto e = edits_.begin() + first; e != edits_.end(); ++e) {
    if (e == last) continue;
    if (e->token == last->token) {
      merge(*e, *last);
    } else {
      *++last = *e;
    }
  }
  if (last != edits_.end()) edits_.erase(last + 1, edits_.end());
}

int32_t DeviceBatch::mask(const SamplingParams& params, std::span<const uint32_t> allowed) {
  if (allowed.empty() && params.allowed_token_ids.empty()) return -1;
  const size_t words = (static_cast<size_t>(vocab_) + 31) / 32;
  const size_t first = masks_.size();
  masks_.resize(first + words, params.allowed_token_ids.empty() ? ~uint32_t{0} : 0);
  for (int32_t token : params.allowed_token_ids)
    masks_[first + static_cast<size_t>(token) / 32] |= uint32_t{1} << (token % 32);
  for (size_t i = 0; i < words && !allowed.empty(); ++i) masks_[first + i] &= allowed[i];
  return static_cast<int32_t>(first / words);
}

}  // namespace trireme
