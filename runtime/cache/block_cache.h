// The cache of one rank as the engine sees it: which blocks sequences hold, and which prefixes are
// remembered in blocks that nobody holds. The engine calls this and nothing behind it.
//
// Who calls it: the engine's thread on every rank of a worker, with the same calls in the same
// order. Nothing here reads a clock, an address or an unordered iteration, so every rank gets the
// same ids without being told any; digest() compares them. "Time" is a counter of the caller's, a
// step number say, that never goes back.
//
// What it decides are ids; bytes move when the caller performs the BlockCopy lists, in order, after
// the step that ran and before the next one. The order of calls is the order of copies.
//
// A sequence's life:
//   match -> attach -> (advance -> the step computes -> publish -> advance(computed, computed))*
//   -> release.  A sequence that matches nothing is attached too: that gives it its root key.
//
// INVARIANT: free + live + cached == total in each class. A block that two sequences refer to is
// full, and nobody writes it again. live + missing <= total is enough for advance() to succeed:
// whatever is only cached gives way.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cache/block_key.h"
#include "runtime/cache/block_pool.h"
#include "runtime/cache/layout.h"
#include "runtime/cache/sequence_blocks.h"

namespace trireme {

class PrefixIndex;
using NodeId = int32_t;

struct BlockCacheOptions {
  bool prefix_caching = true;  // false: match() finds nothing and publish() does nothing
  uint32_t granule = 64;       // G: tokens per key; > 0, independent of block_tokens
  uint32_t ruler_keep = 2;     // snapshots kept per level of the ruler along a chain; > 0
  std::string fingerprint;     // of all that makes rows what they are: weights, dtypes, mesh
  size_t nodes_max = 1 << 16;  // prefixes remembered; > 0
};

// The whole block `to` becomes a copy of the whole block `from`.
struct BlockCopy {
  uint32_t slot_class = 0;
  BlockId from = 0;
  BlockId to = 0;
  bool operator==(const BlockCopy&) const = default;
};

// What match() found. Good for attach() later, which looks again.
struct Match {
  uint32_t position = 0;  // resume here; 0: nothing is remembered
  uint32_t junction = 0;  // the longest multiple of G, at most `limit`, up to which these tokens
                          // were seen before. Where it exceeds `position` and needs_snapshots():
                          // end a prefill run there and publish with Publish::junction
  uint32_t limit = 0;     // as asked
  struct Blocks {
    uint32_t live = 0;    // to be shared, and held by sequences already: they cost nothing
    uint32_t cached = 0;  // to be shared, and held by nobody: they become live
    uint32_t fresh = 0;   // to be taken: copies of a partly filled block, or the own fixed state
    bool operator==(const Blocks&) const = default;
  };
  std::vector<Blocks> blocks;  // by class; attach() fits where cached + fresh <= total - live of
                               // usage()
  BlockKey root, grid, key;    // of position 0, of the last multiple of G, of `position`
};

// What publish() is told of the position `computed`.
struct Publish {
  bool snapshot = false;     // copy the fixed states, if `computed` is a multiple of G
  bool junction = false;     // as snapshot; and the ruler never thins it
  bool end_of_turn = false;  // remember this very position, wherever it is, with its fixed states
};

struct ClassUsage {
  uint32_t total = 0, free = 0, live = 0, cached = 0;
  bool operator==(const ClassUsage&) const = default;
};

struct CacheStats {
  uint64_t lookups = 0, lookup_tokens = 0;  // attach() calls; tokens that could have been found
  uint64_t hits = 0, hit_tokens = 0;        // of these
  uint64_t blocks_evicted = 0;              // cached blocks that gave way
  uint64_t snapshots = 0, snapshots_skipped = 0;  // taken; not taken for want of a block
  uint64_t nodes = 0, nodes_dropped = 0;          // remembered now; forgotten because of nodes_max
};

class BlockCache {
 public:
  // `layout` outlives it. blocks_total[c] blocks of class c.
  BlockCache(const CacheLayout& layout, std::span<const uint32_t> blocks_total,
             BlockCacheOptions options);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;

  // Makes room for computing tokens [begin, end), as SequenceBlocks::advance; cached blocks give
  // way. False, with nothing taken, where live sequences leave too few.
  bool advance(SequenceBlocks& sequence, uint32_t begin, uint32_t end);

  // The longest position <= limit at which a sequence of these tokens can resume, under the
  // tenant's salt. Pure. REQUIRES: limit <= tokens.size(). A prompt wants limit = its length - 1,
  // so that one row is left to compute logits from.
  Match match(std::span<const int32_t> tokens, std::string_view salt, uint32_t limit) const;

  // Gives `empty` what it needs to go on at match.position, which is returned. 0 where the match is
  // of position 0, too few blocks are there, or part of it was evicted since: `empty` then holds no
  // block and begins at 0. REQUIRES: `empty` holds nothing.
  uint32_t attach(SequenceBlocks& empty, const Match& match, uint64_t time,
                  std::vector<BlockCopy>& copies);

  // Attaches `empty` to its root key alone, without looking for a prefix: for a sequence whose
  // bytes come back from elsewhere. Its chain of keys begins anew, so that what was published is
  // found again and the rest is published. REQUIRES: `empty` holds nothing.
  void attach_to_root(SequenceBlocks& empty, std::string_view salt);

  // Remembers all granules of `tokens` that are complete at `computed` and were not when it was
  // last called. Call it right after the step that computed rows up to `computed`, before advance()
  // drops blocks that left the window; `tokens` are all of the sequence's, at least `computed`. A
  // snapshot for which there is no block is left out. REQUIRES: the sequence was attached.
  void publish(SequenceBlocks& sequence, std::span<const int32_t> tokens, uint32_t computed,
               Publish what, uint64_t time, std::vector<BlockCopy>& copies);

  // Makes the empty sequence `to` a second one at `position`, which must be what `from` has
  // computed. False, with nothing changed, where blocks are too few.
  bool fork(const SequenceBlocks& from, uint32_t position, SequenceBlocks& to,
            std::vector<BlockCopy>& copies);

  // Gives everything back; what is remembered stays cached.
  void release(SequenceBlocks& sequence);
  // Forgets all prefixes; sequences keep what they hold.
  void reset();

  bool needs_snapshots() const { return fixed_class_ >= 0; }
  // Whether the ruler has a place for a snapshot here: any multiple of G.
  bool snapshot_due(uint32_t position) const {
    return needs_snapshots() && options_.prefix_caching && position > 0 &&
           position % options_.granule == 0;
  }
  uint32_t granule() const { return options_.granule; }

  std::vector<ClassUsage> usage() const;  // by class
  ClassUsage usage(size_t slot_class) const;
  // Blocks of a class that only `sequence` refers to: that many become free or cached when it is
  // released.
  uint32_t exclusive_blocks(const SequenceBlocks& sequence, size_t slot_class) const;
  CacheStats stats() const;

  // A running hash of everything that was taken, released, shared, evicted and copied. Ranks of a
  // worker have equal digests after equal calls.
  uint64_t digest() const;

  // Recounts everything: CHECKs each law of blocks and prefixes, given all sequences that hold
  // blocks. For tests and debug builds: walks all blocks and nodes.
  void check(std::span<const SequenceBlocks* const> sequences) const;

 private:
  static constexpr BlockId kNoBlock = -1;
  uint32_t available(size_t c) const { return pools_[c].free_count() + pools_[c].cached_count(); }
  void make_room(size_t c, uint32_t blocks);
  BlockId take_copy(size_t c, BlockId source, std::vector<BlockCopy>& copies);
  void copy(size_t c, BlockId from, BlockId to, std::vector<BlockCopy>& copies);
  Match::Blocks count_blocks_of(NodeId node, size_t c) const;
  void adopt_prefix(SequenceBlocks& empty, NodeId node, uint32_t position,
                    std::vector<BlockCopy>& copies);
  NodeId publish_granules(SequenceBlocks& sequence, std::span<const int32_t> tokens,
                          uint32_t computed, bool end_of_turn, uint64_t time);
  void take_snapshot(NodeId node, const SequenceBlocks& sequence, bool exempt, uint64_t time,
                     std::vector<BlockCopy>& copies);

  const CacheLayout& layout_;
  const BlockCacheOptions options_;
  int32_t fixed_class_ = -1;  // a layout has one at most
  KeyHasher hasher_;
  std::vector<BlockPool> pools_;
  std::unique_ptr<PrefixIndex> index_;
  CacheStats stats_;
  uint64_t digest_ = 0;
};

}  // namespace trireme
