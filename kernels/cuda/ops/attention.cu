// The paged cache, and attention over it.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/cache.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void store_kernel(const float* k, int64_t k_stride, const float* v, int64_t v_stride,
                             Ragged rows, KvView cache) {
  const int row = static_cast<int>(blockIdx.x);
  const int sequence = sequence_of(rows, row);
  const int64_t i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (sequence < 0 || i >= int64_t{cache.kv_heads} * cache.head_dim) return;
  const SequenceCache here = sequence_cache(cache, sequence);
  T* key = here.key<T>(rows.positions[row], static_cast<int32_t>(i / cache.head_dim)) +
           i % cache.head_dim;
  key[0] = from_float<T>(k[row * k_stride + i]);
  key[here.value_offset()] = from_float<T>(v[row * v_stride + i]);
}

// The plain kernel: a block of four warps for each row and query head. A warp takes every fourth
// position with a softmax of its own; the four are merged at the end.
constexpr int kPlainWarps = 4;
constexpr int kHeadDimMax = 256;

template <class T>
__global__ void attend_kernel(const float* q, int64_t q_stride, Ragged rows, KvView cache,
                              float scale, float* out, int64_t out_stride, int32_t group) {
  constexpr int kEach = kHeadDimMax / kWarpSize;
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int dim = cache.head_dim;
  const int sequence = sequence_of(rows, row);
  if (sequence < 0) return;
  const SequenceCache here = sequence_cache(cache, sequence);
  const int32_t last = rows.positions[row];
  const int32_t first =
      cache.window_tokens > 0 && last >= cache.window_tokens ? last - cache.window_tokens + 1 : 0;
  float query[kEach], sum[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + i * kWarpSize;
    query[i] = d < dim ? q[row * q_stride + int64_t{head} * dim + d] * scale : 0.0f;
  }
  float largest = -INFINITY, total = 0.0f;
  for (int32_t p = first + warp; p <= last; p += kPlainWarps) {
    const T* key = here.key<T>(p, head / group);
    const T* value = key + here.value_offset();
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < dim) dot = fmaf(query[i], to_float(key[d]), dot);
    }
    const float score = warp_sum(dot);
    const float larger = fmaxf(largest, score);
    const float shrink = expf(largest - larger), weight = expf(score - larger);
    total = total * shrink + weight;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < dim) sum[i] = sum[i] * shrink + weight * to_float(value[d]);
    }
    largest = larger;
  }
  float* largests = shared<float>();       // [kPlainWarps]
  float* totals = largests + kPlainWarps;  // [kPlainWarps]
  float* sums = totals + kPlainWarps;      // [kPlainWarps][dim]
  if (lane == 0) {
    largests[warp] = largest;
    totals[warp] = total;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < dim) sums[warp * dim + d] = sum[i];
  }
  __syncthreads();
  float most = -INFINITY;
  for (int w = 0; w < kPlainWarps; ++w) most = fmaxf(most, largests[w]);
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kPlainWarps * kWarpSize) {
    float numerator = 0.0f, denominator = 0.0f;
    for (int w = 0; w < kPlainWarps; ++w) {
      const float share = expf(largests[w] - most);  // 0 where a warp saw no position
      numerator += share * sums[w * dim + d];
      denominator += share * totals[w];
    }
    out[row * out_stride + int64_t{head} * dim + d] = numerator / denominator;
  }
}

}  // namespace

void CudaOps::store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                       const KvView& cache) {
  const Grid grid{
      dim3(static_cast<unsigned>(rows.rows), static_cast<unsigned>(ceil_div(k.cols, kThreads))),
      dim3(kThreads)};
  dispatch_floats(cache.dtype, [&](auto zero) {
    launch(context_, "store_kv", grid, store_kernel<decltype(zero)>,
           static_cast<const float*>(k.data), k.row_stride, static_cast<const float*>(v.data),
           v.row_stride, rows, cache);
  });
}

void CudaOps::attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                     TensorView out) {
  if (rows.rows == 0) return;
  CHECK(cache.head_dim <= kHeadDimMax) << "heads of " << cache.head_dim << " elements";
  const int32_t heads = static_cast<int32_t>(q.cols / cache.head_dim);
  const Grid grid{dim3(static_cast<unsigned>(rows.rows), static_cast<unsigned>(heads)),
                  dim3(kPlainWarps * kWarpSize),
                  static_cast<size_t>(kPlainWarps * (2 + cache.head_dim)) * sizeof(float)};
  dispatch_floats(cache.dtype, [&](auto zero) {
    launch(context_, "attend", grid, attend_kernel<decltype(zero)>,
           static_cast<const float*>(q.data), q.row_stride, rows, cache, scale,
           static_cast<float*>(out.data), out.row_stride, heads / cache.kv_heads);
  });
}

}  // namespace trireme::cuda
