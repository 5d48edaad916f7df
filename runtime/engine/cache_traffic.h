// States of sequences on their way between a rank's cache and host memory, beside its steps.
//
// What leaves and what comes back is noted while a step is put together, and copied when it is
// computed: in parts, some layers at a time, on the device's copy queue. The step's ops wait for a
// part just before they come to its first layer, so that copies of later layers run while earlier
// ones compute: before a block's bytes are overwritten by another sequence they have left, and
// before they are read they have arrived. A device without a copy queue copies at once.
//
// Host memory that is given back may be taken again at once: only the copy queue touches it, in
// order.
//
// Who calls it: the executor, from the thread that runs the rank's steps.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "runtime/cache/block_store.h"
#include "runtime/cache/layout.h"
#include "runtime/cache/sequence_blocks.h"
#include "runtime/engine/host_pages.h"
#include "runtime/model/decoder.h"

namespace trireme {

class CacheTraffic final : public CacheGate {
 public:
  ~CacheTraffic() override;
  CacheTraffic(const CacheTraffic&) = delete;
  CacheTraffic& operator=(const CacheTraffic&) = delete;

  // `device` and `store` outlive it. So much host memory is pinned now.
  static Result<std::unique_ptr<CacheTraffic>> make(Device& device, const BlockStore& store,
                                                    const CacheLayout& layout,
                                                    uint64_t pinned_bytes);

  // Whether copies run beside steps: save() and restore() then take no time worth measuring.
  bool aside() const { return queue_ != nullptr; }

  uint64_t bytes_of(const SequenceBlocks& blocks) const;
  // The blocks may be given to somebody else at once.
  PagedBytes save(const SequenceBlocks& blocks);
  void restore(PagedBytes bytes, const SequenceBlocks& blocks);
  void forget(PagedBytes bytes);

  // Queues the copies that were noted, after the ops that are queued now.
  void start();
  // Ops queued from now on may touch the states of this sublayer. REQUIRES: start() came after the
  // last save() or restore().
  void before(uint32_t sublayer) override;
  // start(), and ops queued from now on may touch everything.
  void settle();

 private:
  CacheTraffic() = default;
  struct Move {
    bool out = false;                                   // of the cache
    std::vector<std::pair<size_t, std::byte*>> blocks;  // class and memory
    std::vector<std::byte*> pages;
    std::vector<Buffer> own;  // pages of it that end with the move
  };
  template <class Visit>
  void for_each_block(const SequenceBlocks& blocks, const Visit& visit) const;
  void cut_into_parts(const CacheLayout& layout);
  void note(bool out, const PagedBytes& bytes, const SequenceBlocks& blocks);
  void queue_part(const Move& move, size_t part);
  void copy(bool out, std::byte* block, std::byte* host, uint64_t bytes);
  void settle_started();

  Device* device_ = nullptr;
  CopyQueue* queue_ = nullptr;
  const BlockStore* store_ = nullptr;
  HostPages pages_;
  size_t classes_ = 0;
  std::vector<size_t> part_of_;                // of each sublayer
  std::vector<std::vector<uint64_t>> begins_;  // [part][class], and the ends of the last
  std::vector<Move> noted_;
  std::vector<uint64_t> marks_;  // behind each part of what was started last
  size_t followed_ = 0;          // of them, by ops
};

}  // namespace trireme
