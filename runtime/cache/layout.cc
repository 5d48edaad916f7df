#include "runtime/cache/layout.h"

#include <algorithm>
#include <bit>

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

// More blocks than that are only book-keeping: 2^24 blocks of 16 tokens are 268 million tokens.
constexpr uint64_t kBlocksMax = uint64_t{1} << 24;

// a * b / c, where the product may exceed 64 bits. REQUIRES: b <= c, or the result fits.
uint64_t multiply_divide(uint64_t a, uint64_t b, uint64_t c) {
  __extension__ using Wide = unsigned __int128;
  const Wide result = Wide{a} * b / c;
  return result > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(result);
}

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
  const uint32_t last = blocks_before(c, end);
  return last > first ? last - first : 0;
}

uint32_t blocks_peak(const SlotClass& c, uint32_t tokens_max, uint32_t chunk_max) {
  if (c.growth == StateSpec::Growth::kFixed) return 1;
  const uint32_t whole = blocks_before(c, tokens_max);
  if (c.window_tokens == 0) return whole;
  // A span of n tokens that begins anywhere in a block touches at most this many blocks.
  const uint64_t span = uint64_t{c.window_tokens} - 1 + std::max<uint32_t>(chunk_max, 1);
  const uint64_t touched = (span + c.block_tokens - 2) / c.block_tokens + 1;
  return static_cast<uint32_t>(std::min<uint64_t>(whole, touched));
}

uint64_t bytes_peak(const CacheLayout& layout, uint32_t tokens_max, uint32_t chunk_max) {
  uint64_t bytes = 0;
  for (const SlotClass& c : layout.classes)
    bytes += c.block_bytes * blocks_peak(c, tokens_max, chunk_max);
  return bytes;
}

uint32_t ruler_snapshots(uint32_t tokens_max, uint32_t granule, uint32_t keep) {
  CHECK(granule > 0);
  constexpr uint32_t kEndsOfTurns = 4, kMost = 64;
  const auto levels = static_cast<uint32_t>(std::bit_width(tokens_max / granule));
  return static_cast<uint32_t>(std::min<uint64_t>(uint64_t{keep} * levels + kEndsOfTurns, kMost));
}

Result<std::vector<uint32_t>> count_blocks(const CacheLayout& layout, uint64_t bytes,
                                           uint32_t tokens_max, uint32_t chunk_max,
                                           uint32_t sequences_max, PrefixRoom room) {
  // What one sequence holds, and what one sequence with all that is remembered of it holds.
  std::vector<uint64_t> alone, unit;
  uint64_t alone_bytes = 0, unit_bytes = 0;
  for (const SlotClass& c : layout.classes) {
    alone.push_back(blocks_peak(c, tokens_max, chunk_max));
    const bool fixed = c.growth == StateSpec::Growth::kFixed;
    unit.push_back(alone.back() + (fixed ? room.snapshots_per_sequence : 0));
    alone_bytes += alone.back() * c.block_bytes;
    unit_bytes += unit.back() * c.block_bytes;
  }
  if (sequences_max == 0 || alone_bytes > bytes) {
    return resource_exhausted(
        fmt::format("one sequence of {} tokens needs {} bytes of cache on this rank, the cache has "
                    "{}: lower max_model_len "
                    "or raise cpu_kv_cache_space, on a GPU gpu_memory_utilization",
                    tokens_max, alone_bytes, bytes));
  }
  const uint64_t fit =
      alone_bytes == 0 ? sequences_max : std::min<uint64_t>(bytes / alone_bytes, sequences_max);
  std::vector<uint32_t> blocks;
  for (size_t c = 0; c < alone.size(); ++c) {
    uint64_t count = std::min(fit * alone[c], std::max(alone[c], kBlocksMax));
    if (room.prefix_caching) {
      // One sequence always fits; the rest is spread in the proportion of a unit. A rank that has
      // no bytes of any class must not bound those that do.
      const uint64_t more =
          unit_bytes == 0 ? kBlocksMax : multiply_divide(unit[c], bytes - alone_bytes, unit_bytes);
      count = alone[c] + std::min(more, kBlocksMax);
    }
    if (count > INT32_MAX) {
      return resource_exhausted(fmt::format(
          "one sequence of {} tokens needs {} blocks of cache, which is more than can be numbered: "
          "lower max_model_len or raise block_size",
          tokens_max, alone[c]));
    }
    blocks.push_back(static_cast<uint32_t>(count));
  }
  return blocks;
}

}  // namespace trireme
