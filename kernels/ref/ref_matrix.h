// How the reference device keeps a weight matrix: row after row; of a quantized one the codes, a
// byte each, then the scales.
#pragma once

#include "kernels/base/quantize.h"
#include "kernels/ops.h"

namespace trireme {

constexpr int64_t ref_code_bytes(int64_t rows, int64_t cols) { return (rows * cols + 3) / 4 * 4; }

constexpr size_t ref_matrix_bytes(int64_t rows, int64_t cols, WeightFormat format) {
  if (!format.quantized()) return static_cast<size_t>(rows * cols) * dtype_bytes(format.dtype());
  return static_cast<size_t>(ref_code_bytes(rows, cols) +
                             rows * format.groups(cols) * int64_t{sizeof(GroupScale)});
}

// REQUIRES: w is quantized.
inline QuantizedView ref_quantized(const WeightView& w) {
  const auto* codes = static_cast<const uint8_t*>(w.data);
  const auto* scales = reinterpret_cast<const GroupScale*>(codes + ref_code_bytes(w.rows, w.cols));
  return {codes, w.cols, scales, w.format.groups(w.cols), w.rows, w.cols, w.format};
}

inline float ref_weight(const WeightView& w, int64_t row, int64_t col) {
  if (!w.format.quantized())
    return load_f32(w.data, w.format.dtype(), static_cast<size_t>(row * w.cols + col));
  const QuantizedView q = ref_quantized(w);
  return decode_weight(w.format.type, q.codes_of(row)[col], q.scale_at(row, col));
}

}  // namespace trireme
