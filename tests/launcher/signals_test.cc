// Real signals to this process: each is counted, none ends it while somebody watches.
#include "launcher/signals.h"

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace trireme {
namespace {

// What the watch was told, in order.
class Heard {
 public:
  void operator()(int count, int signal) {
    const std::lock_guard lock(mutex_);
    told_.emplace_back(count, signal);
    changed_.notify_all();
  }
  std::vector<std::pair<int, int>> wait_for(size_t n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return told_.size() >= n; });
    return told_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<int, int>> told_;
};

using Told = std::vector<std::pair<int, int>>;

TEST(StopSignals, CountsEveryKindInTheOrderOfTheirComing) {
  Heard heard;
  StopSignals signals([&](int count, int signal) { heard(count, signal); });
  Told expected;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT, SIGHUP, SIGTERM}) {
    kill(getpid(), signal);
    expected.emplace_back(static_cast<int>(expected.size()) + 1, signal);
    EXPECT_EQ(heard.wait_for(expected.size()), expected);
  }
}

TEST(StopSignals, EachWatchCountsAnew) {
  for (int i = 0; i < 3; ++i) {
    Heard heard;
    StopSignals signals([&](int count, int signal) { heard(count, signal); });
    kill(getpid(), SIGINT);
    EXPECT_EQ(heard.wait_for(1), (Told{{1, SIGINT}}));
  }
}

TEST(StopSignals, NohupStaysInForce) {
  std::signal(SIGHUP, SIG_IGN);
  {
    Heard heard;
    StopSignals signals([&](int count, int signal) { heard(count, signal); });
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);
    EXPECT_EQ(heard.wait_for(1), (Told{{1, SIGTERM}}));
  }
  struct sigaction now {};
  sigaction(SIGHUP, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_IGN);
  std::signal(SIGHUP, SIG_DFL);
}

TEST(StopSignals, AfterTheWatchASignalEndsTheProcessAgain) {
  {
    StopSignals signals([](int, int) {});
  }
  EXPECT_EXIT(kill(getpid(), SIGTERM), ::testing::KilledBySignal(SIGTERM), "");
}

// A rank that follows lives on; only mpirun's SIGTERM ends it.
TEST(StopSignals, AFollowerIgnoresAllButSigterm) {
  EXPECT_EXIT(
      {
        StopSignals::ignore();
        for (const int signal : {SIGINT, SIGHUP, SIGUSR1}) raise(signal);
        _exit(7);
      },
      ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(
      {
        StopSignals::ignore();
        raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace trireme
