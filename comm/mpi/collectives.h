// The collectives of an MpiCommunicator: over memory that the ranks share (one host), or over
// messages (any hosts). Both add in rank order, so both give the same bits.
//
// REQUIRES, everywhere: size >= 2, tensors on the host, all ranks make the same calls.
#pragma once

#include <memory>

#include <mpi.h>

#include "comm/mpi/outbox.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual Status all_reduce_sum(const TensorView& x) = 0;
  virtual Status all_gather(const ConstTensorView& mine, const TensorView& all) = 0;
  virtual Status broadcast(const TensorView& x, int root) = 0;
  virtual Status barrier() = 0;
};

// Every rank of `comm` calls it. nullptr on every rank when they cannot share memory. `outboxes`
// are polled while the rank waits, so that messages under way get on.
Result<std::unique_ptr<Collectives>> make_shared_collectives(MPI_Comm comm, Outboxes* outboxes);

std::unique_ptr<Collectives> make_message_collectives(MPI_Comm comm);

}  // namespace trireme
