// What CUDA's device code may say beyond C++, for code that runs in a block of the emulator.
// Semantics are those of the CUDA C++ Programming Guide.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/barriers.h"
#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/tensor_core.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned int x, y;
};
struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { trireme::emulator::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  int nothing = 0;
  trireme::emulator::warp_collective(
      mask, [](void* const*) {}, &nothing);
}
inline void __threadfence() {}
[[noreturn]] inline void __trap() {
  CHECK(false) << "a kernel runs where it must not";
  std::abort();
}
using std::max;
using std::min;

namespace trireme::emulator {

// Every lane brings a value and the lane that it wants to hear.
template <class T>
T shuffle(unsigned mask, T value, int source) {
  struct Mine {
    T brought, heard;
    int source;
  } mine{value, value, source};
  warp_collective(
      mask,
      [](void* const* lanes) {
        for (int lane = 0; lane < kWarp; ++lane) {
          if (lanes[lane] == nullptr) continue;
          auto* to = static_cast<Mine*>(lanes[lane]);
          CHECK(lanes[to->source] != nullptr) << "lane " << lane << " listens to lane "
                                              << to->source << ", which is not in the mask";
          to->heard = static_cast<Mine*>(lanes[to->source])->brought;
        }
      },
      &mine);
  return mine.heard;
}

}  // namespace trireme::emulator

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const int lane = trireme::emulator::lane();
  const int other = lane ^ lanes;
  // A lane beyond the next group of `width` keeps its own value.
  return trireme::emulator::shuffle(mask, value, other / width > lane / width ? lane : other);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = trireme::emulator::lane();
  return trireme::emulator::shuffle(mask, value, lane / width * width + (source & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = trireme::emulator::lane();
  const int other = lane - static_cast<int>(delta);
  return trireme::emulator::shuffle(mask, value, other < lane / width * width ? lane : other);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = trireme::emulator::lane();
  const int other = lane + static_cast<int>(delta);
  return trireme::emulator::shuffle(mask, value,
                                    other >= (lane / width + 1) * width ? lane : other);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  struct Mine {
    int predicate;
    unsigned votes;
  } mine{predicate, 0};
  trireme::emulator::warp_collective(
      mask,
      [](void* const* lanes) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane) {
          const auto* from = static_cast<const Mine*>(lanes[lane]);
          if (from != nullptr && from->predicate != 0) votes |= 1u << lane;
        }
        for (int lane = 0; lane < 32; ++lane) {
          if (lanes[lane] != nullptr) static_cast<Mine*>(lanes[lane])->votes = votes;
        }
      },
      &mine);
  return mine.votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return (__ballot_sync(mask, predicate) & mask) == mask;
}

// Threads of a block take turns, and blocks follow one another: nothing else runs in between.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}
inline int atomicMax(int* address, int value) {
  const int old = *address;
  *address = old > value ? old : value;
  return old;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
template <class T>
T __ldg(const T* address) {
  return *address;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
