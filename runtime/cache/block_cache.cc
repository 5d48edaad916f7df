#include "runtime/cache/block_cache.h"

#include <algorithm>

#include "runtime/cache/prefix_index.h"

namespace trireme {

BlockCache::BlockCache(const CacheLayout& layout, std::span<const uint32_t> blocks_total,
                       BlockCacheOptions options)
    : layout_(layout), options_(std::move(options)), hasher_(options_.fingerprint) {
  CHECK(blocks_total.size() == layout.classes.size() && options_.granule > 0);
  for (size_t c = 0; c < blocks_total.size(); ++c) {
    pools_.emplace_back(blocks_total[c]);
    if (layout.classes[c].growth == StateSpec::Growth::kFixed)
      fixed_class_ = static_cast<int32_t>(c);
  }
  index_ = std::make_unique<PrefixIndex>(
      layout_, pools_,
      PrefixIndexOptions{options_.granule, options_.ruler_keep, options_.nodes_max});
}

BlockCache::~BlockCache() = default;

// ---- blocks ----

void BlockCache::make_room(size_t c, uint32_t blocks) {
  if (pools_[c].free_count() >= blocks) return;
  stats_.blocks_evicted += index_->evict(c, blocks);
}

bool BlockCache::advance(SequenceBlocks& sequence, uint32_t begin, uint32_t end) {
  sequence.drop_before(pools_, begin);
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (sequence.missing(c, end) > available(c)) return false;
  }
  for (size_t c = 0; c < pools_.size(); ++c) make_room(c, sequence.missing(c, end));
  sequence.extend(pools_, end);
  return true;
}

void BlockCache::release(SequenceBlocks& sequence) { sequence.release(pools_); }

void BlockCache::reset() { index_->clear(); }

void BlockCache::copy(size_t c, BlockId from, BlockId to, std::vector<BlockCopy>& copies) {
  digest_ =
      mix_digest(digest_, uint64_t{static_cast<uint32_t>(from)} << 32 | static_cast<uint32_t>(to));
  if (from != to) copies.push_back({static_cast<uint32_t>(c), from, to});
}

// ---- resuming ----

namespace {

// What a sequence that stands at `position` shares of the blocks in `table`, and what it has to
// have for itself, because it goes on writing there: the last block, where it is filled in part.
uint32_t full_blocks(const SlotClass& shape, const SequenceBlocks::Table& table,
                     uint32_t position) {
  const uint32_t full_end = position / shape.block_tokens;
  const auto held = static_cast<uint32_t>(table.ids.size());
  return full_end > table.first_block ? std::min(full_end - table.first_block, held) : 0;
}

}  // namespace

Match BlockCache::match(std::span<const int32_t> tokens, std::string_view salt,
                        uint32_t limit) const {
  CHECK(limit <= tokens.size());
  Match found;
  found.limit = limit;
  found.root = found.grid = found.key = hasher_.root(salt);
  found.blocks.resize(pools_.size());
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (layout_.classes[c].growth == StateSpec::Growth::kFixed) found.blocks[c].fresh = 1;
  }
  if (!options_.prefix_caching) return found;

  struct Seen {
    NodeId node;
    BlockKey key;
  };
  std::vector<Seen> chain;
  BlockKey key = found.root;
  NodeId node = index_->find(key);
  for (uint32_t at = 0; node != kNoNode;) {
    chain.push_back({node, key});
    if (at + options_.granule > limit) break;
    key = hasher_.next(key, tokens.subspan(at, options_.granule));
    at += options_.granule;
    node = index_->find(key);
  }
  if (chain.empty()) return found;
  found.junction = index_->position(chain.back().node);

  NodeId best = kNoNode;
  for (size_t i = chain.size(); i-- > 0 && best == kNoNode;) {
    const uint32_t base = index_->position(chain[i].node);
    std::vector<uint32_t> lengths;
    for (const uint32_t length : index_->tail_lengths(chain[i].node)) {
      if (base + length <= limit) lengths.push_back(length);
    }
    if (!lengths.empty()) {
      hasher_.tails(chain[i].key, tokens.subspan(base, lengths.back()), lengths,
                    [&](uint32_t, const BlockKey& tail_key) {
                      const NodeId tail = index_->find(tail_key);
                      if (tail == kNoNode || !index_->resumable(tail)) return;
                      best = tail;
                      found.key = tail_key;
                    });
    }
    if (best == kNoNode && index_->resumable(chain[i].node)) {
      best = chain[i].node;
      found.key = chain[i].key;
    }
    if (best != kNoNode) found.grid = chain[i].key;
  }
  if (best == kNoNode) return found;
  found.position = index_->position(best);
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    if (shape.growth == StateSpec::Growth::kFixed) continue;
    Match::Blocks& count = found.blocks[c];
    const SequenceBlocks::Table table = index_->rows(best, c);
    const uint32_t full = full_blocks(shape, table, found.position);
    for (uint32_t i = 0; i < full; ++i)
      ++(pools_[c].live_references(table.ids[i]) > 0 ? count.live : count.cached);
    count.fresh = found.position % shape.block_tokens != 0 ? 1 : 0;
  }
  return found;
}

uint32_t BlockCache::attach(SequenceBlocks& empty, const Match& match, uint64_t time,
                            std::vector<BlockCopy>& copies) {
  CHECK(empty.empty());
  empty.chain() = {
      .attached = true, .broken = false, .hashed = 0, .root = match.root, .key = match.root};
  ++stats_.lookups;
  stats_.lookup_tokens += match.limit;
  if (match.position == 0) return 0;
  const NodeId node = index_->find(match.key);
  if (node == kNoNode || !index_->resumable(node)) return 0;
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (match.blocks[c].cached + match.blocks[c].fresh > available(c)) return 0;
  }
  index_->touch(node, time);
  // First what is shared, in every class: what is live is not evicted.
  std::vector<BlockId> partial(pools_.size(), -1);  // to be copied, where the class has one
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    if (shape.growth == StateSpec::Growth::kFixed) {
      partial[c] = index_->snapshot(node);
      continue;
    }
    SequenceBlocks::Table table = index_->rows(node, c);
    const uint32_t full = full_blocks(shape, table, match.position);
    if (full < table.ids.size()) partial[c] = table.ids.back();
    table.ids.resize(full);
    // A window of one reads nothing, and goes on in the block that its position lies in.
    table.first_block = std::min(table.first_block, match.position / shape.block_tokens);
    for (const BlockId id : table.ids) pools_[c].share(id);
    empty.adopt(c, std::move(table));
  }
  // Then what is its own. Evicting may take the source of a copy: its bytes stay until the copies,
  // which are made in this order, are done.
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    const bool fixed = shape.growth == StateSpec::Growth::kFixed;
    if (!fixed && match.position % shape.block_tokens == 0) continue;
    make_room(c, 1);
    const std::optional<BlockId> own = pools_[c].take();
    CHECK(own.has_value());
    empty.append(c, *own);
    if (partial[c] >= 0) copy(c, partial[c], *own, copies);
  }
  empty.chain().hashed = match.position / options_.granule * options_.granule;
  empty.chain().key = match.grid;
  ++stats_.hits;
  stats_.hit_tokens += match.position;
  return match.position;
}

bool BlockCache::fork(const SequenceBlocks& from, uint32_t position, SequenceBlocks& to,
                      std::vector<BlockCopy>& copies) {
  CHECK(to.empty());
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    const bool fixed = shape.growth == StateSpec::Growth::kFixed;
    if ((fixed || position % shape.block_tokens != 0) && available(c) == 0) return false;
  }
  to.chain() = from.chain();
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    const bool fixed = shape.growth == StateSpec::Growth::kFixed;
    SequenceBlocks::Table table = from.table(c);
    const uint32_t full = fixed ? 0 : full_blocks(shape, table, position);
    CHECK(table.ids.size() - full <= 1) << "the sequence holds more than its position needs";
    const BlockId rest = full < table.ids.size() ? table.ids.back() : -1;
    table.ids.resize(full);
    for (const BlockId id : table.ids) pools_[c].share(id);
    to.adopt(c, std::move(table));
    if (rest < 0) continue;
    make_room(c, 1);
    const std::optional<BlockId> own = pools_[c].take();
    CHECK(own.has_value());
    to.append(c, *own);
    copy(c, rest, *own, copies);
  }
  return true;
}

// ---- remembering ----

void BlockCache::publish(SequenceBlocks& sequence, std::span<const int32_t> tokens,
                         uint32_t computed, Publish what, uint64_t time,
                         std::vector<BlockCopy>& copies) {
  if (!options_.prefix_caching) return;
  ChainState& chain = sequence.chain();
  CHECK(chain.attached && computed <= tokens.size());
  if (chain.broken) return;
  NodeId node = chain.hashed == 0 ? index_->find_or_add(chain.root, kNoNode, 0, time)
                                  : index_->find(chain.key);
  while (node != kNoNode && chain.hashed + options_.granule <= computed) {
    const BlockKey key = hasher_.next(chain.key, tokens.subspan(chain.hashed, options_.granule));
    node = index_->find_or_add(key, node, chain.hashed + options_.granule, time);
    if (node == kNoNode) break;
    index_->remember_rows(node, sequence, time);
    chain.hashed += options_.granule;
    chain.key = key;
  }
  if (node == kNoNode) {
    chain.broken = true;
    return;
  }
  const uint32_t rest = computed - chain.hashed;
  if (rest > 0 && what.end_of_turn) {
    const BlockKey key = hasher_.next(chain.key, tokens.subspan(chain.hashed, rest));
    node = index_->find_or_add(key, node, computed, time);
    if (node == kNoNode) return;
    index_->remember_rows(node, sequence, time);
  }
  const bool here = rest == 0 || what.end_of_turn;
  const bool exempt = what.junction || what.end_of_turn;
  if (here && computed > 0 && needs_snapshots() && (what.snapshot || exempt))
    take_snapshot(node, sequence, exempt, time, copies);
}

void BlockCache::take_snapshot(int32_t node, const SequenceBlocks& sequence, bool exempt,
                               uint64_t time, std::vector<BlockCopy>& copies) {
  const auto c = static_cast<size_t>(fixed_class_);
  if (index_->has_snapshot(node)) return index_->renew_snapshot(node, exempt, time);
  if (available(c) == 0) {
    ++stats_.snapshots_skipped;
    return;
  }
  make_room(c, 1);
  const std::optional<BlockId> block = pools_[c].take();
  CHECK(block.has_value());
  copy(c, sequence.table(c).ids[0], *block, copies);
  index_->remember_snapshot(node, *block, exempt, time);
  ++stats_.snapshots;
}

// ---- accounts ----

ClassUsage BlockCache::usage(size_t c) const {
  const BlockPool& pool = pools_[c];
  return {pool.total(), pool.free_count(), pool.live_count(), pool.cached_count()};
}

std::vector<ClassUsage> BlockCache::usage() const {
  std::vector<ClassUsage> all;
  for (size_t c = 0; c < pools_.size(); ++c) all.push_back(usage(c));
  return all;
}

uint32_t BlockCache::exclusive_blocks(const SequenceBlocks& sequence, size_t c) const {
  const std::vector<BlockId>& ids = sequence.table(c).ids;
  return static_cast<uint32_t>(std::count_if(
      ids.begin(), ids.end(), [&](BlockId id) { return pools_[c].live_references(id) == 1; }));
}

CacheStats BlockCache::stats() const {
  CacheStats stats = stats_;
  stats.nodes = index_->node_count();
  stats.nodes_dropped = index_->nodes_dropped();
  return stats;
}

uint64_t BlockCache::digest() const {
  uint64_t digest = mix_digest(digest_, index_->digest());
  for (const BlockPool& pool : pools_) digest = mix_digest(digest, pool.digest());
  return digest;
}

void BlockCache::check(std::span<const SequenceBlocks* const> sequences) const {
  for (size_t c = 0; c < pools_.size(); ++c) {
    const BlockPool& pool = pools_[c];
    std::vector<uint32_t> live(pool.total(), 0);
    for (const SequenceBlocks* s : sequences) {
      for (const BlockId id : s->table(c).ids) ++live[static_cast<size_t>(id)];
    }
    uint32_t live_blocks = 0, cached_blocks = 0;
    for (uint32_t id = 0; id < pool.total(); ++id) {
      CHECK(live[id] == pool.live_references(static_cast<BlockId>(id)))
          << "block " << id << " of class " << c << " has owners that nobody knows";
      live_blocks += live[id] > 0;
      cached_blocks += live[id] == 0 && pool.index_references(static_cast<BlockId>(id)) > 0;
    }
    CHECK(live_blocks == pool.live_count() && cached_blocks == pool.cached_count());
    CHECK(pool.free_count() + pool.live_count() + pool.cached_count() == pool.total());
  }
}

}  // namespace trireme
