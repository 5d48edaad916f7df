#include "runtime/engine/host_pages.h"

namespace trireme {

Result<HostPages> HostPages::make(Device& device, uint64_t pinned_bytes) {
  HostPages made;
  const uint64_t count = pinned_bytes / kPageBytes;
  if (count == 0) return made;
  Result<Buffer> arena = device.allocate_pinned(count * kPageBytes);
  if (!arena.ok()) {
    return Status(arena.status().code(),
                  std::string(arena.status().message()) + "; lower engine.swap_space");
  }
  made.arena_ = arena.take();
  for (uint64_t i = count; i-- > 0;)
    made.free_.push_back(static_cast<std::byte*>(made.arena_.data()) + i * kPageBytes);
  return made;
}

PagedBytes HostPages::take(uint64_t bytes) {
  PagedBytes taken;
  taken.bytes = bytes;
  for (uint64_t i = 0; i * kPageBytes < bytes; ++i) {
    if (free_.empty()) {
      taken.own.push_back(allocate_host(kPageBytes));
      taken.pages.push_back(static_cast<std::byte*>(taken.own.back().data()));
    } else {
      taken.pages.push_back(free_.back());
      free_.pop_back();
    }
  }
  return taken;
}

std::vector<Buffer> HostPages::give_back(PagedBytes bytes) {
  const auto owned = [&](const std::byte* page) {
    for (const Buffer& buffer : bytes.own) {
      if (buffer.data() == page) return true;
    }
    return false;
  };
  for (std::byte* page : bytes.pages) {
    if (!owned(page)) free_.push_back(page);
  }
  return std::move(bytes.own);
}

}  // namespace trireme
