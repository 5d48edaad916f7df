#include "kernels/cuda/left_rows.h"

#include "kernels/cuda/context.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kWord = 8;                      // numbers in 16 bytes
constexpr size_t kBytesMost = size_t{128} << 20;  // what a prompt of 8192 rows of 8192 needs

}  // namespace

LeftOut LeftRows::find(const float* rows_of, int64_t stride, int64_t wanted, int64_t inputs) const {
  if (x == nullptr || stride != x_stride || wanted > rows || rows_of < x) return {};
  const int64_t first = rows_of - x;
  if (first + inputs > cols || first % kWord != 0 || inputs % kWord != 0) return {};
  return {out.data + first, out.stride};
}

LeftRows room_for_left(Context& context, const TensorView& y, LeftBy by) {
  LeftRows left;
  const size_t bytes = static_cast<size_t>(y.rows * y.cols) * sizeof(Bf16);
  if (!context.wants_left() || y.rows == 0 || y.cols % kWord != 0 || bytes > kBytesMost)
    return left;
  auto* data = static_cast<Bf16*>(context.left_memory(by, bytes));
  if (data == nullptr) return left;
  left.x = static_cast<const float*>(y.data);
  left.x_stride = y.row_stride;
  left.rows = y.rows;
  left.cols = y.cols;
  left.out = {data, y.cols};
  left.by = by;
  return left;
}

}  // namespace trireme::cuda
