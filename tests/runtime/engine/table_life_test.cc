// Whole lives of requests as the engine leads them, without a model: the book, the view, the
// planner, the tables of a leader and of a follower over real pools and a real prefix cache, with
// preemption into host memory and without, forks, cancels, failures and up to three steps in
// flight.
//
//   submit, cancel -> book -> view -> plan_step -> preempt -> begin -> message -> commit -> cells
//   -> [follower: the same from the message's bytes] -> made-up tokens -> book
//
// Each view is one that came about by itself; each plan is held to its budget; after each, a model
// that knows positions only says how many blocks every sequence must hold, and every byte is free,
// live or cached, once. Rows read what was computed from their own tokens (cell_memory.h), nobody
// starves (fairness_ledger.h), every choice ends once. TRIREME_SEED=<seed> replays, TRIREME_TIMES=n
// runs n times as many seeds.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/runtime/engine/table_world.h"

namespace trireme::test {
namespace {

TEST(TableLife, NothingIsLostAndNobodyStarves) {
  WorldCounts n;
  for (const uint64_t seed : seeds(2500)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    TableWorld world(seed, n);
    world.run();
    if (HasFatalFailure()) return;
  }
  fmt::print("{} views, {} rows, {} preemptions ({} spills), {} forks, {} cancelled, {} failures\n",
             n.views, n.rows, n.preemptions, n.spills, n.forks, n.cancels, n.failures);
  fmt::print("{} cached tokens, {} blocks evicted, {} steps waited\n", n.hits, n.evicted, n.waited);
  if (replays_one_seed()) return;
  // The lives are no monoculture.
  EXPECT_GT(n.views, 200000u);
  EXPECT_GT(n.preemptions, 2000u);
  EXPECT_GT(n.spills, 1000u);
  EXPECT_GT(n.forks, 4000u);
  EXPECT_GT(n.cancels, 4000u);
  EXPECT_GT(n.failures, 100u);
  EXPECT_GT(n.hits, 5000u);
  EXPECT_GT(n.evicted, 50000u);
}

// The ledger finds whom it should find.
TEST(TableLife, APlannerThatServesTheLatestFirstIsFoundOut) {
  WorldCounts n;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TableWorld world(seed, n, /*unfair=*/true);
    world.run();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(n.wronged, 20u);
}

}  // namespace
}  // namespace trireme::test
