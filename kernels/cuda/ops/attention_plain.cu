// Attention for any shape: heads of up to 256 elements, blocks that begin anywhere.
//
// Grid [rows, query heads], 4 warps. A warp takes 32 of every 128 positions with a softmax of its
// own: a lane a position for the scores, every 32nd element for the values. Keys and values are
// read by each query head that sees them, keys not even coalesced. What no other kernel takes:
// small models and odd sizes.
#include "kernels/base/check.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/cache.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/tiles.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kHeadDimMax = 256;
constexpr int kEach = kHeadDimMax / kWarpSize;

// What the warps of a block have in shared memory.
template <class T>
struct Memory {
  const T* values[kWarps][kWarpSize];  // of the positions at hand
  float weights[kWarps][kWarpSize];
  float largest[kWarps], total[kWarps];
  // Then q times scale [dim], and the warps' sums [kWarps][dim].
};

template <class T>
__device__ __forceinline__ float dot(const float* query, const T* key, int dim) {
  float sum = 0.0f;
  for (int d = 0; d < dim; ++d) sum = fmaf(query[d], to_float(key[d]), sum);
  return sum;
}

// The merge of the warps' sums.
template <class T>
__device__ __forceinline__ void put_line(const Memory<T>& memory, const float* sums, int dim,
                                         float* out) {
  float most = kNoScore;
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, memory.largest[w]);
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kWarps * kWarpSize) {
    float numerator = 0.0f, denominator = 0.0f;
    for (int w = 0; w < kWarps; ++w) {
      const float share = exp2_fast(memory.largest[w] - most);  // 0 where a warp saw no position
      numerator = fmaf(share, sums[w * dim + d], numerator);
      denominator = fmaf(share, memory.total[w], denominator);
    }
    out[d] = numerator / denominator;
  }
}

template <class T>
__global__ void plain_kernel(AttendArgs args) {
  next_may_start();
  previous_done();
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int warp = warp_of_block(), lane = lane_of_warp(), dim = args.cache.head_dim;
  const int sequence = sequence_of(args.rows, row);
  if (sequence < 0) return;
  const SequenceCache here = sequence_cache(args.cache, sequence);
  const int32_t last = args.rows.positions[row], window = args.cache.window_tokens;
  const int32_t begin = window > 0 && last >= window ? last - window + 1 : 0;
  auto* memory = shared<Memory<T>>();
  auto* query = reinterpret_cast<float*>(memory + 1);
  float* sums = query + dim;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kWarps * kWarpSize) {
    query[d] = args.q[row * args.q_stride + int64_t{head} * dim + d] * (args.scale * kLogTwoE);
  }
  __syncthreads();

  float sum[kEach] = {}, largest = kNoScore, total = 0.0f;
  for (int32_t first = begin + warp * kWarpSize; first <= last; first += kWarps * kWarpSize) {
    const int32_t position = first + lane;
    const bool seen = position <= last;
    const T* key = seen ? here.key<T>(position, head / args.group) : nullptr;
    const float score = seen ? dot(query, key, dim) : -INFINITY;
    const float larger = fmaxf(largest, warp_max(score));
    const float shrink = exp2_fast(largest - larger), weight = exp2_fast(score - larger);
    largest = larger;
    total = fmaf(total, shrink, weight);
    memory->weights[warp][lane] = weight;
    memory->values[warp][lane] = seen ? key + here.value_offset() : nullptr;
    __syncwarp();
    const int count = min(kWarpSize, last - first + 1);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d >= dim) break;
      sum[i] *= shrink;
      for (int p = 0; p < count; ++p)
        sum[i] = fmaf(memory->weights[warp][p], to_float(memory->values[warp][p][d]), sum[i]);
    }
    __syncwarp();
  }
  total = warp_sum(total);
  if (lane == 0) {
    memory->largest[warp] = largest;
    memory->total[warp] = total;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < dim) sums[warp * dim + d] = sum[i];
  }
  __syncthreads();
  put_line(*memory, sums, dim, args.out + row * args.out_stride + int64_t{head} * dim);
}

}  // namespace

void attend_plain(Context& context, const AttendArgs& args) {
  const int32_t dim = args.cache.head_dim;
  CHECK(dim <= kHeadDimMax) << "heads of " << dim << " elements";
  const auto floats = static_cast<size_t>((1 + kWarps) * dim);
  const Grid grid{dim3(static_cast<unsigned>(args.rows.rows), static_cast<unsigned>(args.heads)),
                  dim3(kWarps * kWarpSize), sizeof(Memory<float>) + floats * sizeof(float), true};
  dispatch_floats(args.cache.dtype, [&](auto zero) {
    using T = decltype(zero);
    static_assert(sizeof(Memory<T>) == sizeof(Memory<float>));
    launch(context, "attend (plain)", grid, plain_kernel<T>, args);
  });
}

}  // namespace trireme::cuda
