// The order in which sequences are served: by level and arrival, stable over time; and that waiting
// gets anybody in, driven through the planner, while endless better requests arrive.
#include "runtime/schedule/priority.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/schedule/planner.h"
#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {
namespace {

TEST(Priority, LevelThenArrival) {
  const std::vector<PriorityEntry> entries = {{1, 0, 4}, {0, 0, 3}, {1, 0, 2}, {-1, 0, 9}};
  EXPECT_EQ(order_by_priority(entries, 1000), (std::vector<uint32_t>{3, 1, 2, 0}));
  EXPECT_TRUE(order_by_priority({}, 1000).empty());
}

TEST(Priority, WaitingMakesUpForALevel) {
  EXPECT_TRUE(is_served_before({0, 0, 2}, {1, 999, 1}, 1000));
  EXPECT_TRUE(is_served_before({1, 1000, 1}, {0, 0, 2}, 1000));
  EXPECT_TRUE(is_served_before({0, 0, 2}, {1, 1000000, 1}, 0)) << "without aging it does not";
}

TEST(Priority, ExtremesDoNotOverflow) {
  constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  constexpr uint64_t kEver = std::numeric_limits<uint64_t>::max();
  EXPECT_TRUE(is_served_before({kLeast, kEver, 1}, {kMost, 0, 0}, UINT32_MAX));
  EXPECT_TRUE(is_served_before({kLeast, 0, 1}, {kMost, 0, 0}, UINT32_MAX));
  EXPECT_TRUE(is_served_before({kLeast, kEver, 1}, {kLeast, 0, 0}, 1));
}

// Two requests never change places, so residents do not preempt each other in turns.
TEST(Priority, TheOrderDoesNotChangeOverTime) {
  for (const uint64_t seed : seeds(2000)) {
    Random random(seed);
    const uint32_t aging_ms = random.up_to(200);
    std::vector<PriorityEntry> entries;
    for (uint32_t i = 0; i < 12; ++i) {
      entries.push_back({static_cast<int32_t>(random.up_to(4)) - 2, (12 - i) * 37, i});
    }
    const std::vector<uint32_t> before = order_by_priority(entries, aging_ms);
    for (PriorityEntry& e : entries) e.waited_ms += seed;
    ASSERT_EQ(order_by_priority(entries, aging_ms), before) << "TRIREME_SEED=" << seed;
    for (size_t i = 1; i < before.size(); ++i)
      ASSERT_TRUE(is_served_before(entries[before[i - 1]], entries[before[i]], aging_ms));
  }
}

// Steps until a request of priority 5 gets in, while one of priority 0 arrives every millisecond
// and each stays for three steps of a millisecond, of which two fit at a time; `limit` if it does
// not.
uint64_t steps_until_served(uint32_t aging_ms, uint64_t limit) {
  const CacheLayout layout =
      make_layout(std::vector<StateSpec>{{StateSpec::Growth::kPerToken, 16, 0}}, 4);
  const std::vector<uint32_t> total = {2}, peak = {1};
  struct Request {
    SeqView view;
    PriorityEntry entry;
  };
  std::vector<Request> requests;
  const auto add = [&](int32_t priority, uint64_t arrival) {
    SeqView v;
    v.id = arrival;
    v.tokens = v.prefill_tokens = 1;
    v.peak = peak;
    requests.push_back({v, {priority, 0, arrival}});
  };
  for (uint64_t i = 0; i < 10; ++i) add(0, i);
  constexpr uint64_t kLow = 10;
  add(5, kLow);
  for (uint64_t step = 0; step < limit; ++step) {
    add(0, kLow + 1 + step);
    std::vector<PriorityEntry> entries;
    for (Request& r : requests) {
      r.entry.waited_ms = step - (r.entry.arrival > kLow ? r.entry.arrival - kLow - 1 : 0);
      entries.push_back(r.entry);
    }
    std::vector<SeqView> views;
    uint32_t available = total[0];
    for (const uint32_t i : order_by_priority(entries, aging_ms)) views.push_back(requests[i].view);
    for (const SeqView& v : views) available -= v.resident;
    const std::vector<uint32_t> blocks = {available};
    const StepPlan plan = plan_step({views, total, &layout, blocks}, {8, 8, 8, true});
    for (const StepPlan::Run& run : plan.runs) {
      if (run.seq == kLow) return step;
      for (Request& r : requests) {
        if (r.view.id != run.seq) continue;
        r.view.resident = true;
        r.view.computed = run.first + run.count;
        ++r.view.tokens;
      }
    }
    std::erase_if(requests, [](const Request& r) { return r.view.tokens > 3; });
  }
  return limit;
}

TEST(Priority, NobodyWaitsForEver) {
  // Three requests end in two steps' time at most, so those that are ahead for good (ten, and one a
  // millisecond in the five levels' time) are served within 3/2 of their number, and some steps.
  for (const uint32_t aging_ms : {1u, 10u, 40u}) {
    const uint64_t ahead = 10 + 5 * aging_ms;
    EXPECT_LE(steps_until_served(aging_ms, 4000), ahead * 3 / 2 + 6) << aging_ms << " ms";
  }
  EXPECT_EQ(steps_until_served(0, 4000), 4000u) << "without aging it starves: the test can tell";
}

}  // namespace
}  // namespace trireme::test
