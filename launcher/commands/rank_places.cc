#include "launcher/commands/rank_places.h"

#include <array>
#include <cstring>

#include <unistd.h>

namespace trireme {

Result<std::vector<RankPlace>> gather_places(RankWorld& world) {
  struct Told {
    int64_t pid = 0;
    std::array<char, 120> host{};  // ended by a NUL; cut off where it is longer
  };
  static_assert(sizeof(Told) % 4 == 0);
  constexpr int64_t kWords = sizeof(Told) / 4;
  Told mine;
  mine.pid = getpid();
  if (gethostname(mine.host.data(), mine.host.size() - 1) != 0) mine.host = {"?"};
  std::vector<Told> all(static_cast<size_t>(world.size), mine);
  if (world.size > 1) {
    const Status gathered = world.world->all_gather(
        tensor(&mine, 1, kWords, DType::kI32), tensor(all.data(), world.size, kWords, DType::kI32));
    if (!gathered.ok()) return gathered;
  }
  std::vector<RankPlace> places;
  for (int rank = 0; rank < world.size; ++rank) {
    const Told& place = all[static_cast<size_t>(rank)];
    const Coordinate at = world.mesh.coordinate(rank);
    places.push_back({place.host.data(), place.pid, at.stage, at.shard});
  }
  return places;
}

}  // namespace trireme
