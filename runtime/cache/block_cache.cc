#include "runtime/cache/block_cache.h"

#include <algorithm>

#include "runtime/cache/prefix_index.h"

namespace trireme {
namespace {

std::vector<BlockPool> make_pools(std::span<const uint32_t> totals) {
  std::vector<BlockPool> pools;
  for (const uint32_t total : totals) pools.emplace_back(total);
  return pools;
}

bool is_fixed(const SlotClass& c) { return c.growth == StateSpec::Growth::kFixed; }

// A sequence at `position` goes on writing in a block that it shares with nobody.
bool ends_in_a_block(const SlotClass& c, uint32_t position) {
  return position % c.block_tokens != 0;
}

}  // namespace

BlockCache::BlockCache(const CacheLayout& layout, std::span<const uint32_t> blocks_total,
                       BlockCacheOptions options)
    : layout_(layout),
      options_(std::move(options)),
      hasher_(options_.fingerprint),
      pools_(make_pools(blocks_total)),
      index_(std::make_unique<PrefixIndex>(
          layout, pools_,
          PrefixIndexOptions{options_.granule, options_.ruler_keep, options_.nodes_max})) {
  CHECK(blocks_total.size() == layout.classes.size());
  for (size_t c = 0; c < layout.classes.size(); ++c) {
    if (is_fixed(layout.classes[c])) fixed_class_ = static_cast<int32_t>(c);
  }
}
BlockCache::~BlockCache() = default;

// ---- blocks of sequences ----

bool BlockCache::advance(SequenceBlocks& sequence, uint32_t begin, uint32_t end) {
  sequence.drop_before(pools_, begin);
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (sequence.missing(c, end) > available(c)) return false;
  }
  for (size_t c = 0; c < pools_.size(); ++c) make_room(c, sequence.missing(c, end));
  sequence.extend(pools_, end);
  return true;
}

void BlockCache::make_room(size_t c, uint32_t blocks) {
  if (pools_[c].free_count() < blocks) stats_.blocks_evicted += index_->evict(c, blocks);
}

void BlockCache::copy(size_t c, BlockId from, BlockId to, std::vector<BlockCopy>& copies) {
  if (from == to) return;  // the source itself gave way
  copies.push_back({static_cast<uint32_t>(c), from, to});
  digest_ =
      mix_digest(digest_, uint64_t{static_cast<uint32_t>(from)} << 32 | static_cast<uint32_t>(to));
}

void BlockCache::release(SequenceBlocks& sequence) { sequence.release(pools_); }
void BlockCache::reset() { index_->clear(); }

// ---- prefixes ----

Match BlockCache::match(std::span<const int32_t> tokens, std::string_view salt,
                        uint32_t limit) const {
  CHECK(limit <= tokens.size());
  Match found;
  found.limit = limit;
  found.blocks.resize(pools_.size());
  if (!options_.prefix_caching) return found;
  found.root = found.grid = found.key = hasher_.root(salt);
  const uint32_t granule = options_.granule;
  std::vector<NodeId> seen;  // of positions 0, G, 2G, ...
  std::vector<BlockKey> keys = {found.root};
  for (NodeId at = index_->find(found.root); at != kNoNode; at = index_->find(keys.back())) {
    seen.push_back(at);
    const uint32_t here = index_->position(at);
    if (limit - here < granule) break;
    keys.push_back(hasher_.next(keys.back(), tokens.subspan(here, granule)));
  }
  if (!seen.empty()) found.junction = index_->position(seen.back());
  for (size_t k = seen.size(); k-- > 0 && found.position == 0;) {
    const uint32_t here = index_->position(seen[k]);
    NodeId resume = kNoNode;
    if (const auto lengths = index_->tail_lengths(seen[k]); !lengths.empty()) {
      const auto fitting = static_cast<size_t>(
          std::upper_bound(lengths.begin(), lengths.end(), limit - here) - lengths.begin());
      hasher_.tails(keys[k], tokens.subspan(here), lengths.first(fitting),
                    [&](uint32_t, const BlockKey& key) {
                      const NodeId tail = index_->find(key);
                      if (tail == kNoNode || !index_->resumable(tail)) return;
                      resume = tail;
                      found.key = key;
                    });
    }
    if (resume == kNoNode && index_->resumable(seen[k])) {
      resume = seen[k];
      found.key = keys[k];
    }
    if (resume == kNoNode) continue;
    found.grid = keys[k];
    found.position = index_->position(resume);
    for (size_t c = 0; c < pools_.size(); ++c) found.blocks[c] = count_blocks_of(resume, c);
  }
  return found;
}

Match::Blocks BlockCache::count_blocks_of(NodeId node, size_t c) const {
  Match::Blocks blocks;
  const SlotClass& shape = layout_.classes[c];
  if (is_fixed(shape)) {
    blocks.fresh = 1;
    return blocks;
  }
  SequenceBlocks::Table table = index_->rows(node, c);
  if (ends_in_a_block(shape, index_->position(node))) {
    blocks.fresh = 1;
    if (!table.ids.empty()) table.ids.pop_back();
  }
  for (const BlockId id : table.ids)
    ++(pools_[c].live_references(id) > 0 ? blocks.live : blocks.cached);
  return blocks;
}

uint32_t BlockCache::attach(SequenceBlocks& empty, const Match& match, uint64_t time,
                            std::vector<BlockCopy>& copies) {
  CHECK(empty.empty()) << "a sequence that holds blocks cannot be attached";
  empty.release(pools_);  // begins at block 0
  if (!options_.prefix_caching) return 0;
  empty.chain() = {.attached = true, .root = match.root, .key = match.root};
  ++stats_.lookups;
  stats_.lookup_tokens += match.limit;
  if (match.position == 0) return 0;
  const NodeId node = index_->find(match.key);
  if (node == kNoNode || !index_->resumable(node)) return 0;
  for (size_t c = 0; c < pools_.size(); ++c) {
    const Match::Blocks blocks = count_blocks_of(node, c);
    if (blocks.cached + blocks.fresh > available(c)) return 0;
  }
  ++stats_.hits;
  stats_.hit_tokens += match.position;
  index_->touch(node, time);
  adopt_prefix(empty, node, match.position, copies);
  empty.chain().hashed = match.position / options_.granule * options_.granule;
  empty.chain().key = match.grid;
  return match.position;
}

void BlockCache::attach_to_root(SequenceBlocks& empty, std::string_view salt) {
  CHECK(empty.empty()) << "a sequence that holds blocks cannot be attached";
  empty.release(pools_);  // begins at block 0
  if (!options_.prefix_caching) return;
  const BlockKey root = hasher_.root(salt);
  empty.chain() = {.attached = true, .root = root, .key = root};
}

// Shares the full blocks first, so that they do not give way; then takes new ones. A source may
// give way to its own copy: its bytes stay as they are until a later copy or step writes there.
void BlockCache::adopt_prefix(SequenceBlocks& empty, NodeId node, uint32_t position,
                              std::vector<BlockCopy>& copies) {
  std::vector<SequenceBlocks::Table> tables(pools_.size());
  std::vector<BlockId> sources(pools_.size(), kNoBlock);
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (is_fixed(layout_.classes[c])) {
      sources[c] = index_->snapshot(node);
      continue;
    }
    tables[c] = index_->rows(node, c);
    std::vector<BlockId>& ids = tables[c].ids;
    if (ends_in_a_block(layout_.classes[c], position) && !ids.empty()) {
      sources[c] = ids.back();
      ids.pop_back();
    }
    for (const BlockId id : ids) pools_[c].share(id);
  }
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (is_fixed(layout_.classes[c]) || ends_in_a_block(layout_.classes[c], position))
      tables[c].ids.push_back(take_copy(c, sources[c], copies));
    empty.adopt(c, std::move(tables[c]));
  }
}

BlockId BlockCache::take_copy(size_t c, BlockId source, std::vector<BlockCopy>& copies) {
  make_room(c, 1);
  const BlockId id = *pools_[c].take();
  if (source != kNoBlock) copy(c, source, id, copies);
  return id;
}

bool BlockCache::fork(const SequenceBlocks& from, uint32_t position, SequenceBlocks& to,
                      std::vector<BlockCopy>& copies) {
  CHECK(to.empty()) << "a sequence that holds blocks cannot become another one";
  const auto needs_copy = [&](size_t c) {
    return is_fixed(layout_.classes[c]) ? position > 0
                                        : ends_in_a_block(layout_.classes[c], position);
  };
  for (size_t c = 0; c < pools_.size(); ++c) {
    if (needs_copy(c) && available(c) == 0) return false;
  }
  to.release(pools_);
  for (size_t c = 0; c < pools_.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    SequenceBlocks::Table table = from.table(c);
    const uint32_t end = is_fixed(shape) ? position > 0 : blocks_before(shape, position);
    const uint32_t count = end > table.first_block ? end - table.first_block : 0;
    CHECK(table.ids.size() >= count) << "forked where the sequence has not been";
    table.ids.resize(count);
    BlockId source = kNoBlock;
    if (needs_copy(c)) {
      source = table.ids.back();
      table.ids.pop_back();
    }
    for (const BlockId id : table.ids) pools_[c].share(id);
    if (source != kNoBlock) table.ids.push_back(take_copy(c, source, copies));
    to.adopt(c, std::move(table));
  }
  to.chain() = from.chain();
  return true;
}

// ---- remembering ----

void BlockCache::publish(SequenceBlocks& sequence, std::span<const int32_t> tokens,
                         uint32_t computed, Publish what, uint64_t time,
                         std::vector<BlockCopy>& copies) {
  if (!options_.prefix_caching) return;
  ChainState& chain = sequence.chain();
  CHECK(chain.attached && computed <= tokens.size() && chain.hashed <= computed);
  NodeId node = publish_granules(sequence, tokens, computed, what.end_of_turn, time);
  if (node == kNoNode) return;
  if (what.end_of_turn && computed > chain.hashed) {
    const auto tail = tokens.subspan(chain.hashed, computed - chain.hashed);
    node = index_->find_or_add(hasher_.next(chain.key, tail), node, computed, time);
    if (node == kNoNode) return;
  }
  if (computed == 0 || index_->position(node) != computed) return;
  index_->remember_rows(node, sequence, time);  // an older node may have lost them since
  if (needs_snapshots() && (what.snapshot || what.junction || what.end_of_turn))
    take_snapshot(node, sequence, what.junction || what.end_of_turn, time, copies);
}

// The node of the last complete granule at or before `computed`; kNoNode where the chain is broken.
// A chain that was forgotten while its sequence ran is begun anew at the end of a turn only, so
// that a crowded index costs no more than one hashing of all tokens per turn.
NodeId BlockCache::publish_granules(SequenceBlocks& sequence, std::span<const int32_t> tokens,
                                    uint32_t computed, bool end_of_turn, uint64_t time) {
  ChainState& chain = sequence.chain();
  NodeId node = chain.broken ? kNoNode : index_->find(chain.key);
  if (node == kNoNode && (chain.hashed == 0 || end_of_turn)) {
    chain.hashed = 0;
    chain.key = chain.root;
    node = index_->find_or_add(chain.root, kNoNode, 0, time);
  }
  while (node != kNoNode && computed - chain.hashed >= options_.granule) {
    const auto granule = tokens.subspan(chain.hashed, options_.granule);
    const BlockKey key = hasher_.next(chain.key, granule);
    node = index_->find_or_add(key, node, chain.hashed + options_.granule, time);
    if (node == kNoNode) break;
    index_->remember_rows(node, sequence, time);
    chain.key = key;
    chain.hashed += options_.granule;
  }
  chain.broken = node == kNoNode;
  return node;
}

void BlockCache::take_snapshot(NodeId node, const SequenceBlocks& sequence, bool exempt,
                               uint64_t time, std::vector<BlockCopy>& copies) {
  if (index_->has_snapshot(node)) return index_->renew_snapshot(node, exempt, time);
  const auto c = static_cast<size_t>(fixed_class_);
  const std::vector<BlockId>& own = sequence.table(c).ids;
  CHECK(own.size() == 1);
  if (available(c) == 0) {
    ++stats_.snapshots_skipped;
    return;
  }
  ++stats_.snapshots;
  index_->remember_snapshot(node, take_copy(c, own[0], copies), exempt, time);
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
  std::vector<std::vector<uint32_t>> remembered;
  for (const BlockPool& pool : pools_) remembered.emplace_back(pool.total(), 0);
  index_->check(remembered);
  for (size_t c = 0; c < pools_.size(); ++c) {
    const BlockPool& pool = pools_[c];
    std::vector<uint32_t> live(pool.total(), 0);
    for (const SequenceBlocks* sequence : sequences) {
      for (const BlockId id : sequence->table(c).ids) ++live.at(id);
    }
    uint32_t live_count = 0, cached_count = 0;
    for (uint32_t id = 0; id < pool.total(); ++id) {
      const auto block = static_cast<BlockId>(id);
      CHECK(pool.live_references(block) == live[id]) << "block " << id << " of class " << c;
      CHECK(pool.index_references(block) == remembered[c][id])
          << "block " << id << " of class " << c;
      live_count += live[id] > 0;
      cached_count += live[id] == 0 && remembered[c][id] > 0;
    }
    CHECK(live_count == pool.live_count() && cached_count == pool.cached_count());
    CHECK(pool.free_count() + live_count + cached_count == pool.total());
  }
}

}  // namespace trireme
