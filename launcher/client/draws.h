// Random numbers of a load, the same on every machine for a seed: a stream of Philox draws and the
// distributions made of them. One thread.
#pragma once

#include <cstdint>

namespace trireme {

class Draws {
 public:
  // Streams of one seed are independent of each other.
  Draws(uint64_t seed, uint32_t stream) : seed_(seed), stream_(stream) {}

  double uniform();                            // in (0, 1)
  int64_t integer(int64_t low, int64_t high);  // low..high, both included. REQUIRES: low <= high
  double normal();
  // Gamma of mean shape * scale (Marsaglia and Tsang, "A simple method for generating gamma
  // variables", 2000); shape 1 is the exponential. REQUIRES: shape > 0.
  double gamma(double shape, double scale);

 private:
  const uint64_t seed_;
  const uint32_t stream_;
  uint64_t next_ = 0;
};

}  // namespace trireme
