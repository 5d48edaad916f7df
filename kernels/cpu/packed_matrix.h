// The layout of a weight matrix on the CPU: what linear() streams.
//
// A matrix of [rows outputs, cols inputs] is cut into k-blocks of kBlockK inputs (the last may be
// shorter) and panels of kPanelRows outputs (the last is padded with zeros):
//
//   [k-block][panel][k within the block][32 outputs]
//
// so that a thread which owns neighbouring panels reads one contiguous stream per k-block. Within
// the 32 outputs of one k, bf16 interleaves outputs j and j + 16 as the low and high half of 32
// bits: to f32 it is one shift, one mask. f32 and f16 lie in order. What a panel's k-block looks
// like where weights are quantized, packed_quantized.h says.
//
// Who calls it: CpuDevice (make_matrix, write_rows), linear.cc. Any thread; writers of different
// rows may run at once except that bf16 rows j and j + 16 of a panel share no bytes either, so
// rows are independent.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/tensor.h"
#include "kernels/base/weight_format.h"

namespace trireme {

constexpr int64_t kPanelRows = 32;
constexpr int64_t kBlockK = 256;  // also the grid on which linear() sums: part of its numerics

constexpr int64_t panels_of(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// Inputs whose codes of one output share a word (packed_quantized.h).
constexpr int64_t inputs_per_word(WeightType type) {
  return type == WeightType::kInt4 ? 8 : type == WeightType::kInt8 ? 4 : 2;
}

// Bytes of one panel's k-block of `k` inputs: of a quantized one, its scales, then its codes in
// whole words.
constexpr int64_t panel_block_bytes(WeightFormat format, int64_t k) {
  if (!format.quantized())
    return kPanelRows * k * static_cast<int64_t>(dtype_bytes(format.dtype()));
  const int64_t inputs = inputs_per_word(format.type);
  const int64_t codes = (k + inputs - 1) / inputs * inputs * weight_bits(format.type) / 8;
  return kPanelRows * (codes + format.groups(k) * static_cast<int64_t>(sizeof(GroupScale)));
}

// Where a panel's part of the k-block that begins at input k_begin lies, in bytes from the
// beginning. REQUIRES: k_begin is a multiple of kBlockK.
constexpr int64_t panel_block_offset(int64_t rows, int64_t cols, WeightFormat format, int64_t panel,
                                     int64_t k_begin) {
  const int64_t k = cols - k_begin < kBlockK ? cols - k_begin : kBlockK;
  return k_begin / kBlockK * panels_of(rows) * panel_block_bytes(format, kBlockK) +
         panel * panel_block_bytes(format, k);
}

// Bytes of a packed matrix, padding included.
constexpr size_t packed_bytes(int64_t rows, int64_t cols, WeightFormat format) {
  const int64_t rest = cols % kBlockK;
  return static_cast<size_t>(
      panels_of(rows) *
      (cols / kBlockK * panel_block_bytes(format, kBlockK) + panel_block_bytes(format, rest)));
}

// Where element (row, col) lies, in elements from the beginning. REQUIRES: dtype is kF32, kBF16 or
// kF16.
constexpr int64_t packed_index(int64_t rows, int64_t cols, DType dtype, int64_t row, int64_t col) {
  const int64_t block = col / kBlockK;
  const int64_t block_cols = cols - block * kBlockK < kBlockK ? cols - block * kBlockK : kBlockK;
  const int64_t panel = row / kPanelRows;
  const int64_t lane = row % kPanelRows;
  const int64_t place = dtype == DType::kBF16 ? (lane % 16) * 2 + lane / 16 : lane;
  return block * kBlockK * panels_of(rows) * kPanelRows +
         (panel * block_cols + col % kBlockK) * kPanelRows + place;
}

// Fills rows [first_row, first_row + source.rows) of a packed [rows, cols] matrix of `dtype`,
// rounding to nearest even. Padding is not written: `data` must have been zeroed once.
// REQUIRES: source is on the host, kF32, kBF16 or kF16, [n, cols], maybe strided.
void write_packed_rows(void* data, int64_t rows, int64_t cols, DType dtype, int64_t first_row,
                       ConstTensorView source);

// Elements [first_col, first_col + count) of row `row`, as f32.
void read_packed_row(const void* data, int64_t rows, int64_t cols, DType dtype, int64_t row,
                     int64_t first_col, int64_t count, float* to);

}  // namespace trireme
