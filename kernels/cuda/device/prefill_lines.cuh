// What kernels of prefill do with the sums of their lines.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/tile_products.cuh"

namespace trireme::cuda {

// This lane's results, to the output or to the partials where there are several parts.
template <int D, int kM>
__device__ __forceinline__ void put_lines(const AttendArgs& args, const Tiling& tiling,
                                          const Partials& partials, const LineTile& tile,
                                          int kv_head, const Share& share, int warp_line,
                                          const LineSums<D, kM>& lines) {
  const int lane = lane_of_warp();
  const int g = lane / 4, t = lane % 4, part = static_cast<int>(blockIdx.z);
#pragma unroll
  for (int i = 0; i < 2 * kM; ++i) {
    const int m = i / 2, half = i % 2;
    float total = lines.total[m][half];
    total += __shfl_xor_sync(kWholeWarp, total, 1);
    total += __shfl_xor_sync(kWholeWarp, total, 2);
    const int32_t line = warp_line + g + i * 8;
    if (line >= tile.lines) continue;
    const int32_t row = tile.row(line, args.group);
    const int32_t head = tile.head(line, args.group, kv_head);
    float* to = args.out + row * args.out_stride + int64_t{head} * D + t * 2;
    float scale = 1.0f / total;
    if (share.used > 1) {
      const int64_t index = partial_index(args, tiling, tile, line, kv_head, part);
      to = partials.sums + index * D + t * 2;
      scale = 1.0f;
      if (t == 0) {
        partials.largest_and_total[index * 2] = lines.largest[m][half];
        partials.largest_and_total[index * 2 + 1] = total;
      }
    }
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      const Pack<float, 2> x{
          {lines.sum[m][d].at[half * 2] * scale, lines.sum[m][d].at[half * 2 + 1] * scale}};
      if (reinterpret_cast<uintptr_t>(to) % 8 == 0) {
        store_out<2>(to + d * 8, x);
      } else {
        to[d * 8] = x.at[0];
        to[d * 8 + 1] = x.at[1];
      }
      if (share.used == 1) leave<2>(args.left, row, int64_t{head} * D + t * 2 + d * 8, x);
    }
  }
}

}  // namespace trireme::cuda
