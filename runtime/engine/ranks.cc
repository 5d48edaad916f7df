#include "runtime/engine/ranks.h"

#include <vector>

#include <fmt/format.h>

#include "comm/wire/messenger.h"

namespace trireme {

Status meet(Communicator& world, uint64_t digest) {
  if (world.size() == 1) return {};
  std::vector<uint64_t> all(static_cast<size_t>(world.size()));
  const Status met = world.all_gather(tensor(&digest, 1, 2, DType::kI32),
                                      tensor(all.data(), world.size(), 2, DType::kI32));
  if (!met.ok()) return met;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] != all[0])
      return data_loss(fmt::format("the cache tables of rank {} differ from the leader's", rank));
  }
  return {};
}

Status tell_all(Communicator& world, const StepMessage& message) {
  if (world.size() == 1) return {};
  const std::vector<std::byte> bytes = write_step_message(message);
  for (int rank = 1; rank < world.size(); ++rank) {
    if (Status s = send_message(world, rank, bytes); !s.ok()) return s;
  }
  return {};
}

}  // namespace trireme
