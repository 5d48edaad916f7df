#include "comm/mpi/shared_window.h"

#include <array>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "comm/mpi/mpi_call.h"

namespace trireme {
namespace {

// A name nobody else has; what is at its place on another host was not made by us.
struct Name {
  std::array<char, 40> text{};
};

Name random_name() {
  uint64_t random[2] = {};
  Name name;
  if (getrandom(random, sizeof random, 0) == ssize_t(sizeof random))
    fmt::format_to_n(name.text.data(), name.text.size() - 1, "/trireme-{:016x}{:08x}", random[0],
                     uint32_t(random[1]));
  return name;
}

// Maps the object of this name; nullptr when that cannot be. posix_fallocate takes the memory now:
// a full /dev/shm would otherwise kill the process when it first writes there.
std::byte* map(const Name& name, size_t bytes, bool create) {
  if (name.text[0] == 0) return nullptr;
  const int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
  const int file = shm_open(name.text.data(), flags, 0600);
  if (file < 0) return nullptr;
  void* data = MAP_FAILED;
  if (!create || posix_fallocate(file, 0, off_t(bytes)) == 0)
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

void unmap(void* data, size_t bytes) { CHECK(munmap(data, bytes) == 0); }

}  // namespace

Result<Buffer> make_shared_window(MPI_Comm comm, size_t bytes) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  Name name;
  std::byte* data = nullptr;
  if (rank == 0) {
    name = random_name();
    data = map(name, bytes, true);
  }
  const char* what = "agreeing on shared memory";
  Status status =
      mpi_status(MPI_Bcast(name.text.data(), int(name.text.size()), MPI_CHAR, 0, comm), what);
  if (status.ok() && rank != 0) data = map(name, bytes, false);
  Buffer window;
  if (data != nullptr) window = Buffer(data, bytes, unmap);
  int everybody = data != nullptr ? 1 : 0;
  if (status.ok()) {
    status = mpi_status(MPI_Allreduce(MPI_IN_PLACE, &everybody, 1, MPI_INT, MPI_MIN, comm), what);
  }
  if (rank == 0 && name.text[0] != 0) shm_unlink(name.text.data());
  if (!status.ok()) return status;
  if (everybody == 0) return Buffer();
  return window;
}

}  // namespace trireme
