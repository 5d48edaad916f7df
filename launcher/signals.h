// Requests to stop, as signals bring them to a serving process.
#pragma once

#include <functional>
#include <thread>

namespace trireme {

// While it lives, SIGTERM, SIGINT, SIGUSR1 (which mpirun passes on to ranks) and SIGHUP (but under
// nohup) do not end the process: `asked(n, signal)` is called on a thread of the watch's own for
// the n-th of them, n = 1, 2, ... At most one watch at a time.
class StopSignals {
 public:
  explicit StopSignals(std::function<void(int count, int signal)> asked);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // For ranks that are told to end by another one: SIGINT, SIGHUP and SIGUSR1 do nothing.
  static void ignore();

 private:
  void watch();

  const std::function<void(int, int)> asked_;
  int pipe_[2] = {-1, -1};
  std::thread thread_;
};

}  // namespace trireme
