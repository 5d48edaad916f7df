#include "runtime/schedule/priority.h"

#include <algorithm>
#include <numeric>

namespace trireme {
namespace {

// priority - waited / aging, times aging; within the range of 64 bits.
int64_t level(const PriorityEntry& e, uint32_t aging_ms) {
  if (aging_ms == 0) return e.priority;
  constexpr uint64_t kWaitedMax = uint64_t{1} << 62;
  const auto aging = static_cast<int64_t>(std::min<uint32_t>(aging_ms, INT32_MAX));
  return e.priority * aging - static_cast<int64_t>(std::min(e.waited_ms, kWaitedMax));
}

}  // namespace

bool is_served_before(const PriorityEntry& a, const PriorityEntry& b, uint32_t aging_ms) {
  const int64_t level_a = level(a, aging_ms), level_b = level(b, aging_ms);
  return level_a != level_b ? level_a < level_b : a.arrival < b.arrival;
}

std::vector<uint32_t> order_by_priority(std::span<const PriorityEntry> entries, uint32_t aging_ms) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto before = [&](uint32_t a, uint32_t b) {
    return is_served_before(entries[a], entries[b], aging_ms);
  };
  if (!std::is_sorted(order.begin(), order.end(), before))
    std::stable_sort(order.begin(), order.end(), before);
  return order;
}

}  // namespace trireme
