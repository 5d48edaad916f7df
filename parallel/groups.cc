#include "parallel/groups.h"

#include <fmt/format.h>

namespace trireme {

Result<Groups> make_groups(Communicator& world, Mesh mesh) {
  if (world.size() != mesh.size()) {
    return invalid_argument(
        fmt::format("the mesh needs {} ranks (tensor_parallel_size {} x pipeline_parallel_size "
                    "{}), the world has {}",
                    mesh.size(), mesh.shards, mesh.stages, world.size()));
  }
  Groups groups;
  groups.mesh = mesh;
  groups.here = mesh.coordinate(world.rank());
  auto shards = world.split(groups.here.stage, groups.here.shard);
  if (!shards.ok()) return shards.status();
  auto stages = world.split(groups.here.shard, groups.here.stage);
  if (!stages.ok()) return stages.status();
  groups.shards = std::make_unique<CountingCommunicator>(shards.take());
  groups.stages = std::make_unique<CountingCommunicator>(stages.take());
  return groups;
}

}  // namespace trireme
