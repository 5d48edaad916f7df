// MPI as the communicator between processes.
//
// A job is one failure domain: Open MPI 4 cannot survive a dead rank, so mpirun ends all ranks when
// one dies, and a rank that meets an error it cannot mend calls abort(). Calls to MPI come from one
// thread at a time (MPI_THREAD_SERIALIZED), which need not be the one that called init(); abort()
// may be called from any thread at any time.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace trireme {

struct MpiOptions {
  // Collectives of ranks that can share memory go through it. Off: through messages, everywhere;
  // the bits are the same.
  bool shared_memory = true;
};

// MPI_Init to MPI_Finalize of this process; at most one, made by the launcher. Errors of later
// calls come back as Status (MPI_ERRORS_RETURN).
class MpiWorld {
 public:
  static Result<std::unique_ptr<MpiWorld>> init(const MpiOptions& options = {});

  // Finalizes, which waits for all ranks to do so. REQUIRES: the communicators made from it are
  // gone.
  virtual ~MpiWorld() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int host_rank() const = 0;  // among the ranks of this host
  virtual int host_size() const = 0;

  // All ranks; every rank calls it.
  virtual Result<std::unique_ptr<Communicator>> communicator() = 0;

  // Ends the whole job now with this exit code: MPI_Abort. Does not return.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

}  // namespace trireme
