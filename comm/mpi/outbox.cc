#include "comm/mpi/outbox.h"

#include <algorithm>

#include <fmt/format.h>

#include "comm/mpi/mpi_call.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

constexpr int64_t kUnderWayBytesMax = int64_t{64} << 20;
constexpr size_t kSpareMessages = 8;

}  // namespace

// The probe is for MPI's own work: connections to be made, acknowledgements to be sent.
WaitWord::Work Outboxes::poll() {
  bool under_way = false;
  for (Outbox* outbox : open_) under_way |= outbox->poll();
  int found = 0;
  MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &found, MPI_STATUS_IGNORE);
  return under_way ? WaitWord::Work::kUnderWay : WaitWord::Work::kMayCome;
}

Outbox::Outbox(MPI_Comm comm, int tag, Outboxes* all) : comm_(comm), tag_(tag), all_(*all) {
  all_.open_.push_back(this);
}

Outbox::~Outbox() {
  (void)poll();
  all_.leftovers_.splice(all_.leftovers_.end(), under_way_);
  std::erase(all_.open_, this);
}

Status Outbox::send(const ConstTensorView& x, int to) {
  const int64_t bytes = tensor_bytes(x);
  const std::string what = fmt::format("send to rank {}", to);
  (void)poll();
  while (bytes_under_way_ > 0 && bytes_under_way_ + bytes > kUnderWayBytesMax) {
    // The oldest message will make room; its last piece is the last to go.
    if (Status status = mpi_wait(&under_way_.front().requests.back(), what); !status.ok())
      return status;
    (void)poll();
  }
  if (error_ != MPI_SUCCESS) return mpi_status(error_, what);

  std::list<OutgoingMessage> message;
  if (spare_.empty()) {
    message.emplace_back();
  } else {
    message.splice(message.begin(), spare_, spare_.begin());
  }
  OutgoingMessage& m = message.front();
  m.bytes.resize(size_t(bytes));
  copy_bytes_out(x, 0, bytes, m.bytes.data());
  m.requests.clear();
  int64_t first = 0;
  do {
    const int64_t n = std::min(kMessagePieceBytes, bytes - first);
    m.requests.push_back(MPI_REQUEST_NULL);
    // Synchronous: complete means received. A plain MPI_Isend of a short message is complete while
    // it still waits inside MPI for a connection, and then nobody would know to move it on.
    const int code =
        MPI_Issend(m.bytes.data() + first, int(n), MPI_BYTE, to, tag_, comm_, &m.requests.back());
    if (code != MPI_SUCCESS) return mpi_status(code, what);
    first += n;
  } while (first < bytes);
  bytes_under_way_ += bytes;
  under_way_.splice(under_way_.end(), message);
  return {};
}

bool Outbox::poll() {
  for (auto m = under_way_.begin(); m != under_way_.end();) {
    int done = 0;
    const int code =
        MPI_Testall(int(m->requests.size()), m->requests.data(), &done, MPI_STATUSES_IGNORE);
    if (code != MPI_SUCCESS) error_ = code;
    if (code == MPI_SUCCESS && done == 0) {
      ++m;
      continue;
    }
    bytes_under_way_ -= int64_t(m->bytes.size());
    const auto next = std::next(m);
    if (code == MPI_SUCCESS && spare_.size() < kSpareMessages) {
      spare_.splice(spare_.begin(), under_way_, m);
    } else {
      all_.leftovers_.splice(all_.leftovers_.end(), under_way_, m);
    }
    m = next;
  }
  return !under_way_.empty();
}

}  // namespace trireme
