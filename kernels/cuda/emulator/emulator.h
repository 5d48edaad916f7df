// The settings of the emulated CUDA device, for tests. What kernels/cuda runs on where there is no
// GPU; see README.md of kernels/cuda.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::emulator {

// The order of threads in kernels that are launched from now on by this host thread; 0: ascending.
void set_schedule(uint64_t seed);

// The size of the device's memory, for allocations from now on. Default 8 GiB.
void set_device_bytes(size_t bytes);

// Streams that this host thread makes from now on have threads of their own, which run work as it
// is queued, as a GPU does: for work that waits for another rank's, where a thread that waits for
// one stream must not keep the others from running. Off by default.
void set_streams_run_by_themselves(bool on);

// How many devices there are; 0: none, as on a machine without a driver. Default 2.
void set_device_count(int count);

// What the GPUs are, for whoever asks from now on: the compute capability, 10 * major + minor, and
// how much shared memory a block may have. Default: a Hopper. Products of warp groups are refused
// by all others, kernels that begin before others have ended by those before it.
void set_gpu_kind(int capability, int shared_bytes_max);
inline constexpr int kHopper = 90, kHopperSharedBytes = 227 << 10;
int gpu_capability();

// How many multiprocessors each has, for whoever asks from now on. Default 4: few, so that work is
// split and a block does several parts.
void set_multiprocessors(int count);

}  // namespace trireme::emulator
