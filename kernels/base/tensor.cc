#include "kernels/base/tensor.h"

#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

namespace trireme {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

void release_heap(void* data, size_t /*bytes*/) { std::free(data); }
void release_mapping(void* data, size_t bytes) { CHECK(munmap(data, bytes) == 0); }

}  // namespace

Buffer allocate_host(size_t bytes) {
  if (bytes < 2 * kHugePage) {
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
    void* data = std::aligned_alloc(kAlignment, rounded);
    CHECK(data != nullptr) << "out of memory asking for " << bytes << " bytes";
    std::memset(data, 0, rounded);
    return {data, bytes, release_heap};
  }
  // Zeroed by the kernel page by page as it is touched, so that an arena costs what is used of it.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(data != MAP_FAILED) << "out of memory asking for " << bytes << " bytes";
  (void)madvise(data, bytes, MADV_HUGEPAGE);  // a hint: any answer is fine
  return {data, bytes, release_mapping};
}

}  // namespace trireme
