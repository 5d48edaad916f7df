// The ranks of a worker that do not lead: they do what the leader says, in order, and check after
// each step's blocks that they hold what the leader holds.
#pragma once

#include "runtime/engine/step_runner.h"

namespace trireme {

// Until the leader (rank 0 of `world`) ends the worker: ok. Not ok: a rank is gone, or this one has
// come apart from the leader; the worker can no longer serve. The thread that owns the rank's
// communicators calls it.
Status follow(StepRunner& runner, Communicator& world, const Groups& groups);

}  // namespace trireme
