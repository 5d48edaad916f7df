// What device code may ask of the emulator, inside of a kernel: where it stands, barriers and
// collectives, shared memory, the kernels before and after this one. thread_block.h says how a
// block runs, launches.h in which order kernels do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernels/cuda/emulator/async_work.h"

struct uint3 {
  unsigned int x, y, z;
};
struct dim3 {
  unsigned int x = 1, y = 1, z = 1;
  constexpr dim3(unsigned int a = 1, unsigned int b = 1, unsigned int c = 1)  // NOLINT: as CUDA's
      : x(a), y(b), z(c) {}
};

// Where the CUDA thread stands that is running on this host thread.
inline thread_local uint3 threadIdx{};
inline thread_local uint3 blockIdx{};
inline thread_local dim3 blockDim;
inline thread_local dim3 gridDim;

namespace trireme::emulator {

inline constexpr int kWarp = 32;

int lane();  // of the warp

// Waits for all threads of the block that have not ended.
void block_barrier();

// A collective of the lanes of `mask`. `mine` points to what this lane brings and takes; when all
// lanes of the mask are here, one of them calls combine(lanes), where lanes[i] is what lane i gave,
// or null where it is not in the mask. REQUIRES: all lanes of the mask come with the same mask and
// combine, and this lane is one of them.
using Combine = void (*)(void* const* lanes);
void warp_collective(uint32_t mask, Combine combine, void* mine);

// The block's dynamic shared memory, of exactly the bytes of the launch; every block finds it full
// of NaN.
void* dynamic_shared();
size_t dynamic_shared_bytes();

// Gives way until `condition` holds, which some other thread of the block brings about.
void wait_until(std::function<bool()> condition);

// Gives way until nothing else in the block can go on: what ends late, as late as can be.
void wait_for_stillness();

// Of the running CUDA thread, and of its warp: async_work.h.
AsyncCopies& async_copies();
AsyncProducts& async_products();

// Barriers by number, of which a block has sixteen.
struct NamedBarrier {
  int arrived = 0;
  uint64_t generation = 0;
};
NamedBarrier& named_barrier(int id);

// Where in the block's shared memory `pointer` points to, in bytes.
unsigned shared_offset(const void* pointer);

// "griddepcontrol.launch_dependents": the next kernel may begin when all blocks have come by here.
void next_may_start();
// "griddepcontrol.wait": returns when all kernels before this one have ended.
void previous_done();
// This block runs while it would still wait for them.
bool ahead_of_previous();

}  // namespace trireme::emulator
