// Random layouts and numbers for the planner's tests. A test replays one seed with
// TRIREME_SEED=<seed>, and runs n times as many with TRIREME_TIMES=n.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "runtime/cache/layout.h"

namespace trireme::test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint32_t up_to(uint32_t max) { return static_cast<uint32_t>(engine_() % (uint64_t{max} + 1)); }
  uint32_t between(uint32_t min, uint32_t max) { return min + up_to(max - min); }
  bool one_in(uint32_t n) { return up_to(n - 1) == 0; }

 private:
  std::mt19937_64 engine_;
};

// The seeds 1 to `count`, or to n * count with TRIREME_TIMES=n, or the one of TRIREME_SEED.
inline std::vector<uint64_t> seeds(uint64_t count) {
  if (const char* only = std::getenv("TRIREME_SEED")) return {std::strtoull(only, nullptr, 10)};
  if (const char* times = std::getenv("TRIREME_TIMES"))
    count *= std::max<uint64_t>(std::strtoull(times, nullptr, 10), 1);
  std::vector<uint64_t> all;
  for (uint64_t seed = 1; seed <= count; ++seed) all.push_back(seed);
  return all;
}
inline bool replays_one_seed() { return std::getenv("TRIREME_SEED") != nullptr; }

// Full, windowed and fixed classes, alone and mixed.
inline CacheLayout random_layout(Random& random) {
  using Growth = StateSpec::Growth;
  const uint32_t block_tokens = random.between(1, 6);
  std::vector<StateSpec> specs;
  if (!random.one_in(4)) specs.push_back({Growth::kPerToken, 16, 0});
  if (random.one_in(2)) specs.push_back({Growth::kPerToken, 16, random.between(1, 14)});
  if (random.one_in(3)) specs.push_back({Growth::kFixed, 64, 0});
  if (specs.empty()) specs.push_back({Growth::kFixed, 64, 0});
  return make_layout(specs, block_tokens);
}

}  // namespace trireme::test
