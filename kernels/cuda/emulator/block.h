// One block of a kernel on the host: a fiber for each CUDA thread, which gives way at barriers and
// warp collectives only. What a GPU does silently wrong, or hangs in, ends the program with a
// message here: a barrier that some threads never reach, a collective that lanes of a warp enter
// differently.
//
// Which block runs first, and which thread between two barriers, follows from a seed, so that a
// test can run a kernel in several orders: a missing barrier shows as another result.
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

// Runs all blocks of a grid, one after the other. `seed` 0 runs blocks and threads in ascending
// order, others in an order of their own.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed,
              const std::function<void()>& kernel);

}  // namespace trireme::emulator
