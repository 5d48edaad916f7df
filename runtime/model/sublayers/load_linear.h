// A slice of one matrix of the checkpoint as a Linear without a bias: what most sublayers load.
#pragma once

#include "parallel/sharded_linear.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

// `name` is what the sublayer calls the tensor; the matrix is [rows, cols] = [outputs, inputs] as a
// whole.
inline Result<Linear> load_linear(const SublayerContext& context, std::string_view name,
                                  int64_t rows, int64_t cols, Range row_range, Range col_range) {
  Result<Matrix> matrix =
      context.weights.matrix(WeightSlice{context.name(name), rows, cols, row_range, col_range});
  if (!matrix.ok()) return matrix.status();
  return Linear(context.device.ops(), matrix.take());
}

}  // namespace trireme
