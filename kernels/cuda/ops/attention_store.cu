// store_kv: rounds new keys and values to the format of the cache, each into its block.
//
// A thread for each element: f32 in, coalesced; the cache's rows of head_dim elements out.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/cache.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void store_kernel(const float* k, int64_t k_stride, const float* v, int64_t v_stride,
                             Ragged rows, KvView cache) {
  next_may_start();
  previous_done();
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

}  // namespace

void CudaOps::store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                       const KvView& cache) {
  const Grid grid{
      dim3(static_cast<unsigned>(rows.rows), static_cast<unsigned>(ceil_div(k.cols, kThreads))),
      dim3(kThreads), 0, store_overlaps(rows)};
  dispatch_floats(cache.dtype, [&](auto zero) {
    launch(context_, "store_kv", grid, store_kernel<decltype(zero)>,
           static_cast<const float*>(k.data), k.row_stride, static_cast<const float*>(v.data),
           v.row_stride, rows, cache);
  });
}

}  // namespace trireme::cuda
