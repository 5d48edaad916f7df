#include "runtime/schedule/capacity.h"

#include <string>

#include <fmt/format.h>

namespace trireme {
namespace {

std::string describe(const SlotClass& c) {
  if (c.growth == StateSpec::Growth::kFixed) return "recurrent states";
  const std::string rows = fmt::format("blocks of {} tokens", c.block_tokens);
  return c.window_tokens == 0 ? rows : fmt::format("{}, window {}", rows, c.window_tokens);
}

}  // namespace

Status can_ever_fit(const CacheLayout& layout, std::span<const uint32_t> total,
                    std::span<const uint32_t> peak) {
  for (size_t c = 0; c < total.size(); ++c) {
    if (peak[c] <= total[c]) continue;
    const SlotClass& shape = layout.classes[c];
    return invalid_argument(fmt::format(
        "the request needs {} {} at its end ({} bytes a rank), and the cache has {}: lower n or "
        "max_tokens, or raise cpu_kv_cache_space",
        peak[c], describe(shape), peak[c] * shape.block_bytes, total[c]));
  }
  return {};
}

}  // namespace trireme
