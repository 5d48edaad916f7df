// A piece of memory that all ranks of an MPI communicator map. It has no name anywhere, so a job
// that is killed at any moment leaves nothing behind.
#pragma once

#include <cstddef>

#include <mpi.h>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

// All ranks of `comm` call it with the same size. Zeroed; released by each rank for itself. Empty
// (data() is nullptr) on every rank when the ranks cannot share memory: they are on several hosts
// or in containers apart, or memory is short. Whether they can is found out by trying, not from
// host names, which containers make unreliable.
Result<Buffer> make_shared_window(MPI_Comm comm, size_t bytes);

}  // namespace trireme
