// Quantized rows come back as the numbers that their format defines, in whatever pieces they were
// written, and no byte outside their rows changes.
#include "kernels/cpu/packed_quantized.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "kernels/base/tensor.h"
#include "kernels/cpu/packed_matrix.h"

namespace trireme {
namespace {

std::vector<WeightFormat> formats() {
  std::vector<WeightFormat> all;
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4, WeightType::kFp8}) {
    for (const int32_t group : {0, 32, 64, 128}) all.emplace_back(type, group);
  }
  return all;
}

QuantizedRows some_rows(int64_t rows, int64_t cols, WeightFormat format) {
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(3, i) * 0.1f;
  return quantize(ConstTensorView(values.data(), rows, cols, DType::kF32), format).take();
}

void expect_rows(const Buffer& packed, const QuantizedRows& q) {
  std::vector<float> got(static_cast<size_t>(q.cols)), want(got.size());
  for (int64_t r = 0; r < q.rows; ++r) {
    read_packed_quantized_row(packed.data(), q.rows, q.cols, q.format, r, got.data());
    dequantize_row(q.view(), r, want.data());
    ASSERT_EQ(got, want) << weight_format_name(q.format) << ", row " << r;
  }
}

TEST(PackedQuantized, RowsComeBackHoweverTheyWereWritten) {
  constexpr int64_t kRows = 70;
  for (const WeightFormat format : formats()) {
    for (int64_t cols : {int64_t{1}, kBlockK - 1, kBlockK, 2 * kBlockK + 9}) {
      // Codes and scales among other columns, as of a shard.
      const QuantizedRows wide = some_rows(kRows, cols + 256, format);
      const QuantizedView view = wide.view().col_range(128, cols);
      QuantizedRows plain = QuantizedRows::make(kRows, cols, format);
      for (int64_t r = 0; r < kRows; ++r) {
        std::copy_n(view.codes_of(r), cols, plain.codes.begin() + r * cols);
        std::copy_n(view.scales_of(r), format.groups(cols),
                    plain.scales.begin() + r * format.groups(cols));
      }
      const Buffer packed = allocate_host(packed_bytes(kRows, cols, format));
      for (int64_t first : {40, 0, 33}) {  // out of order, in pieces that cut panels
        const int64_t end = first == 40 ? kRows : first == 0 ? 33 : 40;
        write_packed_quantized_rows(packed.data(), kRows, cols, first,
                                    view.row_range(first, end - first));
      }
      expect_rows(packed, plain);
    }
  }
}

TEST(PackedQuantized, WritingOneRowChangesNoOther) {
  constexpr int64_t kRows = 64;
  constexpr int64_t kCols = 300;
  for (const WeightFormat format : formats()) {
    const Buffer packed = allocate_host(packed_bytes(kRows, kCols, format));
    const QuantizedRows one = some_rows(1, kCols, format);
    write_packed_quantized_rows(packed.data(), kRows, kCols, 17, one.view());
    QuantizedRows all = QuantizedRows::make(kRows, kCols, format);
    std::copy(one.codes.begin(), one.codes.end(), all.codes.begin() + 17 * kCols);
    std::copy(one.scales.begin(), one.scales.end(), all.scales.begin() + 17 * format.groups(kCols));
    expect_rows(packed, all);
  }
}

TEST(PackedQuantizedDeathTest, ZerosOfFp8AndOddGroups) {
  const Buffer packed = allocate_host(packed_bytes(32, 64, {WeightType::kInt8, 32}));
  QuantizedRows fp8 = QuantizedRows::make(1, 64, {WeightType::kFp8, 0});
  fp8.scales[0] = make_group_scale(1.0f, 3);
  EXPECT_DEATH(write_packed_quantized_rows(packed.data(), 32, 64, 0, fp8.view()), "no zeros");
  const QuantizedRows odd = QuantizedRows::make(1, 64, {WeightType::kInt8, 48});
  EXPECT_DEATH(write_packed_quantized_rows(packed.data(), 32, 64, 0, odd.view()), "groups of 48");
}

}  // namespace
}  // namespace trireme
