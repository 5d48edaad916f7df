// What the leader of a worker and its followers do together.
#pragma once

#include "comm/communicator.h"
#include "runtime/engine/step_message.h"

namespace trireme {

// All ranks come together and compare digests: ok where all are the same. Every rank calls it.
Status meet(Communicator& world, uint64_t digest);

// The leader's message to everybody else.
Status tell_all(Communicator& world, const StepMessage& message);

}  // namespace trireme
