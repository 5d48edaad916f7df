// Calls to MPI: their errors as Status, and the one way to wait.
//
// MPI_Wait and MPI_Recv keep a core busy for as long as they take. These test, then yield between
// tests, then sleep between tests for about a hundredth of the time they have waited already (at
// most half a millisecond): an idle rank costs next to nothing, and what it waits for is noticed at
// most one percent late.
#pragma once

#include <string_view>

#include <mpi.h>

#include "kernels/base/status.h"

namespace trireme {

// Ok, or kUnavailable with MPI's own words after `what`.
Status mpi_status(int code, std::string_view what);

// Waits for the request to complete.
Status mpi_wait(MPI_Request* request, std::string_view what);

// Waits for the next message of this kind and takes it for MPI_Imrecv; `bytes` is its length.
Status mpi_next_message(MPI_Comm comm, int from, int tag, MPI_Message* message, int* bytes);

}  // namespace trireme
