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
#pragma unroll 4
  for (int part = 0; part < parts; ++part, partial += part_floats) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const Pack<float, 4> pack = load<4>(partial + m * fragment_floats);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[m].at[e] += pack.at[e];
    }
  }
}

}  // namespace trireme::cuda
