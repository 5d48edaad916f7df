#include "comm/rendezvous.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace trireme {
namespace {

// Four threads meet 5,000 times. Between meetings each adds one to a plain counter of its own, and
// after a meeting all counters must read the same: nobody runs ahead, nobody is left behind.
TEST(Rendezvous, NobodyRunsAhead) {
  constexpr int kRanks = 4, kMeetings = 5000;
  Rendezvous rendezvous;
  int counters[kRanks] = {};
  std::atomic<int> mistakes{0};
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      for (int i = 0; i < kMeetings; ++i) {
        ++counters[r];
        if (!rendezvous.meet(kRanks)) ++mistakes;
        for (int c : counters) mistakes += c != i + 1;
        if (!rendezvous.meet(kRanks)) ++mistakes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mistakes, 0);
}

// The last to arrive works while the others wait.
TEST(Rendezvous, TheLastWorksForAll) {
  constexpr int kRanks = 3, kMeetings = 2000;
  Rendezvous rendezvous;
  int work_done = 0;  // written by the last only
  std::atomic<int> mistakes{0};
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&] {
      for (int i = 1; i <= kMeetings; ++i) {
        const Rendezvous::Ticket ticket = rendezvous.arrive(kRanks);
        if (ticket.arrival == Rendezvous::Arrival::kLast) {
          ++work_done;
          rendezvous.release();
        } else if (!rendezvous.wait(ticket)) {
          ++mistakes;
        }
        mistakes += work_done != i;
        if (!rendezvous.meet(kRanks)) ++mistakes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mistakes, 0);
}

TEST(Rendezvous, ClosingWakesWhoWaitsAndRefusesWhoComes) {
  Rendezvous rendezvous;
  std::thread waiter([&] { EXPECT_FALSE(rendezvous.meet(2)); });
  rendezvous.close();
  waiter.join();
  EXPECT_EQ(rendezvous.arrive(2).arrival, Rendezvous::Arrival::kClosed);
}

// A rank that closes right after a meeting does not spoil that meeting for those who wake later.
TEST(Rendezvous, ClosingDoesNotUndoAMeeting) {
  for (int i = 0; i < 300; ++i) {
    Rendezvous rendezvous;
    std::thread other([&] { EXPECT_TRUE(rendezvous.meet(2)); });
    EXPECT_TRUE(rendezvous.meet(2));
    rendezvous.close();
    other.join();
  }
}

// A wait with work to move on keeps polling, whether something is under way or only may come, and
// ends as soon as the others are here.
TEST(Rendezvous, PollsWhileItWaits) {
  for (const auto work : {WaitWord::Work::kUnderWay, WaitWord::Work::kMayCome}) {
    Rendezvous rendezvous;
    std::atomic<int> polls{0};
    std::thread waiter([&] {
      EXPECT_TRUE(rendezvous.meet(2, [&] {
        ++polls;
        return work;
      }));
    });
    while (polls < 60) std::this_thread::yield();  // 50 come before the first sleep
    EXPECT_TRUE(rendezvous.meet(2));
    waiter.join();
  }
}

// Two processes meet in memory they both map, which nobody constructed: zero bytes are enough. The
// child checks the parent's counter and the parent the child's.
TEST(Rendezvous, ProcessesMeetInSharedMemory) {
  constexpr int kMeetings = 1000;
  struct Shared {
    Rendezvous rendezvous;
    int counters[2];
  };
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* shared = static_cast<Shared*>(memory);
  const auto run = [shared](int me) {
    int mistakes = 0;
    for (int i = 1; i <= kMeetings; ++i) {
      shared->counters[me] = i;
      mistakes += !shared->rendezvous.meet(2);
      mistakes += shared->counters[1 - me] != i;
      mistakes += !shared->rendezvous.meet(2);
    }
    return mistakes;
  };
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(run(1) == 0 ? 0 : 1);
  EXPECT_EQ(run(0), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  munmap(memory, sizeof(Shared));
}

}  // namespace
}  // namespace trireme
