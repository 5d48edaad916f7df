#include "kernels/overlap.h"

#include <cstdint>

#include "kernels/base/check.h"

namespace trireme {
namespace {

int64_t row_bytes(const ConstTensorView& x) {
  return x.row_stride * static_cast<int64_t>(dtype_bytes(x.dtype));
}
int64_t col_bytes(const ConstTensorView& x) {
  return x.cols * static_cast<int64_t>(dtype_bytes(x.dtype));
}

}  // namespace

bool same(const ConstTensorView& x, const ConstTensorView& y) {
  return x.data == y.data && (x.row_stride == y.row_stride || (x.rows <= 1 && y.rows <= 1));
}

bool disjoint(const ConstTensorView& x, const ConstTensorView& y) {
  if (x.rows == 0 || y.rows == 0 || x.cols == 0 || y.cols == 0) return true;
  const auto x0 = reinterpret_cast<intptr_t>(x.data), y0 = reinterpret_cast<intptr_t>(y.data);
  const auto x1 = x0 + (x.rows - 1) * row_bytes(x) + col_bytes(x);
  const auto y1 = y0 + (y.rows - 1) * row_bytes(y) + col_bytes(y);
  if (x1 <= y0 || y1 <= x0) return true;
  const int64_t stride = row_bytes(x.rows > 1 ? x : y);
  if ((x.rows > 1 && row_bytes(x) != stride) || (y.rows > 1 && row_bytes(y) != stride)) {
    return false;
  }
  if (stride == 0) return false;
  const int64_t shift = ((y0 - x0) % stride + stride) % stride;  // y's first column seen from x's
  return shift >= col_bytes(x) && shift + col_bytes(y) <= stride;
}

void check_disjoint(const char* op, const TensorView& out,
                    std::initializer_list<ConstTensorView> inputs) {
  for (const ConstTensorView& in : inputs) {
    CHECK(disjoint(out, in)) << op << ": an output overlaps an input";
  }
}

}  // namespace trireme
