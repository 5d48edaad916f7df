// A Communicator over an MPI communicator. Made by MpiWorld and by split().
#pragma once

#include <list>
#include <memory>

#include <mpi.h>

#include "comm/communicator.h"
#include "comm/mpi/mpi_world.h"
#include "comm/mpi/outbox.h"

namespace trireme {

// Every rank of `comm` calls it. The communicator owns `comm`. `leftovers` takes the messages that
// are still under way when it is destroyed, and lives until MPI_Finalize has returned.
Result<std::unique_ptr<Communicator>> make_mpi_communicator(MPI_Comm comm,
                                                            const MpiOptions& options,
                                                            std::list<OutgoingMessage>* leftovers);

}  // namespace trireme
