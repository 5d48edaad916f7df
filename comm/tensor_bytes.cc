#include "comm/tensor_bytes.h"

#include <algorithm>
#include <cstring>

namespace trireme {
namespace {

template <class Byte, class View>
Byte* byte_at(const View& x, int64_t row, int64_t byte_col) {
  return static_cast<Byte*>(x.data) + row * x.row_stride * int64_t(dtype_bytes(x.dtype)) + byte_col;
}

}  // namespace

int64_t tensor_bytes(const ConstTensorView& x) {
  return x.rows * x.cols * int64_t(dtype_bytes(x.dtype));
}

void copy_bytes_out(const ConstTensorView& x, int64_t first, int64_t bytes, std::byte* to) {
  for_each_run(x.cols * int64_t(dtype_bytes(x.dtype)), x.contiguous(), first, bytes,
               [&](int64_t row, int64_t col, int64_t count, int64_t done) {
                 std::memcpy(to + done, byte_at<const std::byte>(x, row, col), size_t(count));
               });
}

void copy_bytes_in(const std::byte* from, int64_t first, int64_t bytes, const TensorView& x) {
  for_each_run(x.cols * int64_t(dtype_bytes(x.dtype)), x.contiguous(), first, bytes,
               [&](int64_t row, int64_t col, int64_t count, int64_t done) {
                 std::memcpy(byte_at<std::byte>(x, row, col), from + done, size_t(count));
               });
}

void copy_tensor(const ConstTensorView& from, const TensorView& to) {
  if (from.data == to.data) return;
  for_each_run(from.cols * int64_t(dtype_bytes(from.dtype)), from.contiguous() && to.contiguous(),
               0, tensor_bytes(from), [&](int64_t row, int64_t col, int64_t count, int64_t) {
                 std::memcpy(byte_at<std::byte>(to, row, col),
                             byte_at<const std::byte>(from, row, col), size_t(count));
               });
}

void sum_in_rank_order(const float* const* parts, int ranks, int64_t count, float* out) {
  if (ranks == 1) {
    if (out != parts[0]) std::memcpy(out, parts[0], size_t(count) * sizeof(float));
    return;
  }
  // Sums of a block stay in a local array, which nothing can alias: the loops vectorize, and `out`
  // may be any of the parts.
  constexpr int64_t kBlock = 512;
  float sums[kBlock];
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t n = std::min(kBlock, count - first);
    const float* a = parts[0] + first;
    const float* b = parts[1] + first;
    for (int64_t i = 0; i < n; ++i) sums[i] = a[i] + b[i];
    for (int r = 2; r < ranks; ++r) {
      const float* c = parts[r] + first;
      for (int64_t i = 0; i < n; ++i) sums[i] += c[i];
    }
    std::memcpy(out + first, sums, size_t(n) * sizeof(float));
  }
}

}  // namespace trireme
