// A tensor as the string of its rows' bytes, whatever its row stride: what communicators cut into
// pieces and put together again. And the one loop that adds ranks' parts. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/tensor.h"

namespace trireme {

int64_t tensor_bytes(const ConstTensorView& x);

// to[0, bytes) = bytes [first, first + bytes) of x.
void copy_bytes_out(const ConstTensorView& x, int64_t first, int64_t bytes, std::byte* to);

// Bytes [first, first + bytes) of x = from[0, bytes).
void copy_bytes_in(const std::byte* from, int64_t first, int64_t bytes, const TensorView& x);

// REQUIRES: rows, cols and dtype are equal; the two are the same memory or do not overlap.
void copy_tensor(const ConstTensorView& from, const TensorView& to);

// out[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ... in f32, for i in [0, count).
// `out` may be one of the parts. REQUIRES: ranks >= 1.
void sum_in_rank_order(const float* const* parts, int ranks, int64_t count, float* out);

// Calls run(row, col, count, done) for the pieces of whole or partial rows that make up elements
// [first, first + total) of a matrix of `cols` columns; `done` elements came before.
// One piece when `contiguous`.
template <class Run>
void for_each_run(int64_t cols, bool contiguous, int64_t first, int64_t total, Run run) {
  if (total <= 0) return;
  if (contiguous) return run(first / cols, first % cols, total, int64_t{0});
  for (int64_t done = 0; done < total;) {
    const int64_t row = (first + done) / cols, col = (first + done) % cols;
    const int64_t count = cols - col < total - done ? cols - col : total - done;
    run(row, col, count, done);
    done += count;
  }
}

}  // namespace trireme
