// Sums that come in parts.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"

namespace trireme::cuda {

// Adds what a thread holds of two fragments over the parts of a product's inputs, in their order.
// Part p begins at partial + p * part_floats, its second fragment `fragment_floats` further.
__device__ __forceinline__ void add_parts(const float* partial, int parts, int64_t part_floats,
                                          int fragment_floats, FragmentC (&sums)[2]) {
  constexpr int kAtOnce = 4;  // parts that are asked for together; beyond the last, the last
#pragma unroll 1
  for (int part = 0; part < parts; part += kAtOnce, partial += kAtOnce * part_floats) {
    Pack<float, 4> packs[kAtOnce][2];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float* from = partial + min(i, parts - 1 - part) * part_floats;
#pragma unroll
      for (int m = 0; m < 2; ++m) packs[i][m] = load<4>(from + m * fragment_floats);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float sum = sums[m].at[e] + packs[i][m].at[e];
          sums[m].at[e] = part + i < parts ? sum : sums[m].at[e];
        }
      }
    }
  }
}

}  // namespace trireme::cuda
