#include "runtime/engine/cache_traffic.h"

#include <algorithm>

namespace trireme {
namespace {

// Parts are cut so that a block's share of one is worth a copy, and are no more than overlap needs.
constexpr uint64_t kPartBytesLeast = uint64_t{128} << 10;
constexpr uint64_t kPartsMax = 8;

// Where the bytes of the next sublayer of the same class begin, or the block ends.
uint64_t end_of(const CacheLayout& layout, const Slot& slot) {
  uint64_t end = layout.classes[static_cast<size_t>(slot.slot_class)].block_bytes;
  for (const Slot& other : layout.slots) {
    if (other.slot_class == slot.slot_class && other.offset > slot.offset)
      end = std::min(end, other.offset);
  }
  return end;
}

}  // namespace

CacheTraffic::~CacheTraffic() {
  if (queue_ != nullptr) (void)queue_->synchronize();  // the pages end here
}

Result<std::unique_ptr<CacheTraffic>> CacheTraffic::make(Device& device, const BlockStore& store,
                                                         const CacheLayout& layout,
                                                         uint64_t pinned_bytes) {
  std::unique_ptr<CacheTraffic> made(new CacheTraffic());
  made->device_ = &device;
  made->queue_ = device.copy_queue();
  made->store_ = &store;
  made->classes_ = layout.classes.size();
  if (made->queue_ != nullptr) {
    Result<HostPages> pages = HostPages::make(device, pinned_bytes);
    if (!pages.ok()) return pages.status();
    made->pages_ = pages.take();
  }
  made->cut_into_parts(layout);
  return made;
}

// Sublayers in their order: each part has some of them, and so of a block of each class the bytes
// that are theirs, which lie together.
void CacheTraffic::cut_into_parts(const CacheLayout& layout) {
  uint64_t all = 0;
  for (const SlotClass& c : layout.classes) all += c.block_bytes;
  const uint64_t parts = std::clamp<uint64_t>(all / kPartBytesLeast, 1, kPartsMax);
  std::vector<uint64_t> done(classes_, 0);  // of a block of each class: of the sublayers before
  begins_.push_back(done);
  uint64_t before = 0;  // of all classes
  for (const Slot& slot : layout.slots) {
    if (slot.slot_class >= 0) {
      if (before * parts >= all * begins_.size()) begins_.push_back(done);
      const auto c = static_cast<size_t>(slot.slot_class);
      const uint64_t end = end_of(layout, slot);
      before += end - done[c];
      done[c] = end;
    }
    part_of_.push_back(begins_.size() - 1);
  }
  begins_.push_back(done);
}

template <class Visit>
void CacheTraffic::for_each_block(const SequenceBlocks& blocks, const Visit& visit) const {
  for (size_t c = 0; c < classes_; ++c) {
    for (const BlockId id : blocks.table(c).ids) visit(c, store_->block(c, id));
  }
}

uint64_t CacheTraffic::bytes_of(const SequenceBlocks& blocks) const {
  uint64_t sum = 0;
  for_each_block(blocks, [&](size_t c, std::byte*) { sum += store_->block_stride(c); });
  return sum;
}

PagedBytes CacheTraffic::save(const SequenceBlocks& blocks) {
  PagedBytes bytes = pages_.take(bytes_of(blocks));
  note(true, bytes, blocks);
  return bytes;
}

void CacheTraffic::restore(PagedBytes bytes, const SequenceBlocks& blocks) {
  CHECK(bytes.bytes == bytes_of(blocks));
  note(false, bytes, blocks);
  std::vector<Buffer> own = pages_.give_back(std::move(bytes));
  if (queue_ != nullptr) noted_.back().own = std::move(own);
}

void CacheTraffic::forget(PagedBytes bytes) {
  if (!bytes.own.empty()) start();  // what was noted may be about to write there
  pages_.give_back(std::move(bytes));
}

void CacheTraffic::note(bool out, const PagedBytes& bytes, const SequenceBlocks& blocks) {
  Move move;
  move.out = out;
  move.pages = bytes.pages;
  for_each_block(blocks, [&](size_t c, std::byte* block) { move.blocks.emplace_back(c, block); });
  if (queue_ != nullptr) {
    noted_.push_back(std::move(move));
    return;
  }
  for (size_t part = 0; part + 1 < begins_.size(); ++part) queue_part(move, part);
  CHECK(device_->synchronize().ok());
}

void CacheTraffic::queue_part(const Move& move, size_t part) {
  uint64_t at = 0;  // of the block, in the move's bytes
  for (const auto& [c, block] : move.blocks) {
    const uint64_t first = begins_[part][c], count = begins_[part + 1][c] - first;
    HostPages::for_each_part(move.pages, at + first, count,
                             [&, memory = block](std::byte* host, uint64_t offset, uint64_t bytes) {
                               copy(move.out, memory + first + offset, host, bytes);
                             });
    at += store_->block_stride(c);
  }
}

void CacheTraffic::copy(bool out, std::byte* block, std::byte* host, uint64_t bytes) {
  std::byte* to = out ? host : block;
  const std::byte* from = out ? block : host;
  if (queue_ != nullptr) {
    queue_->copy(to, from, bytes);
  } else {
    device_->copy(to, from, bytes);
  }
}

void CacheTraffic::start() {
  if (noted_.empty()) return;
  settle_started();
  queue_->follow_ops();
  for (size_t part = 0; part + 1 < begins_.size(); ++part) {
    for (const Move& move : noted_) queue_part(move, part);
    marks_.push_back(queue_->mark());
  }
  noted_.clear();
}

void CacheTraffic::before(uint32_t sublayer) {
  CHECK(noted_.empty());
  const size_t wanted = std::min(marks_.size(), part_of_[sublayer] + 1);
  if (wanted <= followed_) return;
  queue_->ops_follow(marks_[wanted - 1]);
  followed_ = wanted;
}

void CacheTraffic::settle() {
  start();
  settle_started();
}

void CacheTraffic::settle_started() {
  if (followed_ < marks_.size()) queue_->ops_follow(marks_.back());
  marks_.clear();
  followed_ = 0;
}

}  // namespace trireme
