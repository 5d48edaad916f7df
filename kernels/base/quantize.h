// Quantized weights on the host, in a plain arrangement: what loaders make and every device takes
// (Device::write_quantized_rows).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"
#include "kernels/base/weight_format.h"

namespace trireme {

// Rows [rows, cols] of codes, one byte each whatever their width, and their scales
// [rows, format.groups(cols)]. Somebody else owns the memory.
struct QuantizedView {
  const uint8_t* codes = nullptr;
  int64_t code_stride = 0;  // bytes from one row to the next
  const GroupScale* scales = nullptr;
  int64_t scale_stride = 0;  // words from one row to the next
  int64_t rows = 0;
  int64_t cols = 0;
  WeightFormat format;

  const uint8_t* codes_of(int64_t row) const { return codes + row * code_stride; }
  const GroupScale* scales_of(int64_t row) const { return scales + row * scale_stride; }
  GroupScale scale_at(int64_t row, int64_t col) const {
    return scales_of(row)[format.group == 0 ? 0 : col / format.group];
  }
  QuantizedView row_range(int64_t first, int64_t count) const;
  // REQUIRES: `first` is a multiple of the group.
  QuantizedView col_range(int64_t first, int64_t count) const;
};

// The same, with its memory.
struct QuantizedRows {
  std::vector<uint8_t> codes;
  std::vector<GroupScale> scales;
  int64_t rows = 0;
  int64_t cols = 0;
  WeightFormat format;

  // All codes and scales 0.
  static QuantizedRows make(int64_t rows, int64_t cols, WeightFormat format);
  QuantizedView view() const;
};

// `source` in `format`, to the nearest code. int8: symmetric, the largest of a group is 127. int4:
// with a zero, and of a few ranges within that of a group the one with the least squared error.
// fp8: the largest of a group is 448. A row's result depends on that row alone.
// Error: kInvalidArgument names the place of a number that is not finite.
// REQUIRES: source is on the host, kF32, kBF16 or kF16; format is quantized.
Result<QuantizedRows> quantize(ConstTensorView source, WeightFormat format);

// The same elements with smaller groups. REQUIRES: `group` divides the old one, or the old one is
// a whole row.
QuantizedRows with_smaller_groups(const QuantizedView& from, int32_t group);

// Row `row` as f32.
void dequantize_row(const QuantizedView& from, int64_t row, float* to);

}  // namespace trireme
