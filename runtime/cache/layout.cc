#include "runtime/cache/layout.h"

#include <algorithm>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr uint64_t kSlotAlignment = 64;  // one cache line; also enough for CUDA vector loads

uint64_t align_up(uint64_t n) { return (n + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

size_t find_or_add_class(std::vector<SlotClass>& classes, const StateSpec& spec,
                         uint32_t block_tokens) {
  for (size_t i = 0; i < classes.size(); ++i) {
    if (classes[i].growth == spec.growth && classes[i].window_tokens == spec.window_tokens)
      return i;
  }
  const bool fixed = spec.growth == StateSpec::Growth::kFixed;
  classes.push_back({spec.growth, spec.window_tokens, fixed ? 1 : block_tokens, 0});
  return classes.size() - 1;
}

uint32_t ceil_divide(uint32_t a, uint32_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

CacheLayout make_layout(std::span<const StateSpec> sublayers, uint32_t block_tokens) {
  CHECK(block_tokens > 0);
  CacheLayout layout;
  for (const StateSpec& spec : sublayers) {
    if (spec.growth == StateSpec::Growth::kNone) {
      layout.slots.push_back({});
      continue;
    }
    const size_t i = find_or_add_class(layout.classes, spec, block_tokens);
    SlotClass& c = layout.classes[i];
    layout.slots.push_back({static_cast<int32_t>(i), c.block_bytes});
    c.block_bytes += align_up(spec.bytes * c.block_tokens);
  }
  return layout;
}

uint32_t first_readable(const SlotClass& c, uint32_t begin) {
  if (c.window_tokens == 0) return 0;
  const uint32_t reach = c.window_tokens - 1;
  return begin > reach ? begin - reach : 0;
}

uint32_t blocks_needed(const SlotClass& c, uint32_t begin, uint32_t end) {
  if (c.growth == StateSpec::Growth::kFixed) return 1;
  const uint32_t first = first_readable(c, begin) / c.block_tokens;
  const uint32_t last = ceil_divide(end, c.block_tokens);
  return last > first ? last - first : 0;
}

uint32_t blocks_peak(const SlotClass& c, uint32_t tokens_max, uint32_t chunk_max) {
  if (c.growth == StateSpec::Growth::kFixed) return 1;
  const uint32_t whole = ceil_divide(tokens_max, c.block_tokens);
  if (c.window_tokens == 0) return whole;
  // A span of n tokens that begins anywhere in a block touches at most this many blocks.
  const uint64_t span = uint64_t{c.window_tokens} - 1 + std::max<uint32_t>(chunk_max, 1);
  const uint64_t touched = (span + c.block_tokens - 2) / c.block_tokens + 1;
  return static_cast<uint32_t>(std::min<uint64_t>(whole, touched));
}

Result<std::vector<uint32_t>> count_blocks(const CacheLayout& layout, uint64_t bytes,
                                           uint32_t tokens_max, uint32_t chunk_max,
                                           uint32_t sequences_max) {
  uint64_t per_sequence = 0;
  for (const SlotClass& c : layout.classes)
    per_sequence += blocks_peak(c, tokens_max, chunk_max) * c.block_bytes;
  const uint64_t fit =
      per_sequence == 0 ? sequences_max : std::min<uint64_t>(bytes / per_sequence, sequences_max);
  if (fit == 0) {
    return resource_exhausted(
        fmt::format("one sequence of {} tokens needs {} bytes of cache on this rank, the cache has "
                    "{}: lower max_model_len "
                    "or raise cpu_kv_cache_space",
                    tokens_max, per_sequence, bytes));
  }
  std::vector<uint32_t> blocks;
  for (const SlotClass& c : layout.classes) {
    blocks.push_back(static_cast<uint32_t>(fit * blocks_peak(c, tokens_max, chunk_max)));
  }
  return blocks;
}

}  // namespace trireme
