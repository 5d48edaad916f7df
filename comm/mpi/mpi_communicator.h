// A Communicator over an MPI communicator. Made by MpiWorld and by split().
#pragma once

#include <memory>

#include <mpi.h>

#include "comm/communicator.h"
#include "comm/mpi/mpi_world.h"
#include "comm/mpi/outbox.h"

namespace trireme {

// Every rank of `comm` calls it. The communicator owns `comm`. `outboxes` are
// all those of the process, and live until MPI_Finalize has returned.
Result<std::unique_ptr<Communicator>> make_mpi_communicator(MPI_Comm comm,
                                                            const MpiOptions& options,
                                                            Outboxes* outboxes);

}  // namespace trireme
