#include "comm/nccl/way.h"

#include <array>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "comm/nccl/nccl_api.h"

namespace trireme {
namespace {

// A RankGpu on its way: the same bytes on every machine that runs one program.
struct Card {
  std::array<char, 64> host{};
  std::array<char, 64> gpu{};
  int32_t nccl_version = 0;
};

void write(const std::string& text, std::array<char, 64>& to) {
  CHECK(text.size() < to.size()) << text;
  std::memcpy(to.data(), text.data(), text.size());
}

std::string read(const std::array<char, 64>& from) {
  return {from.data(), strnlen(from.data(), from.size())};
}

DeviceWayChoice staged(std::string because) {
  return {DeviceWay::kStaged,
          fmt::format("tensors of the GPUs go through host memory: {}", because)};
}

}  // namespace

DeviceWayChoice choose_device_way(std::span<const RankGpu> ranks) {
  if (ranks.size() <= 1) return staged("there is one rank");
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].nccl_version == 0) return staged(fmt::format("rank {} has no NCCL", r));
  }
  for (size_t r = 1; r < ranks.size(); ++r) {
    if (ranks[r].nccl_version != ranks[0].nccl_version) {
      return staged(fmt::format("rank 0 has NCCL {} and rank {} has {}",
                                nccl_version_text(ranks[0].nccl_version), r,
                                nccl_version_text(ranks[r].nccl_version)));
    }
    for (size_t other = 0; other < r; ++other) {
      if (ranks[r].host == ranks[other].host && ranks[r].gpu == ranks[other].gpu)
        return staged(fmt::format("ranks {} and {} share the GPU {}, which NCCL does not support",
                                  other, r, ranks[r].gpu));
    }
  }
  return {DeviceWay::kNccl,
          fmt::format("tensors of the GPUs go over NCCL {}: each of the {} ranks has its own GPU",
                      nccl_version_text(ranks[0].nccl_version), ranks.size())};
}

Result<DeviceWayChoice> agree_on_device_way(Communicator& control, const RankGpu& mine) {
  Card card;
  write(mine.host, card.host);
  write(mine.gpu, card.gpu);
  card.nccl_version = mine.nccl_version;
  std::vector<Card> cards(static_cast<size_t>(control.size()));
  constexpr auto kBytes = static_cast<int64_t>(sizeof(Card));
  const Status gathered =
      control.all_gather(ConstTensorView(&card, 1, kBytes, DType::kI8),
                         tensor(cards.data(), control.size(), kBytes, DType::kI8));
  if (!gathered.ok()) return gathered;
  std::vector<RankGpu> ranks;
  for (const Card& c : cards) ranks.push_back({read(c.host), read(c.gpu), c.nccl_version});
  return choose_device_way(ranks);
}

}  // namespace trireme
