// The groups of ranks that one rank of a mesh belongs to.
#pragma once

#include <memory>

#include "comm/counting_communicator.h"
#include "parallel/mesh.h"

namespace trireme {

struct Groups {
  Mesh mesh;
  Coordinate here;
  std::unique_ptr<CountingCommunicator> shards;  // the ranks of this stage; its rank is here.shard
  std::unique_ptr<CountingCommunicator>
      stages;  // this shard's rank of every stage; its rank is here.stage

  bool first_stage() const { return here.stage == 0; }
  bool last_stage() const { return here.stage == mesh.stages - 1; }
};

// Every rank of `world` calls it. kInvalidArgument where world.size() != mesh.size().
Result<Groups> make_groups(Communicator& world, Mesh mesh);

}  // namespace trireme
