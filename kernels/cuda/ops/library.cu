// Products of many rows, on tensor cores by a library. Around it: rows are written down in the
// weights' format, with what an op before would have done to them, and products get their bias and
// epilogue; for all calls of a group at once.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

struct Narrows {
  Narrow each[kCallsMax];
};

// Blocks for each row of each call, which share its columns; a thread writes 16 bytes at a time.
template <class W, bool kWide>
__global__ void narrow_kernel(const __grid_constant__ Narrows all) {
  next_may_start();
  previous_done();
  const Narrow& n = all.each[blockIdx.y];
  const Call& c = n.call;
  const int64_t row = blockIdx.x;
  const float* x = c.x + row * c.x_stride;
  W* y = static_cast<W*>(n.rows) + row * n.stride;
  float scale = 1.0f;
  if (n.scales != nullptr) {
    scale = scale_for_f16(row_max(c, x));  // bf16 has the range of f32
    if (threadIdx.x == 0) n.scales[row] = 1.0f / scale;
  }
  constexpr int kEach = 16 / static_cast<int>(sizeof(W));
  for (int64_t first = (int64_t{blockIdx.z} * blockDim.x + threadIdx.x) * kEach; first < n.stride;
       first += int64_t{gridDim.z} * blockDim.x * kEach) {
    Pack<float, 4> fours[kEach / 4];
    fours_of<kWide>(c, x, first, 4, fours);
    float values[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) values[i] = fours[i / 4].at[i % 4] * scale;
    store_out<kEach>(y + first, rounded<W>(values));
  }
}

// y = epilogue(y * scale of the row * factor of the output + bias), for calls that have any of
// them; a thread has N outputs.
template <int N>
__global__ void finish_kernel(const __grid_constant__ Narrows all) {
  next_may_start();
  const Narrow& n = all.each[blockIdx.z];
  const Call& c = n.call;
  const int64_t row = blockIdx.x;
  const int64_t col = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (col >= c.outputs) return nothing_to_do();
  float bias[N], factors[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    bias[i] = bias_of(c, col + i);
    factors[i] = n.factors == nullptr ? 1.0f : n.factors[col + i];
  }
  float* at = c.y + row * c.y_stride + col;
  previous_done();
  Pack<float, N> y = load<N>(at);
  const float scale = n.scales == nullptr ? 1.0f : n.scales[row];
#pragma unroll
  for (int i = 0; i < N; ++i) y.at[i] = y.at[i] * (scale * factors[i]) + bias[i];
  finish(c, y.at);
  store_out<N>(at, y);
}

// Rows that the library reads where they are.
bool needs_no_copy(DType dtype, const Call& c) {
  return dtype == DType::kF32 && c.prologue == Prologue::kNone && aligned4(c.x, c.x_stride);
}

size_t aligned_bytes(size_t bytes) { return (bytes + 255) / 256 * 256; }
size_t rows_bytes(const Call& c, size_t element_bytes) {
  return aligned_bytes(static_cast<size_t>(c.rows * weight_stride(c.inputs)) * element_bytes);
}
size_t scales_bytes(const Call& c) {
  return aligned_bytes(static_cast<size_t>(c.rows) * sizeof(float));
}

// Whether both are the same numbers once they are written down.
bool same_rows(const Call& a, const Call& b) {
  return a.x == b.x && a.x_stride == b.x_stride && a.inputs == b.inputs && a.prologue == b.prologue;
}

// What the op before has left of a call's rows.
LeftOut left_of(const Context& context, DType dtype, const Call& c) {
  if (dtype != DType::kBF16 || c.prologue != Prologue::kNone) return {};
  return context.left().find(c.x, c.x_stride, c.rows, c.inputs);
}

// Writes down the rows of the calls that need it, each once, at `scratch`.
template <class W>
void narrow_to(Context& context, DType dtype, std::span<Narrow> each, std::byte* scratch) {
  Narrows group{};
  unsigned count = 0;
  bool wide = true;
  for (Narrow& n : each) {
    if (needs_no_copy(dtype, n.call)) {
      n.rows = const_cast<float*>(n.call.x);  // only read
      n.stride = n.call.x_stride;
      continue;
    }
    if (const LeftOut left = left_of(context, dtype, n.call); left.data != nullptr) {
      n.rows = left.data;
      n.stride = left.stride;
      continue;
    }
    n.stride = weight_stride(n.call.inputs);
    const auto same = std::find_if(group.each, group.each + count,
                                   [&](const Narrow& m) { return same_rows(m.call, n.call); });
    if (same != group.each + count) {
      n.rows = same->rows;
      n.scales = same->scales;
      continue;
    }
    n.rows = scratch;
    scratch += rows_bytes(n.call, sizeof(W));
    if (dtype == DType::kF16) n.scales = reinterpret_cast<float*>(scratch);
    scratch += scales_bytes(n.call);
    wide = wide && aligned4(n.call.x, n.call.x_stride) && n.call.inputs % 4 == 0;
    group.each[count++] = n;
  }
  if (count == 0) return;
  // A row is one block's work where its largest number is asked for: of all threads there are where
  // rows are few. Else a thread has one word.
  const int64_t rows = each.front().call.rows;
  int64_t stride = 0;
  for (unsigned i = 0; i < count; ++i) stride = std::max(stride, group.each[i].stride);
  constexpr int64_t kBlockNumbers = kThreads * (16 / static_cast<int64_t>(sizeof(W)));
  const bool whole = dtype == DType::kF16;
  const int64_t blocks = whole ? 1 : ceil_div(stride, kBlockNumbers);
  const unsigned threads = whole && rows <= context.multiprocessors() ? 1024 : kThreads;
  const Grid grid{dim3(static_cast<unsigned>(rows), count, static_cast<unsigned>(blocks)),
                  dim3(threads), kWarpSize * sizeof(float), true};
  launch(context, "linear", grid, wide ? narrow_kernel<W, true> : narrow_kernel<W, false>, group);
}

}  // namespace

Product product_of(const Call& c) {
  Product p;
  p.y = c.y;
  p.y_stride = c.y_stride;
  p.rows = c.rows;
  p.inputs = c.inputs;
  p.outputs = c.outputs;
  return p;
}

Product product_of(const Narrow& n, DType dtype) {
  Product p = product_of(n.call);
  p.type = WeightFormat(dtype).type;
  p.x = n.rows;
  p.x_stride = n.stride;
  p.w = n.call.w;
  p.w_stride = n.call.w_stride;
  return p;
}

LeftRows room_for_low_rank(Context& context, std::span<const Call> calls) {
  // At least so many times more inputs than outputs: less than any product has whose outputs are
  // summed up over ranks.
  constexpr int64_t kLowRank = 8;
  const Call& last = calls.back();
  if (context.left().by == LeftBy::kProduct || last.outputs * kLowRank > last.inputs) return {};
  float *begin = last.y, *end = last.y + last.outputs;
  int64_t outputs = 0;
  for (const Call& c : calls) {
    // Within a row of the last call's, on whichever side.
    const bool beside = c.y_stride == last.y_stride && c.outputs * kLowRank <= c.inputs &&
                        std::max(end, c.y + c.outputs) - std::min(begin, c.y) <= last.y_stride;
    if (!beside) continue;
    begin = std::min(begin, c.y);
    end = std::max(end, c.y + c.outputs);
    outputs += c.outputs;
  }
  if (outputs != end - begin) return {};  // between them are numbers that nobody leaves
  return room_for_left(context, {begin, last.rows, end - begin, last.y_stride}, LeftBy::kProduct);
}

std::byte* narrow_rows(Context& context, DType dtype, std::span<Narrow> each, size_t more_bytes) {
  size_t bytes = 0;
  for (const Narrow& n : each)
    bytes += rows_bytes(n.call, dtype_bytes(dtype)) + scales_bytes(n.call);
  auto* scratch = static_cast<std::byte*>(context.scratch(bytes + more_bytes));
  if (scratch == nullptr) return nullptr;  // the context holds the error
  context.want_left(dtype == DType::kBF16);
  dispatch_floats(dtype,
                  [&](auto zero) { narrow_to<decltype(zero)>(context, dtype, each, scratch); });
  return scratch + bytes;
}

void finish_products(Context& context, std::span<const Narrow> each) {
  Narrows group{};
  unsigned count = 0;
  int64_t outputs = 0;
  bool wide = true;
  for (const Narrow& n : each) {
    const Call& c = n.call;
    if (n.scales == nullptr && n.factors == nullptr && c.bias == nullptr &&
        c.epilogue == Epilogue::kNone)
      continue;
    outputs = std::max(outputs, c.outputs);
    wide = wide && aligned4(c.y, c.y_stride) && c.outputs % 4 == 0;
    group.each[count++] = n;
  }
  if (count == 0) return;
  const int64_t each_thread = wide ? 4 : 1;
  const Grid grid{dim3(static_cast<unsigned>(each.front().call.rows),
                       static_cast<unsigned>(ceil_div(outputs, kThreads * each_thread)), count),
                  dim3(kThreads), 0, true};
  launch(context, "linear", grid, wide ? finish_kernel<4> : finish_kernel<1>, group);
}

void library_products(Context& context, Gemm& gemm, DType dtype, std::span<const Call> calls) {
  Narrow each[kCallsMax] = {};
  for (size_t i = 0; i < calls.size(); ++i) each[i].call = calls[i];
  if (narrow_rows(context, dtype, {each, calls.size()}, 0) == nullptr) return;
  size_t count = 0;  // of those that the library has multiplied
  for (size_t i = 0; i < calls.size(); ++i) {
    if (aligned4(each[i].call.y, each[i].call.y_stride) &&
        gemm.multiply(context, product_of(each[i], dtype))) {
      each[count++] = each[i];
    } else {
      tiled_product(context, dtype, calls[i]);
    }
  }
  finish_products(context, {each, count});
}

}  // namespace trireme::cuda
