// Ops whose rows do not know of each other. All are bound by memory: a thread moves four floats at
// a time where rows are aligned for it.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/quantized.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

// A block for each row and each 256 words of it.
Grid elementwise_grid(int64_t rows, int64_t cols, int width, bool overlaps = false) {
  return {dim3(static_cast<unsigned>(rows),
               static_cast<unsigned>(ceil_div(cols, int64_t{kThreads} * width))),
          dim3(kThreads), 0, overlaps};
}

template <int N, class F>
__global__ void map2_kernel(Matrix32 a, Matrix32 b, MatrixOut32 y, int64_t cols, F f) {
  next_may_start();
  previous_done();
  const int64_t row = blockIdx.x;
  const int64_t col = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (col >= cols) return;
  const Pack<float, N> pa = load<N>(a.data + row * a.stride + col);
  const Pack<float, N> pb = load<N>(b.data + row * b.stride + col);
  Pack<float, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result.at[i] = f(pa.at[i], pb.at[i]);
  store_out<N>(y.data + row * y.stride + col, result);
}

// y = f(a, b), element by element; y may be a or b.
template <class F>
void map2(Context& context, const char* name, const ConstTensorView& a, const ConstTensorView& b,
          const TensorView& y, F f) {
  if (all_aligned4(a, b, y)) {
    launch(context, name, elementwise_grid(y.rows, y.cols, 4, true), map2_kernel<4, F>, matrix(a),
           matrix(b), matrix(y), y.cols, f);
  } else {
    launch(context, name, elementwise_grid(y.rows, y.cols, 1, true), map2_kernel<1, F>, matrix(a),
           matrix(b), matrix(y), y.cols, f);
  }
}

struct Add {
  __device__ float operator()(float x, float y) const { return y + x; }
};
struct Multiply {
  __device__ float operator()(float x, float y) const { return y * x; }
};
struct Swiglu {
  __device__ float operator()(float gate, float up) const { return cuda::swiglu(gate, up); }
};
struct Activate {
  Activation kind;
  __device__ float operator()(float x, float) const { return activated(kind, x); }
};

template <class W>
__global__ void embed_kernel(const W* table, int64_t table_rows, int64_t table_stride,
                             const int32_t* ids, int32_t first_id, float scale, MatrixOut32 y,
                             int64_t cols) {
  const int64_t row = blockIdx.x;
  const int64_t col = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (col >= cols) return;
  const int64_t id = int64_t{ids[row]} - first_id;
  const bool mine = id >= 0 && id < table_rows;
  y.data[row * y.stride + col] = mine ? scale * to_float(table[id * table_stride + col]) : 0.0f;
}

template <class Q>
__global__ void embed_quantized_kernel(const uint8_t* codes, const unsigned* scales,
                                       int64_t table_rows, int64_t stride, int shift,
                                       const int32_t* ids, int32_t first_id, float scale,
                                       MatrixOut32 y, int64_t cols) {
  const int64_t row = blockIdx.x;
  const int64_t col = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (col >= cols) return;
  const int64_t id = int64_t{ids[row]} - first_id;
  const bool mine = id >= 0 && id < table_rows;
  y.data[row * y.stride + col] =
      mine ? scale *
                 element_of<Q>(codes + id * stride, col, scales[(col >> shift) * table_rows + id])
           : 0.0f;
}

__global__ void gather_kernel(Matrix32 x, const int32_t* indices, MatrixOut32 y, int64_t cols) {
  next_may_start();
  previous_done();
  const int64_t row = blockIdx.x;
  const int64_t col = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (col < cols) y.data[row * y.stride + col] = x.data[indices[row] * x.stride + col];
}

// In place: a thread moves its column down, in order of the rows. A row's source lies at or below
// it, so that what is read before a batch of eight is written was not written before.
__global__ void gather_in_place_kernel(MatrixOut32 x, const int32_t* indices, int32_t count,
                                       int64_t cols) {
  constexpr int kBatch = 8;
  const int64_t col = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= cols) return;
  for (int32_t first = 0; first < count; first += kBatch) {
    float moved[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i < count) moved[i] = x.data[indices[first + i] * x.stride + col];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i < count) x.data[(first + i) * x.stride + col] = moved[i];
    }
  }
}

__global__ void rope_table_kernel(const int32_t* positions, const float* inverse_frequencies,
                                  int64_t n, float scale, MatrixOut32 y) {
  const int64_t row = blockIdx.x;
  const int64_t i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i >= n) return;
  const float angle = static_cast<float>(positions[row]) * inverse_frequencies[i];
  y.data[row * y.stride + i] = cosf(angle) * scale;
  y.data[row * y.stride + n + i] = sinf(angle) * scale;
}

// A thread for each pair: `half` pairs of each head.
__global__ void rope_kernel(Matrix32 cos_sin, bool interleaved, int32_t head_dim, int64_t half,
                            int64_t pairs, MatrixOut32 x) {
  next_may_start();
  previous_done();
  const int64_t row = blockIdx.x;
  const int64_t pair = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (pair >= pairs) return;
  const int64_t i = pair % half;
  float* head = x.data + row * x.stride + pair / half * head_dim;
  float* p0 = head + (interleaved ? 2 * i : i);
  float* p1 = head + (interleaved ? 2 * i + 1 : i + half);
  const float cosine = cos_sin.data[row * cos_sin.stride + i];
  const float sine = cos_sin.data[row * cos_sin.stride + half + i];
  const float x0 = *p0, x1 = *p1;
  *p0 = x0 * cosine - x1 * sine;
  *p1 = x1 * cosine + x0 * sine;
}

}  // namespace

void CudaOps::embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
                    float scale, TensorView y) {
  const Grid grid = elementwise_grid(count, y.cols, 1);
  if (table.format.quantized()) {
    const QuantizedLayout layout{table.format, table.rows, table.cols};
    const auto* codes = static_cast<const uint8_t*>(table.data);
    dispatch_quantized(table.format.type, [&](auto type) {
      launch(context_, "embed", grid, embed_quantized_kernel<decltype(type)>, codes,
             reinterpret_cast<const unsigned*>(codes + layout.scales_at()), table.rows,
             layout.stride(), group_shift(table.format), ids, first_id, scale, matrix(y), y.cols);
    });
    return;
  }
  const int64_t stride = weight_stride(table.cols);
  dispatch_floats(table.format.dtype(), [&](auto zero) {
    using W = decltype(zero);
    launch(context_, "embed", grid, embed_kernel<W>, static_cast<const W*>(table.data), table.rows,
           stride, ids, first_id, scale, matrix(y), y.cols);
  });
}

void CudaOps::add(ConstTensorView x, TensorView y) { map2(context_, "add", x, y, y, Add{}); }
void CudaOps::multiply(ConstTensorView x, TensorView y) {
  map2(context_, "multiply", x, y, y, Multiply{});
}
void CudaOps::activate(Activation kind, ConstTensorView x, TensorView y) {
  map2(context_, "activate", x, x, y, Activate{kind});
}
void CudaOps::swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) {
  map2(context_, "swiglu", gate, up, y, Swiglu{});
}

void CudaOps::gather_rows(ConstTensorView x, const int32_t* indices, int32_t count, TensorView y) {
  if (count == 0) return;
  if (x.data == y.data) {
    launch(context_, "gather_rows",
           {dim3(static_cast<unsigned>(ceil_div(y.cols, kThreads))), dim3(kThreads)},
           gather_in_place_kernel, matrix(y), indices, count, y.cols);
  } else {
    launch(context_, "gather_rows", elementwise_grid(count, y.cols, 1, true), gather_kernel,
           matrix(x), indices, matrix(y), y.cols);
  }
}

void CudaOps::rope_table(const int32_t* positions, int32_t rows,
                         ConstTensorView inverse_frequencies, float scale, TensorView cos_sin) {
  const int64_t n = inverse_frequencies.cols;
  launch(context_, "rope_table", elementwise_grid(rows, n, 1), rope_table_kernel, positions,
         static_cast<const float*>(inverse_frequencies.data), n, scale, matrix(cos_sin));
}

void CudaOps::rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) {
  const int64_t half = cos_sin.cols / 2;
  const int64_t pairs = x.cols / head_dim * half;
  launch(context_, "rope", elementwise_grid(x.rows, pairs, 1, true), rope_kernel, matrix(cos_sin),
         style == RopeStyle::kInterleaved, head_dim, half, pairs, matrix(x));
}

}  // namespace trireme::cuda
