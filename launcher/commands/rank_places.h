// Where the ranks of a worker run.
#pragma once

#include <vector>

#include "launcher/world.h"
#include "runtime/gateway/admin/state.h"

namespace trireme {

// By rank. Every rank calls it. REQUIRES: the mesh has been chosen.
Result<std::vector<RankPlace>> gather_places(RankWorld& world);

}  // namespace trireme
