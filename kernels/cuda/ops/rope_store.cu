// Rotates queries and keys and stores keys and values, in one pass over a step's rows.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/cache.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

struct RopeStore {
  Matrix32 cos_sin;
  int32_t half;  // pairs of a head that are rotated
  bool interleaved;
  MatrixOut32 q, k;
  Matrix32 v;
  int32_t heads;           // of q
  int32_t pairs_per_head;  // all elements of a head, two by two
};

// The two elements of a head that its pair `i` stands for: a rotated pair, or neighbours beyond.
struct Pair {
  int32_t first, second;
};
__device__ __forceinline__ Pair pair_of(const RopeStore& c, int32_t i) {
  if (i >= c.half) return {2 * i, 2 * i + 1};
  return c.interleaved ? Pair{2 * i, 2 * i + 1} : Pair{i, i + c.half};
}

// A thread for each pair of each head of q, of k and of v. It knows where in the cache its pair
// goes, four loads one after the other, before the kernel before ends.
template <class T>
__global__ void rope_store_kernel(RopeStore c, Ragged rows, KvView cache) {
  next_may_start();
  const int row = static_cast<int>(blockIdx.x);
  const int32_t unit = static_cast<int32_t>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  const int32_t head = quotient(unit, c.pairs_per_head), i = unit - head * c.pairs_per_head;
  const bool mine = head < c.heads + 2 * cache.kv_heads;
  const bool is_q = head < c.heads, is_k = !is_q && head < c.heads + cache.kv_heads;
  const int32_t kv_head = is_q ? 0 : head - c.heads - (is_k ? 0 : cache.kv_heads);
  const Pair pair = is_q || is_k ? pair_of(c, i) : Pair{2 * i, 2 * i + 1};
  const bool two = pair.second < cache.head_dim;
  T* to = nullptr;
  const int sequence = is_q || !mine ? -1 : sequence_of(rows, row);
  if (sequence >= 0) {
    const SequenceCache here = sequence_cache(cache, sequence);
    to = here.key<T>(rows.positions[row], kv_head) + (is_k ? 0 : here.value_offset());
  }
  previous_done();
  if (!mine) return;
  float x0 = 0.0f, x1 = 0.0f;
  if (is_q || is_k) {
    float* x = (is_q ? c.q.row(row) + int64_t{head} * cache.head_dim
                     : c.k.row(row) + int64_t{kv_head} * cache.head_dim);
    const bool turned = i < c.half;
    const float* cos_sin = c.cos_sin.row(row);
    x0 = x[pair.first];
    if (two) x1 = x[pair.second];
    const float cosine = turned ? cos_sin[i] : 1.0f, sine = turned ? cos_sin[c.half + i] : 0.0f;
    if (turned) {
      const float rotated = x0 * cosine - x1 * sine;
      x1 = x1 * cosine + x0 * sine;
      x0 = rotated;
      x[pair.first] = x0;
      x[pair.second] = x1;
    }
  } else {
    const float* v = c.v.row(row) + int64_t{kv_head} * cache.head_dim;
    x0 = v[pair.first];
    if (two) x1 = v[pair.second];
  }
  if (to == nullptr) return;
  to[pair.first] = from_float<T>(x0);
  if (two) to[pair.second] = from_float<T>(x1);
}

}  // namespace

void CudaOps::rope_store(ConstTensorView cos_sin, RopeStyle style, TensorView q, TensorView k,
                         ConstTensorView v, const Ragged& rows, const KvView& cache) {
  RopeStore c;
  c.cos_sin = matrix(cos_sin);
  c.half = static_cast<int32_t>(cos_sin.cols / 2);
  c.interleaved = style == RopeStyle::kInterleaved;
  c.q = matrix(q);
  c.k = matrix(k);
  c.v = matrix(v);
  c.heads = static_cast<int32_t>(q.cols / cache.head_dim);
  c.pairs_per_head = (cache.head_dim + 1) / 2;
  const int64_t units = int64_t{c.heads + 2 * cache.kv_heads} * c.pairs_per_head;
  const Grid grid{
      dim3(static_cast<unsigned>(rows.rows), static_cast<unsigned>(ceil_div(units, kThreads))),
      dim3(kThreads), 0, store_overlaps(rows)};
  dispatch_floats(cache.dtype, [&](auto zero) {
    launch(context_, "rope_store", grid, rope_store_kernel<decltype(zero)>, c, rows, cache);
  });
}

}  // namespace trireme::cuda
