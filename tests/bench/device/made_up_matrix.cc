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

}  // namespace trireme::bench
