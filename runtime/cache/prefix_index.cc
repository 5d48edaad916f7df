#include "runtime/cache/prefix_index.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace trireme {

PrefixIndex::PrefixIndex(const CacheLayout& layout, std::span<BlockPool> pools,
                         PrefixIndexOptions options)
    : layout_(layout), pools_(pools), options_(options), order_(layout.classes.size()) {
  CHECK(options.granule > 0 && options.ruler_keep > 0 && options.nodes_max > 0);
  for (size_t c = 0; c < layout.classes.size(); ++c) {
    const SlotClass& shape = layout.classes[c];
    if (shape.growth == StateSpec::Growth::kFixed) {
      CHECK(fixed_class_ < 0) << "states of fixed size are one class";
      fixed_class_ = static_cast<int32_t>(c);
    } else if (shape.window_tokens == 0) {
      CHECK(full_class_ < 0) << "full rows are one class";
      full_class_ = static_cast<int32_t>(c);
    }
  }
}

// ---- nodes ----

NodeId PrefixIndex::find(const BlockKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? kNoNode : found->second;
}

NodeId PrefixIndex::find_or_add(const BlockKey& key, NodeId parent, uint32_t position,
                                uint64_t time) {
  now_ = time;
  if (const NodeId id = find(key); id != kNoNode) {
    CHECK(nodes_[id].position == position && nodes_[id].parent == parent);
    use_node(id, time);
    return id;
  }
  if (parent != kNoNode) {
    ++nodes_[parent].children;  // now, so that making room does not take the parent
    list_node(parent);
  }
  if (!has_room_for_node()) {
    if (parent != kNoNode) {
      --nodes_[parent].children;
      list_node(parent);
    }
    return kNoNode;
  }
  if (unused_.empty()) {
    unused_.push_back(static_cast<NodeId>(nodes_.size()));
    nodes_.emplace_back();
  }
  const NodeId id = unused_.back();
  unused_.pop_back();
  Node& node = nodes_[id];
  node = {};
  node.key = key;
  node.parent = parent;
  node.position = position;
  node.time = time;
  node.used = true;
  node.holdings.resize(layout_.classes.size());
  by_key_.emplace(key, id);
  if (position % options_.granule != 0) {
    std::vector<uint32_t>& lengths = nodes_[parent].tail_lengths;
    const uint32_t length = position - nodes_[parent].position;
    lengths.insert(std::lower_bound(lengths.begin(), lengths.end(), length), length);
  }
  list_node(id);
  uint64_t word;
  std::memcpy(&word, key.bytes.data(), sizeof(word));
  digest_ = mix_digest(digest_, word);
  return id;
}

// Forgets the least recently used node without children where all are in use.
bool PrefixIndex::has_room_for_node() {
  if (node_count() < options_.nodes_max) return true;
  if (childless_.empty()) return false;
  const NodeId victim = std::get<NodeId>(*childless_.begin());
  const NodeId above = nodes_[victim].parent;
  drop_holdings(victim);
  remove_node(victim);
  remove_if_empty(above);
  ++nodes_dropped_;
  return true;
}

void PrefixIndex::remove_node(NodeId id) {
  Node& node = nodes_[id];
  CHECK(node.children == 0 && holds_nothing(node));
  const NodeId parent = node.parent;
  node.used = false;
  list_node(id);
  by_key_.erase(node.key);
  unused_.push_back(id);
  digest_ = mix_digest(digest_, ~uint64_t{0} - static_cast<uint64_t>(id));
  if (parent == kNoNode) return;
  Node& above = nodes_[parent];
  if (node.position % options_.granule != 0) {
    const uint32_t length = node.position - above.position;
    std::vector<uint32_t>& lengths = above.tail_lengths;
    lengths.erase(std::lower_bound(lengths.begin(), lengths.end(), length));
  }
  --above.children;
  above.time = std::max(above.time, node.time);
  list_node(parent);
}

// Where nothing is to be learnt from having seen tokens, a node goes with the last that it held.
void PrefixIndex::remove_if_empty(NodeId id) {
  if (fixed_class_ >= 0) return;
  while (id != kNoNode && nodes_[id].children == 0 && holds_nothing(nodes_[id])) {
    const NodeId parent = nodes_[id].parent;
    remove_node(id);
    id = parent;
  }
}

bool PrefixIndex::holds_nothing(const Node& node) const {
  return std::all_of(node.holdings.begin(), node.holdings.end(),
                     [](const Holding& h) { return h.ids.empty(); });
}

void PrefixIndex::clear() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (size_t c = 0; c < order_.size(); ++c) {
      if (!nodes_[i].used) break;
      for (const BlockId block : nodes_[i].holdings[c].ids) pools_[c].forget(block);
    }
  }
  nodes_.clear();
  unused_.clear();
  by_key_.clear();
  childless_.clear();
  for (std::set<Rank>& order : order_) order.clear();
  digest_ = mix_digest(digest_, 0);
}

// ---- what may be resumed ----

bool PrefixIndex::resumable(NodeId id) const {
  const Node& node = nodes_[id];
  if (node.position == 0) return false;
  for (size_t c = 0; c < order_.size(); ++c) {
    if (is_full(c) || is_fixed(c)) {
      if (node.holdings[c].ids.empty()) return false;
    } else if (!window_complete(id, c)) {
      return false;
    }
  }
  return true;
}

bool PrefixIndex::window_complete(NodeId id, size_t c) const {
  const SlotClass& shape = layout_.classes[c];
  const uint32_t from = first_readable(shape, nodes_[id].position);
  for (; id != kNoNode && nodes_[id].position > from; id = nodes_[id].parent) {
    if (nodes_[id].holdings[c].ids.empty()) return false;
  }
  return true;
}

// From the deepest node up. A deeper node's block has all rows that an upper one's has, and more.
SequenceBlocks::Table PrefixIndex::rows(NodeId id, size_t c) const {
  const SlotClass& shape = layout_.classes[c];
  const uint32_t position = nodes_[id].position;
  SequenceBlocks::Table table;
  table.first_block = first_readable(shape, position) / shape.block_tokens;
  if (first_readable(shape, position) == position) return table;  // a window of one: no rows
  uint32_t end = blocks_before(shape, position);
  table.ids.resize(end - table.first_block);
  for (; end > table.first_block; id = nodes_[id].parent) {
    CHECK(id != kNoNode);
    const Holding& held = nodes_[id].holdings[c];
    while (end > std::max(held.first_block, table.first_block) && !held.ids.empty()) {
      --end;
      table.ids[end - table.first_block] = held.ids[end - held.first_block];
    }
  }
  return table;
}

bool PrefixIndex::has_snapshot(NodeId id) const {
  return fixed_class_ >= 0 && !nodes_[id].holdings[fixed_class_].ids.empty();
}

BlockId PrefixIndex::snapshot(NodeId id) const {
  CHECK(has_snapshot(id));
  return nodes_[id].holdings[fixed_class_].ids[0];
}

// ---- remembering ----

void PrefixIndex::remember_rows(NodeId id, const SequenceBlocks& sequence, uint64_t time) {
  now_ = time;
  for (size_t c = 0; c < order_.size(); ++c) {
    if (is_fixed(c)) continue;
    if (!nodes_[id].holdings[c].ids.empty()) {
      use(id, c, time);  // computed once more: wanted
    } else if (is_full(c)) {
      hold_chain(id, sequence, time);
    } else {
      hold(id, c, sequence.table(c), time);
    }
  }
}

void PrefixIndex::hold_chain(NodeId id, const SequenceBlocks& sequence, uint64_t time) {
  std::vector<NodeId> lacking;
  for (NodeId at = id; nodes_[at].position > 0; at = nodes_[at].parent) {
    if (!nodes_[at].holdings[full_class_].ids.empty()) break;
    lacking.push_back(at);
  }
  for (; !lacking.empty(); lacking.pop_back())
    hold(lacking.back(), full_class_, sequence.table(full_class_), time);
}

// The blocks of the node's own tokens that some row from its position on reads; all or none.
void PrefixIndex::hold(NodeId id, size_t c, const SequenceBlocks::Table& table, uint64_t time) {
  Node& node = nodes_[id];
  const SlotClass& shape = layout_.classes[c];
  const uint32_t from =
      std::max(nodes_[node.parent].position, first_readable(shape, node.position));
  if (from == node.position) return;  // a window of one position
  const uint32_t first = from / shape.block_tokens;
  const uint32_t end = blocks_before(shape, node.position);
  if (first < table.first_block || end > table.first_block + table.ids.size()) {
    CHECK(!is_full(c)) << "a sequence has all its rows";
    return;
  }
  Holding& held = node.holdings[c];
  held.first_block = first;
  held.ids.assign(table.ids.begin() + (first - table.first_block),
                  table.ids.begin() + (end - table.first_block));
  held.time = time;
  for (const BlockId block : held.ids) pools_[c].remember(block);
  if (is_full(c)) {
    ++nodes_[node.parent].full_children;
    if (nodes_[node.parent].position > 0) list(node.parent, c);
  }
  list(id, c);
}

void PrefixIndex::remember_snapshot(NodeId id, BlockId block, bool exempt, uint64_t time) {
  now_ = time;
  const auto c = static_cast<size_t>(fixed_class_);
  Node& node = nodes_[id];
  CHECK(node.holdings[c].ids.empty() && node.position > 0);
  pools_[c].remember(block);
  pools_[c].release(block);
  node.holdings[c].ids.assign(1, block);
  node.holdings[c].time = time;
  node.thinned = false;
  node.exempt = exempt;
  list(id, c);
  if (!exempt) thin(id);
}

void PrefixIndex::renew_snapshot(NodeId id, bool exempt, uint64_t time) {
  nodes_[id].exempt |= exempt;
  if (nodes_[id].exempt) nodes_[id].thinned = false;
  use(id, fixed_class_, time);
}

uint32_t PrefixIndex::level(uint32_t position) const {
  return static_cast<uint32_t>(std::countr_zero(position / options_.granule));
}

// One snapshot more of the newest one's level: the oldest of those that are kept is thinned.
// Snapshots of level l lie 2^(l+1) granules apart, so that the walk is short on average.
void PrefixIndex::thin(NodeId newest) {
  const uint32_t wanted = level(nodes_[newest].position);
  uint32_t kept = 1;
  for (NodeId at = nodes_[newest].parent; at != kNoNode && nodes_[at].position > 0;
       at = nodes_[at].parent) {
    const Node& node = nodes_[at];
    if (!has_snapshot(at) || node.exempt || node.thinned || level(node.position) != wanted)
      continue;
    if (kept++ < options_.ruler_keep) continue;
    nodes_[at].thinned = true;
    list(at, fixed_class_);
    return;
  }
}

std::vector<uint32_t> PrefixIndex::kept_snapshots(NodeId id) const {
  std::vector<uint32_t> positions;
  for (; id != kNoNode; id = nodes_[id].parent) {
    if (has_snapshot(id) && !nodes_[id].thinned) positions.push_back(nodes_[id].position);
  }
  return positions;
}

void PrefixIndex::touch(NodeId id, uint64_t time) {
  now_ = time;
  use_node(id, time);
  if (has_snapshot(id)) renew_snapshot(id, /*exempt=*/true, time);  // a place where chains part
  for (size_t c = 0; c < order_.size(); ++c) {
    if (is_fixed(c)) continue;
    if (is_full(c)) {
      use(id, c, time);
      continue;
    }
    const uint32_t from = first_readable(layout_.classes[c], nodes_[id].position);
    for (NodeId at = id; nodes_[at].position > from; at = nodes_[at].parent) use(at, c, time);
  }
}

void PrefixIndex::use(NodeId id, size_t c, uint64_t time) {
  Holding& held = nodes_[id].holdings[c];
  held.time = std::max(held.time, time);
  list(id, c);
}

void PrefixIndex::use_node(NodeId id, uint64_t time) {
  nodes_[id].time = std::max(nodes_[id].time, time);
  list_node(id);
}

// ---- orders of eviction ----

void PrefixIndex::list(NodeId id, size_t c) {
  Node& node = nodes_[id];
  Holding& held = node.holdings[c];
  unlist(id, c);
  held.listed = !held.ids.empty() && !(is_full(c) && node.full_children > 0);
  if (!held.listed) return;
  const bool kept = !(is_fixed(c) && node.thinned);
  held.rank = {kept, held.time, is_full(c) ? ~node.position : node.position, id};
  order_[c].insert(held.rank);
}

void PrefixIndex::unlist(NodeId id, size_t c) {
  Holding& held = nodes_[id].holdings[c];
  if (held.listed) order_[c].erase(held.rank);
  held.listed = false;
}

void PrefixIndex::list_node(NodeId id) {
  Node& node = nodes_[id];
  childless_.erase(node.rank);
  if (!node.used || node.children > 0) return;
  node.rank = {true, node.time, ~node.position, id};
  childless_.insert(node.rank);
}

uint32_t PrefixIndex::evict(size_t c, uint32_t wanted) {
  const uint32_t free_before = pools_[c].free_count();
  std::vector<NodeId> passed_over;  // out of the order meanwhile
  size_t forced = 0;                // the first of these gave way all the same
  while (pools_[c].free_count() < wanted) {
    NodeId victim = kNoNode;
    if (!order_[c].empty()) {
      victim = std::get<NodeId>(*order_[c].begin());
      if (all_live(victim, c)) {
        unlist(victim, c);
        passed_over.push_back(victim);
        continue;
      }
    } else {  // what is cached lies above what is live
      CHECK(forced < passed_over.size()) << "class " << c << " has fewer cached blocks than wanted";
      victim = passed_over[forced++];
    }
    drop(victim, c);
    if (is_full(c)) drop_holdings(victim);  // of no use without
    remove_if_empty(victim);
  }
  for (; forced < passed_over.size(); ++forced) use(passed_over[forced], c, now_);
  return pools_[c].free_count() - free_before;
}

bool PrefixIndex::all_live(NodeId id, size_t c) const {
  const std::vector<BlockId>& ids = nodes_[id].holdings[c].ids;
  return std::all_of(ids.begin(), ids.end(),
                     [&](BlockId block) { return pools_[c].live_references(block) > 0; });
}

void PrefixIndex::drop(NodeId id, size_t c) {
  Node& node = nodes_[id];
  Holding& held = node.holdings[c];
  if (held.ids.empty()) return;
  for (const BlockId block : held.ids) pools_[c].forget(block);
  held.ids.clear();
  list(id, c);
  if (!is_full(c)) return;
  CHECK(node.full_children == 0);
  Node& above = nodes_[node.parent];
  --above.full_children;
  if (above.position == 0) return;
  above.holdings[c].time = std::max(above.holdings[c].time, held.time);
  list(node.parent, c);
}

void PrefixIndex::drop_holdings(NodeId id) {
  for (size_t c = 0; c < order_.size(); ++c) drop(id, c);
}

}  // namespace trireme
