#include "tests/bench/device/figures.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <boost/json/serialize.hpp>

namespace trireme::bench {

void print_figure(const boost::json::object& figure) {
  std::puts(boost::json::serialize(figure).c_str());
  std::fflush(stdout);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Result<double> seconds_of(Device& device, const Timing& timing,
                          const std::function<void(int64_t call)>& work) {
  int64_t call = 0;
  const auto round = [&](int64_t calls) -> Result<double> {
    const double begin = now_seconds();
    for (int64_t i = 0; i < calls; ++i) work(call++);
    if (Status s = device.synchronize(); !s.ok()) return s;
    return (now_seconds() - begin) / static_cast<double>(calls);
  };
  // Doubled until the wait no longer counts; these rounds warm up, too.
  int64_t calls = 1;
  for (;;) {
    const Result<double> each = round(calls);
    if (!each.ok()) return each;
    const double whole = *each * static_cast<double>(calls);
    if (whole >= timing.seconds_min) break;
    const double factor = std::clamp(1.2 * timing.seconds_min / std::max(whole, 1e-9), 2.0, 16.0);
    calls = static_cast<int64_t>(std::ceil(static_cast<double>(calls) * factor));
  }
  std::vector<double> samples;
  for (int i = 0; i < timing.repetitions; ++i) {
    const Result<double> each = round(calls);
    if (!each.ok()) return each;
    samples.push_back(*each);
  }
  std::nth_element(samples.begin(), samples.begin() + timing.repetitions / 2, samples.end());
  return samples[static_cast<size_t>(timing.repetitions / 2)];
}

}  // namespace trireme::bench
