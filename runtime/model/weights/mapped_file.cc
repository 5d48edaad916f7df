#include "runtime/model/weights/mapped_file.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/check.h"

namespace trireme {
namespace {

// madvise of the pages from `first` up to `last`, in bytes. A hint: any answer is fine.
void advise(uintptr_t first, uintptr_t last, int advice) {
  if (first < last) (void)madvise(reinterpret_cast<void*>(first), last - first, advice);
}

uintptr_t page_bytes() {
  const long bytes = sysconf(_SC_PAGESIZE);
  return bytes > 0 ? static_cast<uintptr_t>(bytes) : 4096;
}

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) CHECK(munmap(const_cast<std::byte*>(data_), size_) == 0);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; regular files ignore it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const std::string why = fmt::format("{}: cannot open: {}", path, std::strerror(errno));
    return errno == ENOENT ? not_found(why) : invalid_argument(why);
  }
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return invalid_argument(fmt::format("{}: not a regular file", path));
  }
  MappedFile file;
  if (status.st_size > 0) {
    file.size_ = static_cast<size_t>(status.st_size);
    void* data = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      file.size_ = 0;
      ::close(fd);
      return resource_exhausted(
          fmt::format("{}: cannot map {} bytes: {}", path, status.st_size, std::strerror(error)));
    }
    file.data_ = static_cast<const std::byte*>(data);
  }
  ::close(fd);
  return file;
}

void will_need(std::span<const std::byte> range) {
  const uintptr_t page = page_bytes();
  const auto first = reinterpret_cast<uintptr_t>(range.data());
  advise(first / page * page, first + range.size(), MADV_WILLNEED);
}

void done_with(std::span<const std::byte> range) {
  const uintptr_t page = page_bytes();
  const auto first = reinterpret_cast<uintptr_t>(range.data());
  advise((first + page - 1) / page * page, (first + range.size()) / page * page, MADV_DONTNEED);
}

}  // namespace trireme
