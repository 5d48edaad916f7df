// Messages that send() has accepted and the receivers do not have yet. Each is a copy, so that the
// caller may write its tensor again at once, and two neighbours may both send first.
//
// MPI gets messages on only while the sending process is inside some call to MPI. So a rank that
// waits elsewhere polls Outboxes: all outboxes of the process, since the message that the others
// wait for may have been sent in another group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include <mpi.h>

#include "comm/wait_word.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

// A message is cut into pieces of at most this many bytes, since MPI counts in int. Both sides cut
// in the same places.
constexpr int64_t kMessagePieceBytes = int64_t{1} << 30;

struct OutgoingMessage {
  std::vector<std::byte> bytes;
  std::vector<MPI_Request> requests;  // one for each piece
};

class Outbox;

// All outboxes of a process. Lives until MPI_Finalize has returned.
class Outboxes {
 public:
  // Moves all messages of this process on: those that it sends and, inside MPI, those that arrive.
  WaitWord::Work poll();

 private:
  friend class Outbox;
  std::vector<Outbox*> open_;
  std::list<OutgoingMessage> leftovers_;  // of outboxes that are gone
};

class Outbox {
 public:
  Outbox(MPI_Comm comm, int tag, Outboxes* all);
  ~Outbox();  // what is under way stays so
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  // Copies x and starts to send it. Waits while other messages are under way and x would make them
  // more than 64 MiB.
  Status send(const ConstTensorView& x, int to);

  // Moves messages on and takes back those that were delivered. True while some are under way. An
  // error is told by the next send().
  bool poll();

 private:
  MPI_Comm comm_;
  int tag_;
  Outboxes& all_;
  std::list<OutgoingMessage> under_way_;
  std::list<OutgoingMessage> spare_;  // their memory is used again
  int64_t bytes_under_way_ = 0;
  int error_ = MPI_SUCCESS;
};

}  // namespace trireme
