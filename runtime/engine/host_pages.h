// Host memory in pages, for the states of sequences that have left a device: what is given back
// leaves no holes that nothing fits in.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/device.h"

namespace trireme {

// So many bytes on pages, one page after the other.
struct PagedBytes {
  std::vector<std::byte*> pages;
  std::vector<Buffer> own;  // of the pages, those that no other bytes will have
  uint64_t bytes = 0;
};

class HostPages {
 public:
  static constexpr uint64_t kPageBytes = uint64_t{256} << 10;

  HostPages() = default;
  // As many whole pages as `pinned_bytes` hold are pinned now (Device::allocate_pinned); bytes that
  // find none of them free get memory of their own, from which copies are slower.
  static Result<HostPages> make(Device& device, uint64_t pinned_bytes);

  PagedBytes take(uint64_t bytes);
  // What is left: memory of their own, for as long as the caller keeps it.
  std::vector<Buffer> give_back(PagedBytes bytes);
  size_t pinned_free() const { return free_.size(); }

  // Calls visit(memory, offset, bytes) for the parts of [first, first + count) that lie on one page
  // each, `offset` from `first`.
  template <class Visit>
  static void for_each_part(std::span<std::byte* const> pages, uint64_t first, uint64_t count,
                            const Visit& visit) {
    for (uint64_t done = 0; done < count;) {
      const uint64_t at = (first + done) % kPageBytes;
      const uint64_t part = count - done < kPageBytes - at ? count - done : kPageBytes - at;
      visit(pages[(first + done) / kPageBytes] + at, done, part);
      done += part;
    }
  }

 private:
  Buffer arena_;
  std::vector<std::byte*> free_;
};

}  // namespace trireme
