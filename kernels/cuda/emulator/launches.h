// Kernels of a stream, in an order in which a GPU might run them. Where a kernel may begin before
// the one before it has ended (programmatic dependent launch, CUDA C++ Programming Guide), some of
// its blocks begin as early as it is allowed, and stand in previous_done() until their turn comes.
// So what a kernel reads before it waits is what was there before the kernels before it: the worst
// that a GPU may do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/cuda/emulator/block.h"

namespace trireme::emulator {

struct Launch {
  dim3 grid{}, block{};
  size_t shared_bytes = 0;
  // The order of blocks, and of threads between two barriers, so that a test can run a kernel in
  // several: a missing barrier shows as another result. 0: ascending, one block after the other;
  // in other orders some are at work at a time.
  uint64_t seed = 0;
  bool overlaps = false;  // may begin before the launch before it has ended
  std::function<void()> kernel{};
};

// Runs the launches, which are neighbours in their stream. A launch that overlaps and of which no
// thread waits for the kernels before it ends the program: the kernel after it would wait for less
// than it thinks.
void run_launches(std::span<const Launch> launches);
inline void run_launch(const Launch& launch) { run_launches({&launch, 1}); }

}  // namespace trireme::emulator
