// A file mapped for reading: its pages come from the page cache when they are touched, and ranks on
// one host share them. Immutable and thread-safe after open.
//
// A file that somebody truncates while it is mapped ends the process with SIGBUS at the next touch
// of a lost page: replace a checkpoint by writing beside it and renaming, as our writer does.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "kernels/base/status.h"

namespace trireme {

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Errors start with the path. A directory, device or pipe is refused.
  static Result<MappedFile> open(const std::string& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Hints for a range of any mapping, widened (will_need) or narrowed (done_with) to whole pages.
// will_need starts reading ahead; done_with takes the pages out of this process, and a later touch
// brings them back from the page cache. REQUIRES of done_with: a read-only file mapping.
void will_need(std::span<const std::byte> range);
void done_with(std::span<const std::byte> range);

}  // namespace trireme
