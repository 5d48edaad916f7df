#include "kernels/cuda/emulator/barriers.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/block.h"

namespace trireme::emulator {
namespace {

// How the 64 bits are used: arrivals of a phase, those that are missing, the phase's parity.
struct Phase {
  uint32_t arrivals, missing, parity;
};
constexpr uint64_t kMade = uint64_t{0x5a} << 56;  // not what shared memory is full of at first

Phase phase_of(const uint64_t* state) {
  CHECK(*state >> 56 << 56 == kMade) << "a barrier is used before it is made";
  return {static_cast<uint32_t>(*state & 0xfffff), static_cast<uint32_t>(*state >> 20 & 0xfffff),
          static_cast<uint32_t>(*state >> 40 & 1)};
}
void set_phase(uint64_t* state, const Phase& phase) {
  *state = kMade | uint64_t{phase.parity} << 40 | uint64_t{phase.missing} << 20 | phase.arrivals;
}

}  // namespace

void make_barrier(uint64_t* state, int arrivals) {
  shared_offset(state);  // is in shared memory
  const auto count = static_cast<uint32_t>(arrivals);
  set_phase(state, {count, count, 0});
}

void arrive(uint64_t* state) {
  Phase phase = phase_of(state);
  if (--phase.missing == 0) {
    phase.missing = phase.arrivals;
    phase.parity ^= 1;
  }
  set_phase(state, phase);
}

void arrive_when_copied(uint64_t* state) {
  AsyncCopies& copies = async_copies();
  CHECK(copies.groups.empty()) << "copies are waited for in two ways";
  copies.announced.push_back({std::exchange(copies.open, {}), [state] { arrive(state); }});
}

void wait_for_phase(uint64_t* state, int parity) {
  wait_until([=] { return phase_of(state).parity != static_cast<uint32_t>(parity); });
}

void named_barrier(int id, int threads, bool waits) {
  NamedBarrier& barrier = named_barrier(id);
  CHECK(threads % kWarp == 0) << "a barrier of parts of warps";
  const uint64_t generation = barrier.generation;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  if (waits) wait_until([&barrier, generation] { return barrier.generation != generation; });
}

}  // namespace trireme::emulator
