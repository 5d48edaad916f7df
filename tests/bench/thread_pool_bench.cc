// What a fork and join costs where other processes want the same cores: scripts/bench thread_pool.
//
// The work is a decode step's: forks of some ten microseconds for each thread, with a little serial
// work between them. It is measured alone and beside one busy process per core and beside half as
// many, in turns, so that a machine whose speed drifts does so for all; the figures are medians
// over rounds, with the quartiles.
//
//   bench_thread_pool [threads] [rounds]
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/cpu/features.h"
#include "kernels/cpu/thread_pool.h"

namespace trireme {
namespace {

constexpr int kForksPerStep = 100;
constexpr int64_t kForkLoops = 6000, kSerialLoops = 600;  // some 10 and 1 microseconds
constexpr double kRoundSeconds = 0.6;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Each loop waits for the one before: its time depends on nothing but the clock of the core.
float spend(int64_t loops, float x) {
  for (int64_t i = 0; i < loops; ++i) x = x * 0.999f + 0.001f;
  return x;
}

// Processes that only burn time, for as long as it lives.
class BusyProcesses {
 public:
  explicit BusyProcesses(int count) {
    for (int i = 0; i < count; ++i) {
      const pid_t child = fork();
      CHECK(child >= 0) << "fork failed";
      if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        volatile float sink = 0;
        for (;;) sink = spend(1 << 20, sink);
      }
      children_.push_back(child);
    }
  }
  ~BusyProcesses() {
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }
  BusyProcesses(const BusyProcesses&) = delete;

 private:
  std::vector<pid_t> children_;
};

double steps_per_second(ThreadPool& pool) {
  struct alignas(64) Cell {
    float x = 1;
  };
  std::vector<Cell> cells(static_cast<size_t>(pool.size()));
  float serial = 1;
  const double begin = now_s();
  int steps = 0;
  do {
    for (int i = 0; i < kForksPerStep; ++i) {
      pool.run([&](int worker) {
        Cell& cell = cells[static_cast<size_t>(worker)];
        cell.x = spend(kForkLoops, cell.x);
      });
      serial = spend(kSerialLoops, serial);
    }
    ++steps;
  } while (now_s() - begin < kRoundSeconds);
  volatile float sink = serial + cells[0].x;  // the work is done
  (void)sink;
  return steps / (now_s() - begin);
}

struct Figures {
  std::vector<double> values;
  double at(double part) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
  }
};

int measure(int threads, int rounds) {
  const std::array<int, 3> busy = {0, (threads + 1) / 2, threads};
  std::array<Figures, 3> figures;
  ThreadPool pool(threads, /*pin=*/true);
  steps_per_second(pool);  // warm
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < busy.size(); ++i) {
      const BusyProcesses beside(busy[i]);
      figures[i].values.push_back(steps_per_second(pool));
    }
  }
  std::printf("%d threads, steps of %d forks, %d rounds\n", threads, kForksPerStep, rounds);
  std::printf("%16s %10s %10s %10s %10s\n", "busy processes", "steps/s", "quartile", "quartile",
              "of alone");
  for (size_t i = 0; i < busy.size(); ++i) {
    std::printf("%16d %10.1f %10.1f %10.1f %9.0f%%\n", busy[i], figures[i].at(0.5),
                figures[i].at(0.25), figures[i].at(0.75),
                100 * figures[i].at(0.5) / figures[0].at(0.5));
  }
  return 0;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : trireme::allowed_cores();
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 9;
  if (threads < 1 || rounds < 1) {
    std::fprintf(stderr, "bench_thread_pool [threads] [rounds]: both must be at least 1\n");
    return 2;
  }
  return trireme::measure(threads, rounds);
}
