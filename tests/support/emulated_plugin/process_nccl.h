// A NCCL between processes of one host whose GPUs are emulated: each rank is a process with a GPU
// of its own, and what the ranks of a communicator exchange goes through memory that they share.
// Behind the same table of functions as the real one, and not over when a call returns, as that may
// be: what tests/comm/nccl/fake_nccl.h is for threads. A call that does not fit the others' ends
// the process with a message.
#pragma once

#include "comm/nccl/nccl_api.h"

namespace trireme::test {

// For streams that run by themselves (emulator.h): a collective stands on its stream until all
// ranks have come to it.
NcclApi process_nccl();

}  // namespace trireme::test
