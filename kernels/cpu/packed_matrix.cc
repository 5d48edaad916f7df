#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"

namespace trireme {
namespace {

// Distance in elements between two neighbouring inputs of one output, inside a k-block.
constexpr int64_t kStep = kPanelRows;

// One output's part of one k-block: to[i * kStep] = from[i], converted.
void scatter_block(const std::byte* from, DType from_dtype, int64_t count, std::byte* to,
                   DType to_dtype) {
  // Through a small buffer, so that conversion is one tight loop whatever the pair of dtypes.
  std::byte converted[kBlockK * 4];
  convert_floats(from, from_dtype, converted, to_dtype, static_cast<size_t>(count));
  if (to_dtype == DType::kF32) {
    for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * kStep * 4, converted + i * 4, 4);
  } else {
    for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * kStep * 2, converted + i * 2, 2);
  }
}

}  // namespace

void write_packed_rows(void* data, int64_t rows, int64_t cols, DType dtype, int64_t first_row,
                       ConstTensorView source) {
  CHECK(source.cols == cols && first_row >= 0 && first_row + source.rows <= rows)
      << "rows " << first_row << " + " << source.rows << " x " << source.cols << " of " << rows
      << " x " << cols;
  auto* to = static_cast<std::byte*>(data);
  const auto bytes = static_cast<int64_t>(dtype_bytes(dtype));
  const auto source_bytes = static_cast<int64_t>(dtype_bytes(source.dtype));
  // Output by output within a k-block: the writes of 32 neighbours meet in cache.
  for (int64_t panel_row = 0; panel_row < source.rows; panel_row += kPanelRows) {
    const int64_t panel_end = std::min(panel_row + kPanelRows, source.rows);
    for (int64_t col = 0; col < cols; col += kBlockK) {
      const int64_t count = std::min(kBlockK, cols - col);
      for (int64_t row = panel_row; row < panel_end; ++row) {
        const std::byte* from = static_cast<const std::byte*>(source.data) +
                                (row * source.row_stride + col) * source_bytes;
        const int64_t place = packed_index(rows, cols, dtype, first_row + row, col);
        scatter_block(from, source.dtype, count, to + place * bytes, dtype);
      }
    }
  }
}

void read_packed_row(const void* data, int64_t rows, int64_t cols, DType dtype, int64_t row,
                     int64_t first_col, int64_t count, float* to) {
  CHECK(row >= 0 && row < rows && first_col >= 0 && count >= 0 && first_col + count <= cols);
  for (int64_t col = first_col; col < first_col + count;) {
    const int64_t block_end = std::min((col / kBlockK + 1) * kBlockK, first_col + count);
    const int64_t place = packed_index(rows, cols, dtype, row, col);
    float* block = to + (col - first_col);
    if (dtype == DType::kBF16) {  // the usual one, without a call per element
      const uint16_t* from = static_cast<const uint16_t*>(data) + place;
      for (int64_t i = 0; i < block_end - col; ++i) block[i] = bf16_to_f32(from[i * kStep]);
    } else {
      for (int64_t i = 0; i < block_end - col; ++i) {
        block[i] = load_f32(data, dtype, static_cast<size_t>(place + i * kStep));
      }
    }
    col = block_end;
  }
}

}  // namespace trireme
