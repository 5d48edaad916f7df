#include "kernels/base/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trireme {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;

// ((bits >> 11) + 1/2) * 2^-53: strictly inside (0, 1).
double open_unit(uint32_t high, uint32_t low) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> 11;
  // The largest one half more needs 54 bits and would round up to 1.
  return std::min((static_cast<double>(bits) + 0.5) * 0x1p-53, 1 - 0x1p-53);
}

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 2> key, std::array<uint32_t, 4> c) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * c[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return c;
}

double uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t draw) {
  const auto r = philox4x32({static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
                            {position, choice, draw, 0});
  return open_unit(r[0], r[1]);
}

float normal(uint64_t seed, uint64_t index) {
  const auto r =
      philox4x32({static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
                 {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 1});
  const double radius = std::sqrt(-2.0 * std::log(open_unit(r[0], r[1])));
  return static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * open_unit(r[2], r[3])));
}

}  // namespace trireme
