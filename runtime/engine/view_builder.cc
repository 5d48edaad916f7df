#include "runtime/engine/view_builder.h"

#include <algorithm>

namespace trireme {

void ViewBuilder::add(SeqId seq, int32_t priority, uint64_t arrived_ms) {
  const Key key{static_cast<int64_t>(arrived_ms) + int64_t{priority} * options_.aging_ms, seq};
  CHECK(keys_.emplace(seq, key).second && order_.insert(key).second);
  waiting_.insert(seq);
}

void ViewBuilder::remove(SeqId seq) {
  const auto it = keys_.find(seq);
  CHECK(it != keys_.end());
  order_.erase(it->second);
  keys_.erase(it);
  busy_.erase(seq);
  waiting_.erase(seq);
}

void ViewBuilder::set_busy(SeqId seq, bool busy) {
  if (busy) {
    busy_.insert(seq);
  } else {
    busy_.erase(seq);
  }
}

std::vector<uint32_t> ViewBuilder::peak(const Request& request, bool forked) const {
  const auto prompt = static_cast<uint32_t>(request.prompt.size());
  const uint64_t wanted = uint64_t{prompt} + (request.score_only ? 0 : request.params.max_tokens);
  const auto tokens = static_cast<uint32_t>(std::min<uint64_t>(wanted, options_.tokens_max));
  const uint64_t others = forked ? 0 : request.choices - 1;
  std::vector<uint32_t> peak;
  for (const SlotClass& c : layout_.classes) {
    const uint64_t one = blocks_peak(c, tokens, options_.chunk_max);
    // Choices share the full blocks of their prompt, where no window takes them away.
    const bool shares = c.growth == StateSpec::Growth::kPerToken && c.window_tokens == 0;
    const uint64_t shared = shares ? prompt / c.block_tokens : 0;
    peak.push_back(static_cast<uint32_t>(
        std::min<uint64_t>(one + others * (one - std::min(one, shared)), UINT32_MAX)));
  }
  return peak;
}

SeqView ViewBuilder::view_of(SeqId id, const SequenceTable& table, const BlockCache& cache,
                             bool busy, std::vector<uint32_t>& shared) const {
  const SequenceTable::Sequence& s = table.at(id);
  SeqView v;
  v.id = id;
  v.tokens = static_cast<uint32_t>(s.tokens.size());
  v.computed = s.computed;
  v.resident = s.resident;
  v.prefill_tokens = s.prompt;
  v.busy = busy;
  v.all_logits = s.scores_prompt;
  uint32_t junction = s.junction;
  if (s.resident) {
    for (size_t c = 0; c < shared.size() && options_.count_shared; ++c) {
      shared[c] =
          static_cast<uint32_t>(s.blocks.table(c).ids.size()) - cache.exclusive_blocks(s.blocks, c);
    }
  } else if (!s.saved) {
    const Match match = table.match(s);
    v.computed = match.position;
    junction = cache.needs_snapshots() ? match.junction : 0;
    for (size_t c = 0; c < shared.size(); ++c) shared[c] = match.blocks[c].live;
  }
  v.stop = junction > v.computed ? junction : 0;
  return v;
}

OwnedView ViewBuilder::build(const SequenceTable& table, const BlockCache& cache,
                             const RequestBook& book, const std::set<SeqId>* guess) const {
  OwnedView owned;
  const size_t classes = layout_.classes.size();
  owned.counts.reserve(2 * classes * order_.size());
  uint32_t newcomers = 0;
  std::vector<uint32_t> shared(classes);
  for (const Key& key : order_) {
    const bool guessed = guess != nullptr && guess->contains(key.seq);
    const bool busy = busy_.contains(key.seq) && !guessed;
    if (!table.at(key.seq).resident && ++newcomers > options_.newcomers_max) continue;
    std::fill(shared.begin(), shared.end(), 0);
    SeqView v = view_of(key.seq, table, cache, busy, shared);
    if (guessed && v.computed == v.tokens) ++v.tokens;
    const std::vector<uint32_t> most = peak(*book.request_of(key.seq), book.forked(key.seq));
    owned.counts.insert(owned.counts.end(), shared.begin(), shared.end());
    owned.counts.insert(owned.counts.end(), most.begin(), most.end());
    owned.sequences.push_back(v);
  }
  for (size_t i = 0; i < owned.sequences.size(); ++i) {
    const auto counts =
        std::span<const uint32_t>(owned.counts).subspan(2 * classes * i, 2 * classes);
    owned.sequences[i].shared = counts.first(classes);
    owned.sequences[i].peak = counts.last(classes);
  }
  for (size_t c = 0; c < classes; ++c) {
    const ClassUsage usage = cache.usage(c);
    owned.blocks_total.push_back(usage.total);
    owned.blocks_available.push_back(usage.free + usage.cached);
  }
  owned.view = {owned.sequences, owned.blocks_total, &layout_, owned.blocks_available};
  return owned;
}

}  // namespace trireme
