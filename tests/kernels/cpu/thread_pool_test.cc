// The pool calls every worker once per run, run after run, with more threads than cores too, and
// what workers wrote is there when run() returns. A part that no worker has begun is done by the
// caller; a worker that comes late touches nothing. ThreadSanitizer runs the same tests.
#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>

#include "kernels/cpu/features.h"

namespace trireme {
namespace {

TEST(Split, CoversEverythingOnceInOrderAtMultiplesOfTheGrain) {
  for (int64_t n : {0, 1, 5, 64, 100, 1000}) {
    for (int parts : {1, 2, 3, 7}) {
      for (int64_t grain : {1, 4, 32}) {
        int64_t end = 0;
        for (int i = 0; i < parts; ++i) {
          const IndexRange range = split(n, parts, i, grain);
          EXPECT_EQ(range.begin, end);
          EXPECT_LE(range.begin, range.end);
          EXPECT_TRUE(range.empty() || range.begin % grain == 0);
          EXPECT_LE(range.size(), (n / parts / grain + 1) * grain);
          end = range.end;
        }
        EXPECT_EQ(end, n) << n << " in " << parts << " by " << grain;
      }
    }
  }
}

TEST(ThreadPool, EachRunCallsEachWorkerOnceAndItsWritesAreVisible) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int64_t> calls(static_cast<size_t>(threads), 0);  // plain: run() must synchronise
    constexpr int kRuns = 400;
    for (int run = 0; run < kRuns; ++run) {
      pool.run([&](int worker) { ++calls[static_cast<size_t>(worker)]; });
      ASSERT_EQ(std::accumulate(calls.begin(), calls.end(), int64_t{0}),
                int64_t{threads} * (run + 1));
    }
    for (int64_t count : calls) EXPECT_EQ(count, kRuns);
  }
}

// Runs f with each worker on its own thread: part 0 waits until all others have begun, so that the
// caller cannot take them.
template <class F>
void run_each_on_its_own(ThreadPool& pool, F f) {
  std::atomic<int> begun{0};
  pool.run([&](int worker) {
    ++begun;
    while (worker == 0 && begun < pool.size()) std::this_thread::yield();
    f(worker);
  });
}

TEST(ThreadPool, TheCallerIsWorkerZeroAndWorkersAreDistinctThreads) {
  ThreadPool pool(3);
  std::vector<std::thread::id> ids(3), again(3);
  const auto tell = [](std::vector<std::thread::id>& of) {
    return [&of](int worker) { of[static_cast<size_t>(worker)] = std::this_thread::get_id(); };
  };
  run_each_on_its_own(pool, tell(ids));
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 3u);
  run_each_on_its_own(pool, tell(again));
  EXPECT_EQ(again, ids);
  for (int run = 0; run < 200; ++run) {  // on its own thread, or on the caller's
    pool.run(tell(again));
    ASSERT_EQ(again[0], ids[0]);
    for (size_t i = 1; i < 3; ++i) ASSERT_TRUE(again[i] == ids[i] || again[i] == ids[0]);
  }
}

// Far more workers than cores, so that most come late, when the caller has done their parts and the
// run is over, with all that it was about.
TEST(ThreadPool, AWorkerThatComesLateTouchesNothing) {
  const int threads = 4 * allowed_cores() + 2;
  ThreadPool pool(threads);
  for (int run = 0; run < 2000; ++run) {
    std::vector<int> calls(static_cast<size_t>(threads), run);  // of this run alone
    pool.run([&calls](int worker) { ++calls[static_cast<size_t>(worker)]; });
    ASSERT_EQ(calls, std::vector<int>(static_cast<size_t>(threads), run + 1));
  }
}

TEST(ThreadPool, WakesAfterItsWorkersHaveGoneToSleep) {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  for (int round = 0; round < 5; ++round) {
    pool.run([&](int) { ++calls; });
    // Far longer than workers spin; the test does not depend on whether they do sleep by then.
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  EXPECT_EQ(calls, 15);
}

TEST(ThreadPool, TheCallerWaitsForAWorkerThatTakesLong) {
  ThreadPool pool(2);
  int written = 0;
  run_each_on_its_own(pool, [&](int worker) {
    if (worker == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      written = 1;
    }
  });
  EXPECT_EQ(written, 1);
}

TEST(ThreadPool, IsMadeAndEndedAgainAndAgainAlsoUnused) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(1 + i % 4);
    if (i % 3 == 0) continue;
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, pool.size());
  }
}

// As ranks do that are threads of one process.
TEST(ThreadPool, ManyPoolsAtOnceOnFewCores) {
  std::vector<std::thread> ranks;
  std::atomic<int> calls{0};
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&] {
      ThreadPool pool(2);
      for (int run = 0; run < 100; ++run) pool.run([&](int) { ++calls; });
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(calls, 4 * 2 * 100);
}

TEST(ThreadPool, OneCallerAfterAnotherMayUseIt) {
  ThreadPool pool(2, /*pin=*/true);
  int calls = 0;
  const auto count = [&](int worker) {
    if (worker == 0) ++calls;  // plain: a run comes after the one before, whoever calls
  };
  pool.run(count);
  std::thread([&] { pool.run(count); }).join();
  EXPECT_EQ(calls, 2);
}

TEST(ThreadPool, PinningBindsWorkersToTheirCoresAndIsUndoneForTheCaller) {
  if (allowed_cores() < 2) GTEST_SKIP() << "pinning needs two cores";
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  {
    ThreadPool pool(2, /*pin=*/true, /*first_core=*/1);
    std::vector<cpu_set_t> sets(2);
    run_each_on_its_own(pool, [&](int worker) {
      sched_getaffinity(0, sizeof(cpu_set_t), &sets[static_cast<size_t>(worker)]);
    });
    const std::vector<int>& ids = allowed_core_ids();
    for (size_t worker = 0; worker < 2; ++worker) {
      EXPECT_EQ(CPU_COUNT(&sets[worker]), 1);
      EXPECT_TRUE(CPU_ISSET(ids[(worker + 1) % ids.size()], &sets[worker]));
    }
  }
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace trireme
