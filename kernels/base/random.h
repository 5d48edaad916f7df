// Philox4x32-10, a counter-based random generator: a pure function of key and counter, so that the
// draw for (seed, choice, position) is the same whatever else is computed, on every machine, and
// may be computed again. From: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as
// 1, 2, 3", SC'11. Thread-safe: no state.
#pragma once

#include <array>
#include <cstdint>

namespace trireme {

// The 128 random bits of (key, counter).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter);

// A number in (0, 1), never 0 or 1, from 53 random bits of (seed, choice, position, draw): the
// `draw`-th number that the sampling of token `position` of choice `choice` of a request with
// `seed` uses.
double uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t draw = 0);

// The `index`-th of a stream of standard normal numbers (Box-Muller), for dummy weights.
float normal(uint64_t seed, uint64_t index);

}  // namespace trireme
