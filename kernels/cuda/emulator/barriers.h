// Barriers of some of a block's threads on the host: mbarrier, and barriers by number.
// device/barriers.cuh is their only caller.
#pragma once

#include <cstdint>

namespace trireme::emulator {

void make_barrier(uint64_t* state, int arrivals);
void arrive(uint64_t* state);
// The copies of this thread, and its arrival, take place when no other thread of the block can go
// on.
void arrive_when_copied(uint64_t* state);
void wait_for_phase(uint64_t* state, int parity);

void named_barrier(int id, int threads, bool waits);

}  // namespace trireme::emulator
