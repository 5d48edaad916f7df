#include "tests/bench/device/made_up_matrix.h"

#include <algorithm>
#include <vector>

#include "kernels/base/quantize.h"
#include "kernels/base/random.h"

namespace trireme::bench {
namespace {

constexpr int64_t kRows = 64;
constexpr float kDeviation = 1.0f / 64;

}  // namespace

Result<Matrix> make_up_matrix(Device& device, int64_t rows, int64_t cols, WeightFormat format) {
  Result<Matrix> made = device.make_matrix(rows, cols, format);
  if (!made.ok()) return made;
  std::vector<float> numbers(static_cast<size_t>(kRows * cols));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = kDeviation * normal(20261127, i);
  const Result<QuantizedRows> some =
      quantize(ConstTensorView(numbers.data(), kRows, cols, DType::kF32), format);
  if (!some.ok()) return some.status();
  for (int64_t row = 0; row < rows; row += kRows)
    device.write_quantized_rows(*made, row, some->view().row_range(0, std::min(kRows, rows - row)));
  return made;
}

Result<Matrix> QuantizingDevice::make_matrix(int64_t rows, int64_t cols, WeightFormat format) {
  if (rows == rows_kept_ || format.quantized()) return inner_.make_matrix(rows, cols, format);
  const auto shape = std::make_pair(rows, cols);
  if (!made_.contains(shape)) {
    Result<Matrix> made = make_up_matrix(inner_, rows, cols, format_);
    if (!made.ok()) return made;
    made_.emplace(shape, made.take());
  }
  Result<Matrix> matrix = inner_.make_matrix(rows, cols, format_);
  if (!matrix.ok()) return matrix;
  inner_.copy(matrix->buffer.data(), made_.at(shape).buffer.data(), matrix->buffer.bytes());
  bytes_saved_ += weight_bytes(rows, cols, format) - weight_bytes(rows, cols, format_);
  return matrix;
}

}  // namespace trireme::bench
