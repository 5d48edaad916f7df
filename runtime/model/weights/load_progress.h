// The progress line of a long load: "weights 12.4/16.1 GiB 77% 3.1 GiB/s". It decides when a line
// is due and what it says; the caller reads the clock and owns the terminal. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace trireme {

// `seconds` <= 0 leaves the speed out. The unit is that of `bytes_total`.
std::string format_load_progress(std::string_view what, uint64_t bytes_done, uint64_t bytes_total,
                                 double seconds);

class LoadProgress {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Print = std::function<void(const std::string& line)>;

  // A load shorter than this prints nothing at all; a longer one prints once per interval and a
  // last line at its end.
  static constexpr std::chrono::milliseconds kInterval{2000};

  // REQUIRES: `print` may be called whenever add() and finish() are.
  LoadProgress(std::string what, uint64_t bytes_total, Time start, Print print);

  void add(uint64_t bytes, Time now);
  // The load has ended: says so with the mean speed, where anything was printed before.
  void finish(Time now);

 private:
  std::string line(Time now) const;

  const std::string what_;
  const uint64_t bytes_total_;
  const Time start_;
  const Print print_;
  uint64_t bytes_done_ = 0;
  Time last_print_;
  bool printed_ = false;
};

}  // namespace trireme
