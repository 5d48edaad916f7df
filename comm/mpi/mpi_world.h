// MPI as the communicator between processes.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace trireme {

// MPI_Init to MPI_Finalize of this process; at most one, made by the launcher. Errors of later
// calls come back as Status (MPI_ERRORS_RETURN).
class MpiWorld {
 public:
  static Result<std::unique_ptr<MpiWorld>> init();
  virtual ~MpiWorld() = default;  // finalizes; REQUIRES: the communicators made from it are gone
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int host_rank() const = 0;  // among the ranks of this host
  virtual int host_size() const = 0;
  virtual Result<std::unique_ptr<Communicator>>
  communicator() = 0;  // all ranks; every rank calls it

  // Ends the whole job now with this exit code: MPI_Abort. Does not return.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

}  // namespace trireme
