// Ranks as threads of one process: the communicator that most tests use, and the one of a world of
// one. Each of the returned communicators belongs to one thread.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace trireme {

// A world of `size` ranks. A rank that destroys its communicator while others wait for it, or
// before they call, makes their calls fail with kUnavailable instead of hanging; messages it sent
// before still arrive. REQUIRES: size >= 1.
std::vector<std::unique_ptr<Communicator>> make_in_process_world(int size);

}  // namespace trireme
