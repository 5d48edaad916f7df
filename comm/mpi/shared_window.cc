#include "comm/mpi/shared_window.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "comm/mpi/mpi_call.h"

namespace trireme {
namespace {

class File {
 public:
  explicit File(int descriptor = -1) : descriptor_(descriptor) {}
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int get() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

// A name nobody else has, in the abstract namespace of local sockets: it is no file, and it ends
// with the process that listens. On another host it leads nowhere. Empty: there is none.
struct Name {
  std::array<char, 40> text{};
};

Name random_name() {
  uint64_t random[2] = {};
  Name name;
  if (getrandom(random, sizeof random, 0) == ssize_t(sizeof random))
    fmt::format_to_n(name.text.data(), name.text.size() - 1, "trireme-{:016x}{:08x}", random[0],
                     uint32_t(random[1]));
  return name;
}

// Calls bind or connect with the name.
template <class Call>
bool at_address(const Name& name, Call call) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strnlen(name.text.data(), name.text.size());
  std::memcpy(address.sun_path + 1, name.text.data(), length);  // sun_path[0] is 0: abstract
  return length > 0 && call(reinterpret_cast<const sockaddr*>(&address),
                            socklen_t(offsetof(sockaddr_un, sun_path) + 1 + length)) == 0;
}

File new_socket() { return File(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

File listen_at(const Name& name, int backlog) {
  File file = new_socket();
  const bool bound = file.open() && at_address(name, [&](const sockaddr* address, socklen_t bytes) {
                       return bind(file.get(), address, bytes);
                     });
  return bound && listen(file.get(), backlog) == 0 ? std::move(file) : File();
}

File connect_to(const Name& name) {
  File file = new_socket();
  const bool connected =
      file.open() && at_address(name, [&](const sockaddr* address, socklen_t bytes) {
        return connect(file.get(), address, bytes);
      });
  return connected ? std::move(file) : File();
}

// The message that carries a file descriptor: one byte, and the descriptor beside it.
struct Parcel {
  char byte = 0;
  iovec payload{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  Parcel() {
    message.msg_iov = &payload;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
};

bool send_file(int to, const File& file) {
  Parcel parcel;
  cmsghdr* header = CMSG_FIRSTHDR(&parcel.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int descriptor = file.get();
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return sendmsg(to, &parcel.message, MSG_NOSIGNAL) == 1;
}

File receive_file(int from) {
  Parcel parcel;
  if (recvmsg(from, &parcel.message, MSG_CMSG_CLOEXEC) != 1) return File();
  const cmsghdr* header = CMSG_FIRSTHDR(&parcel.message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return File();
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return File(descriptor);
}

// Memory without a name. posix_fallocate takes it now: where memory is short, the process would
// otherwise be killed when it first writes there.
File new_memory(size_t bytes) {
  File file(memfd_create("trireme-window", MFD_CLOEXEC));
  return file.open() && posix_fallocate(file.get(), 0, off_t(bytes)) == 0 ? std::move(file)
                                                                          : File();
}

void unmap(void* data, size_t bytes) { CHECK(munmap(data, bytes) == 0); }

Buffer map(const File& file, size_t bytes) {
  if (!file.open()) return {};
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  return data == MAP_FAILED ? Buffer() : Buffer(data, bytes, unmap);
}

// Whether every rank says yes. Every rank calls it.
Result<bool> all_say(bool yes, MPI_Comm comm) {
  int everybody = yes ? 1 : 0;
  Status status =
      mpi_status(MPI_Allreduce(MPI_IN_PLACE, &everybody, 1, MPI_INT, MPI_MIN, comm), "agreeing");
  if (!status.ok()) return status;
  return everybody != 0;
}

}  // namespace

Result<Buffer> make_shared_window(MPI_Comm comm, size_t bytes) {
  int rank = 0, size = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  Name name;
  File memory, socket;
  if (rank == 0) {
    name = random_name();
    memory = new_memory(bytes);
    if (memory.open()) socket = listen_at(name, size);
    if (!socket.open()) name = Name();
  }
  Status status =
      mpi_status(MPI_Bcast(name.text.data(), int(name.text.size()), MPI_CHAR, 0, comm), "agreeing");
  if (!status.ok()) return status;
  if (rank != 0) socket = connect_to(name);
  Result<bool> connected = all_say(socket.open(), comm);
  if (!connected.ok()) return connected.status();
  if (!*connected) return Buffer();

  // All others stand in the queue of rank 0's socket, so accept does not wait.
  bool sent = true;
  for (int peer = 1; rank == 0 && peer < size; ++peer) {
    const File connection(accept(socket.get(), nullptr, nullptr));
    sent = connection.open() && send_file(connection.get(), memory) && sent;
  }
  if (rank != 0) memory = receive_file(socket.get());
  Buffer window = map(memory, bytes);
  Result<bool> mapped = all_say(sent && window.data() != nullptr, comm);
  if (!mapped.ok()) return mapped.status();
  if (!*mapped) return Buffer();
  return window;
}

}  // namespace trireme
