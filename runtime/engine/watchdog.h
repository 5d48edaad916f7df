// A deadline for a step: where it is missed, somebody is told on another thread, because the one
// that runs the step hangs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace trireme {

class Watchdog {
 public:
  // `missed` is called at most once, on the watchdog's thread, and ends the process as a rule.
  Watchdog(std::chrono::milliseconds patience, std::function<void()> missed);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Something begins that has to end, or the next thing to begin, within the patience.
  void arm();
  void disarm();

 private:
  void watch();

  const std::chrono::milliseconds patience_;
  const std::function<void()> missed_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  bool sleeps_without_end_ = false;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace trireme
