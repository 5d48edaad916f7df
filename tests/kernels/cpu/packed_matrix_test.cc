// Rows written into the packed layout come back as their dtype rounds them, in whatever pieces and
// from whatever dtype they were written, and no byte outside their rows changes.
#include "kernels/cpu/packed_matrix.h"

#include <cstring>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"

namespace trireme {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

// What `value` becomes on its way through `first` and `second`.
float rounded(float value, DType first, DType second) {
  uint32_t bits = 0;
  store_f32(&bits, first, 0, value);
  store_f32(&bits, second, 0, load_f32(&bits, first, 0));
  return load_f32(&bits, second, 0);
}

TEST(PackedMatrix, EveryElementHasItsOwnPlace) {
  for (DType dtype : kFloats) {
    constexpr int64_t kRows = 45;
    constexpr int64_t kCols = 2 * kBlockK + 9;
    std::set<int64_t> places;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t col = 0; col < kCols; ++col) {
        const int64_t place = packed_index(kRows, kCols, dtype, row, col);
        EXPECT_GE(place, 0);
        EXPECT_LT((static_cast<size_t>(place) + 1) * dtype_bytes(dtype) - 1,
                  packed_bytes(kRows, kCols, dtype));
        places.insert(place);
      }
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(kRows * kCols));
  }
}

TEST(PackedMatrix, RowsComeBackRoundedHoweverTheyWereWritten) {
  constexpr int64_t kRows = 70;
  for (int64_t cols : {int64_t{1}, kBlockK - 1, kBlockK, 2 * kBlockK + 9}) {
    for (DType from : kFloats) {
      for (DType to : kFloats) {
        const int64_t stride = cols + 5;
        std::vector<float> values(static_cast<size_t>(kRows * stride));
        for (size_t i = 0; i < values.size(); ++i) values[i] = normal(3, i) * 0.1f;
        std::vector<uint32_t> source(values.size());
        convert_floats(values.data(), DType::kF32, source.data(), from, values.size());
        const Buffer packed = allocate_host(packed_bytes(kRows, cols, to));
        for (int64_t first : {40, 0, 33}) {  // out of order, in pieces that cut panels
          const int64_t end = first == 40 ? kRows : first == 0 ? 33 : 40;
          ConstTensorView view(source.data(), kRows, cols, from);
          view.row_stride = stride;
          write_packed_rows(packed.data(), kRows, cols, to, first,
                            view.row_range(first, end - first));
        }
        std::vector<float> row(static_cast<size_t>(cols));
        for (int64_t r = 0; r < kRows; ++r) {
          const int64_t half = cols / 2;
          read_packed_row(packed.data(), kRows, cols, to, r, 0, half, row.data());
          read_packed_row(packed.data(), kRows, cols, to, r, half, cols - half, row.data() + half);
          for (int64_t c = 0; c < cols; ++c) {
            ASSERT_EQ(row[static_cast<size_t>(c)],
                      rounded(values[static_cast<size_t>(r * stride + c)], from, to))
                << dtype_name(from) << " to " << dtype_name(to) << " at " << r << ", " << c;
          }
        }
      }
    }
  }
}

TEST(PackedMatrix, WritingOneRowChangesNoOther) {
  constexpr int64_t kRows = 64;
  constexpr int64_t kCols = 300;
  for (DType dtype : kFloats) {
    const Buffer packed = allocate_host(packed_bytes(kRows, kCols, dtype));
    const std::vector<float> ones(kCols, 1.0f);
    write_packed_rows(packed.data(), kRows, kCols, dtype, 17,
                      ConstTensorView(ones.data(), 1, kCols, DType::kF32));
    std::vector<float> row(kCols);
    for (int64_t r = 0; r < kRows; ++r) {
      read_packed_row(packed.data(), kRows, kCols, dtype, r, 0, kCols, row.data());
      for (float value : row) ASSERT_EQ(value, r == 17 ? 1.0f : 0.0f) << "row " << r;
    }
  }
}

}  // namespace
}  // namespace trireme
