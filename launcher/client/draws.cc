#include "launcher/client/draws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/check.h"
#include "kernels/base/random.h"

namespace trireme {

double Draws::uniform() {
  const uint64_t n = next_++;
  return trireme::uniform(seed_, stream_, static_cast<uint32_t>(n), static_cast<uint32_t>(n >> 32));
}

int64_t Draws::integer(int64_t low, int64_t high) {
  CHECK(low <= high);
  const double count = static_cast<double>(high - low) + 1;
  return std::min(high, low + static_cast<int64_t>(uniform() * count));
}

double Draws::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

double Draws::gamma(double shape, double scale) {
  CHECK(shape > 0);
  if (shape == 1) return -std::log(uniform()) * scale;
  if (shape < 1) return gamma(shape + 1, scale) * std::pow(uniform(), 1 / shape);
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v * scale;
  }
}

}  // namespace trireme
