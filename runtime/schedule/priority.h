// The order in which the planner serves sequences. Any thread; pure.
//
// A request's key is (priority - waited_ms / aging_ms, arrival), lower first, with the division
// exact: a whole aging_ms of waiting makes up for one level of priority. waited_ms is counted from
// the arrival to now and goes on while the request runs, so
// INVARIANT: the order of two requests never changes; and a request of priority p is overtaken only
// by those of a higher level q < p that arrive within (p - q) * aging_ms after it.
// (Whole levels, floor(waited / aging), would let two requests swap places each time one of them
// crosses a boundary, and residents would preempt each other in turns.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trireme {

struct PriorityEntry {
  int32_t priority = 0;    // lower is served first
  uint64_t waited_ms = 0;  // since its arrival, also while it runs
  uint64_t arrival = 0;    // number, in order of arrival; different for each (forks of a request
                           // that share it keep the order in which they are given)
};

// True where `a` is served before `b`. aging_ms == 0: waiting does not raise anybody.
bool is_served_before(const PriorityEntry& a, const PriorityEntry& b, uint32_t aging_ms);

// Indices into `entries`, in the order to serve them. O(n log n), n when they are in order already.
std::vector<uint32_t> order_by_priority(std::span<const PriorityEntry> entries, uint32_t aging_ms);

}  // namespace trireme
