#include "kernels/cuda/emulator/memory.h"

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include <sys/mman.h>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/emulator.h"

namespace trireme::emulator {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kGuarded = false;  // by red zones
#else
constexpr bool kGuarded = true;  // by page protection
#endif
constexpr size_t kRegionBytes = size_t{16} << 30;  // of addresses; memory is taken when touched
constexpr size_t kAlign = 256;

// Allocations by their first byte.
using Ranges = std::map<std::byte*, size_t>;

bool inside(const Ranges& ranges, const void* pointer) {
  auto* p = static_cast<std::byte*>(const_cast<void*>(pointer));
  auto after = ranges.upper_bound(p);
  if (after == ranges.begin()) return false;
  const auto& [first, bytes] = *std::prev(after);
  return p < first + bytes;
}

class Memory {
 public:
  void* allocate(size_t bytes) {
    const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
    const std::scoped_lock lock(mutex_);
    if (used_ + size > total_) return nullptr;
    std::byte* p =
        kGuarded ? place(size) : static_cast<std::byte*>(std::aligned_alloc(kAlign, size));
    if (p == nullptr) return nullptr;
    device_[p] = size;
    used_ += size;
    open();
    std::memset(p, 0xff, size);
    close();
    return p;
  }

  bool free(void* pointer) {
    const std::scoped_lock lock(mutex_);
    const auto found = device_.find(static_cast<std::byte*>(pointer));
    if (found == device_.end()) return false;
    used_ -= found->second;
    if (!kGuarded) std::free(pointer);
    device_.erase(found);
    return true;
  }

  void* allocate_pinned(size_t bytes) {
    const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
    auto* p = static_cast<std::byte*>(std::aligned_alloc(kAlign, size));
    const std::scoped_lock lock(mutex_);
    if (p != nullptr) pinned_[p] = size;
    return p;
  }
  bool free_pinned(void* pointer) {
    const std::scoped_lock lock(mutex_);
    if (pinned_.erase(static_cast<std::byte*>(pointer)) == 0) return false;
    std::free(pointer);
    return true;
  }

  bool is_device(const void* p) {
    const std::scoped_lock lock(mutex_);
    return inside(device_, p);
  }
  bool is_pinned(const void* p) {
    const std::scoped_lock lock(mutex_);
    return inside(pinned_, p);
  }
  size_t used() {
    const std::scoped_lock lock(mutex_);
    return used_;
  }
  size_t total() {
    const std::scoped_lock lock(mutex_);
    return total_;
  }
  void set_total(size_t bytes) {
    const std::scoped_lock lock(mutex_);
    total_ = bytes;
  }

  void touch() {
    const std::scoped_lock lock(mutex_);
    open();
  }
  void leave() {
    const std::scoped_lock lock(mutex_);
    close();
  }

 private:
  // The first gap that is large enough.
  std::byte* place(size_t size) {
    if (region_ == nullptr) {
      void* region = mmap(nullptr, kRegionBytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      CHECK(region != MAP_FAILED) << "no addresses for the memory of the emulated device";
      region_ = static_cast<std::byte*>(region);
    }
    std::byte* at = region_;
    for (const auto& [first, bytes] : device_) {
      if (static_cast<size_t>(first - at) >= size) break;
      at = first + bytes;
    }
    if (at + size > region_ + kRegionBytes) return nullptr;
    const auto end = static_cast<size_t>(at + size - region_);
    if (end > committed_) {
      committed_ = (end + (size_t{1} << 20) - 1) >> 20 << 20;
      if (open_ > 0) protect(PROT_READ | PROT_WRITE);
    }
    return at;
  }

  void open() {
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--open_ == 0) protect(PROT_NONE);
  }
  void protect(int how) {
    if (kGuarded && committed_ > 0) CHECK(mprotect(region_, committed_, how) == 0);
  }

  std::mutex mutex_;
  Ranges device_, pinned_;
  size_t used_ = 0;
  size_t total_ = kRegionBytes / 2;
  std::byte* region_ = nullptr;
  size_t committed_ = 0;
  int open_ = 0;
};

Memory& memory() {
  static auto* memory = new Memory;  // outlives every static object that holds a buffer
  return *memory;
}

}  // namespace

void* allocate_device(size_t bytes) { return memory().allocate(bytes); }
bool free_device(void* pointer) { return memory().free(pointer); }
bool is_device(const void* pointer) { return memory().is_device(pointer); }
void* allocate_pinned(size_t bytes) { return memory().allocate_pinned(bytes); }
bool free_pinned(void* pointer) { return memory().free_pinned(pointer); }
bool is_pinned(const void* pointer) { return memory().is_pinned(pointer); }
size_t device_bytes_used() { return memory().used(); }
size_t device_bytes_total() { return memory().total(); }
void set_device_bytes(size_t bytes) { memory().set_total(bytes); }

Touch::Touch() { memory().touch(); }
Touch::~Touch() { memory().leave(); }

}  // namespace trireme::emulator
