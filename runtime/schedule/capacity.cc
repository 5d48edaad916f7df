#include "runtime/schedule/capacity.h"

#include <string>

#include <fmt/format.h>

namespace trireme {
namespace {

std::string class_name(const SlotClass& c) {
  if (c.growth == StateSpec::Growth::kFixed) return "recurrent states";
  if (c.window_tokens == 0) return "full attention";
  return fmt::format("attention over a window of {} tokens", c.window_tokens);
}

// "12 blocks (192 tokens, 49152 bytes)"
std::string amount(const SlotClass& c, uint64_t blocks) {
  if (c.growth == StateSpec::Growth::kFixed)
    return fmt::format("{} sequences ({} bytes)", blocks, blocks * c.block_bytes);
  return fmt::format("{} blocks ({} tokens, {} bytes)", blocks, blocks * c.block_tokens,
                     blocks * c.block_bytes);
}

}  // namespace

Status can_ever_fit(const CacheLayout& layout, std::span<const uint32_t> total,
                    std::span<const uint32_t> peak) {
  CHECK(total.size() == layout.classes.size() && peak.size() == total.size());
  size_t worst = peak.size();
  const auto exceeds_more = [&](size_t a, size_t b) {
    return uint64_t{peak[a]} * total[b] > uint64_t{peak[b]} * total[a];
  };
  for (size_t c = 0; c < peak.size(); ++c) {
    if (peak[c] > total[c] && (worst == peak.size() || exceeds_more(c, worst))) worst = c;
  }
  if (worst == peak.size()) return Status::ok_status();
  const SlotClass& c = layout.classes[worst];
  const bool fixed = c.growth == StateSpec::Growth::kFixed;
  return invalid_argument(
      fmt::format("the request may hold {} of the cache for {}, and there are {}: {}, or raise "
                  "cpu_kv_cache_space, on a GPU gpu_memory_utilization",
                  amount(c, peak[worst]), class_name(c), amount(c, total[worst]),
                  fixed ? "lower n" : "shorten the prompt, lower max_tokens or n"));
}

}  // namespace trireme
