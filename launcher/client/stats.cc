#include "launcher/client/stats.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"

namespace trireme {

double percentile_of_sorted(std::span<const double> sorted, double p) {
  CHECK(p >= 0 && p <= 100);
  if (sorted.empty()) return 0;
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double deviation(std::span<const double> values) {
  if (values.empty()) return 0;
  const double center = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - center) * (v - center);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace trireme
