// What device_bench prints: one JSON object a line, written out at once, so that a run that is
// stopped has printed what it measured; and how it measures.
#pragma once

#include <functional>
#include <string_view>

#include <boost/json/object.hpp>

#include "kernels/device.h"

namespace trireme::bench {

void print_figure(const boost::json::object& figure);

double now_seconds();

// When to end: asked between measurements.
class Deadline {
 public:
  explicit Deadline(double seconds) : end_(now_seconds() + seconds) {}
  double left() const { return end_ - now_seconds(); }

 private:
  double end_;
};

struct Timing {
  double seconds_min = 0.02;  // of what is queued between two waits
  int repetitions = 5;        // the median counts
};

// Seconds of one call of `work`, which queues ops: the median over repetitions of as many calls
// between two waits as fill `seconds_min`, after a few that warm up. Each call is told its number,
// so that it may take other memory than the one before.
Result<double> seconds_of(Device& device, const Timing& timing,
                          const std::function<void(int64_t call)>& work);

}  // namespace trireme::bench
