// The prefixes that are remembered, as a tree of resume points. A node stands at a position of one
// chain of tokens: at each multiple of the granule, and at tails below one (ends of turns). Only
// BlockCache uses it.
//
// A node holds, per per-token class, references to the blocks that its own tokens lie in (those
// since its parent), and of a fixed class one snapshot of the state at exactly its position. A node
// that holds nothing is a mark that these tokens were seen.
//
// A sequence may resume at a node iff
//   - the full class has the rows [0, p) in the nodes from the root to it,
//   - each window class has the rows [first_readable(p), p) in the last of them,
//   - the fixed class has a snapshot in the node itself.
// Half a manifest is a miss.
//
// INVARIANT: a block that a node at p refers to has the rows from its own first position up to
// min(its end, p), whoever computed them. Where there is a full class, a node that holds anything
// holds its rows, and so do all its ancestors. A child's parent exists.
//
// What gives way first, per class (all by the caller's time, in O(log n)):
//   full     the least recently used node without descendants that hold rows; deeper ones first. A
//            node counts as used when a descendant was: it inherits a lost child's time
//   window   the least recently used node; shallower ones first
//   fixed    snapshots that the ruler thinned out, then the least recently used
// A node whose blocks are all live has nothing to give and is passed over as just used.
#pragma once

#include <set>
#include <span>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "runtime/cache/block_key.h"
#include "runtime/cache/block_pool.h"
#include "runtime/cache/layout.h"
#include "runtime/cache/sequence_blocks.h"

namespace trireme {

using NodeId = int32_t;
constexpr NodeId kNoNode = -1;

struct PrefixIndexOptions {
  uint32_t granule = 64;
  uint32_t ruler_keep = 2;
  size_t nodes_max = 1 << 16;
};

class PrefixIndex {
 public:
  // `layout` and `pools` outlive it.
  PrefixIndex(const CacheLayout& layout, std::span<BlockPool> pools, PrefixIndexOptions options);

  NodeId find(const BlockKey& key) const;
  // The node of `key` at `position` under `parent` (kNoNode for position 0), made where it is not
  // there yet. kNoNode where nodes_max are in use.
  NodeId find_or_add(const BlockKey& key, NodeId parent, uint32_t position, uint64_t time);

  uint32_t position(NodeId id) const { return nodes_[id].position; }
  NodeId parent(NodeId id) const { return nodes_[id].parent; }
  // Lengths of the tails below a node, ascending.
  std::span<const uint32_t> tail_lengths(NodeId id) const { return nodes_[id].tail_lengths; }

  bool resumable(NodeId id) const;
  // The blocks of a per-token class that a sequence which resumes at the node reads. The last one
  // is partly filled where the position is not a multiple of block_tokens. REQUIRES: resumable.
  SequenceBlocks::Table rows(NodeId id, size_t slot_class) const;
  bool has_snapshot(NodeId id) const;
  BlockId snapshot(NodeId id) const;  // REQUIRES: has_snapshot

  // Refers to the blocks of `sequence` that the node lacks, in the node itself, and in its
  // ancestors where they lost rows of the full class.
  void remember_rows(NodeId id, const SequenceBlocks& sequence, uint64_t time);
  // Makes the live block a snapshot: its only reference becomes the index's. Then thins the ruler.
  void remember_snapshot(NodeId id, BlockId block, bool exempt, uint64_t time);
  // A snapshot that is there already is wanted again.
  void renew_snapshot(NodeId id, bool exempt, uint64_t time);
  // A sequence resumed here: all that it read counts as used now.
  void touch(NodeId id, uint64_t time);

  // Lets cached blocks go until `wanted` are free. REQUIRES: wanted <= free + cached.
  // Returns how many became free.
  uint32_t evict(size_t slot_class, uint32_t wanted);
  void clear();

  size_t node_count() const { return by_key_.size(); }
  uint64_t nodes_dropped() const { return nodes_dropped_; }
  // Snapshots of the chain that ends at a node, those that were thinned left out: positions,
  // descending.
  std::vector<uint32_t> kept_snapshots(NodeId id) const;
  uint64_t digest() const { return digest_; }

  // CHECKs all that is said above, and adds up references[class][block].
  void check(std::vector<std::vector<uint32_t>>& references) const;

 private:
  // In order of eviction: thinned ones, time, place in the chain.
  using Rank = std::tuple<bool, uint64_t, uint32_t, NodeId>;
  struct Holding {
    std::vector<BlockId> ids;  // consecutive; of a fixed class one at most
    uint32_t first_block = 0;
    uint64_t time = 0;
    bool listed = false;
    Rank rank;
  };
  struct Node {
    BlockKey key;
    NodeId parent = kNoNode;
    uint32_t position = 0;
    uint32_t children = 0;
    uint32_t full_children = 0;  // of these, that hold rows of the full class
    uint64_t time = 0;
    bool used = false;              // this slot of nodes_ is a node
    bool thinned = false;           // its snapshot
    bool exempt = false;            // its snapshot is not the ruler's to thin
    Rank rank;                      // in the order of childless nodes
    std::vector<Holding> holdings;  // by class
    std::vector<uint32_t> tail_lengths;
  };

  bool is_full(size_t c) const { return static_cast<int32_t>(c) == full_class_; }
  bool is_fixed(size_t c) const { return static_cast<int32_t>(c) == fixed_class_; }
  uint32_t level(uint32_t position) const;

  bool window_complete(NodeId id, size_t c) const;
  void hold(NodeId id, size_t c, const SequenceBlocks::Table& table, uint64_t time);
  void hold_chain(NodeId id, const SequenceBlocks& sequence, uint64_t time);
  void drop(NodeId id, size_t c);
  void drop_holdings(NodeId id);

  void list(NodeId id, size_t c);  // in or out of the class's order, as the node's state demands
  void unlist(NodeId id, size_t c);
  bool all_live(NodeId id, size_t c) const;
  void list_node(NodeId id);
  void use(NodeId id, size_t c, uint64_t time);
  void use_node(NodeId id, uint64_t time);

  bool has_room_for_node();
  void remove_node(NodeId id);
  void remove_if_empty(NodeId id);
  bool holds_nothing(const Node& node) const;
  void thin(NodeId newest);

  const CacheLayout& layout_;
  std::span<BlockPool> pools_;
  const PrefixIndexOptions options_;
  int32_t full_class_ = -1;
  int32_t fixed_class_ = -1;

  std::vector<Node> nodes_;
  std::vector<NodeId> unused_;
  std::unordered_map<BlockKey, NodeId, BlockKeyHash> by_key_;  // never walked
  std::vector<std::set<Rank>> order_;                          // by class
  std::set<Rank> childless_;
  uint64_t now_ = 0;
  uint64_t nodes_dropped_ = 0;
  uint64_t digest_ = 0;
};

}  // namespace trireme
