// Host memory, no queue: every call has taken effect when it returns. Matrices are row-major; a
// quantized one is its codes, a byte each, then its scales.
#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/device.h"
#include "kernels/ref/ref_matrix.h"
#include "kernels/ref/ref_ops.h"

namespace trireme {
namespace {

class RefDevice final : public Device {
 public:
  std::string_view name() const override { return "ref"; }
  Place place() const override { return Place::kHost; }
  int threads() const override { return 1; }
  Ops& ops() override { return ops_; }

  Result<Buffer> allocate(size_t bytes) override { return allocate_host(bytes); }
  void copy(void* target, const void* source, size_t bytes) override {
    if (bytes > 0) std::memmove(target, source, bytes);
  }
  Status synchronize() override { return {}; }

  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override {
    CHECK(rows >= 0 && cols >= 0);
    Matrix matrix;
    matrix.buffer = allocate_host(ref_matrix_bytes(rows, cols, format));
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.format = format;
    return matrix;
  }

  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    CHECK(source.cols == matrix.cols);
    CHECK(first_row >= 0 && first_row + source.rows <= matrix.rows);
    const DType dtype = matrix.format.dtype();
    const size_t row_bytes = static_cast<size_t>(matrix.cols) * dtype_bytes(dtype);
    for (int64_t r = 0; r < source.rows; ++r) {
      convert_floats(source.row_range(r, 1).data, source.dtype,
                     static_cast<std::byte*>(matrix.buffer.data()) +
                         static_cast<size_t>(first_row + r) * row_bytes,
                     dtype, static_cast<size_t>(matrix.cols));
    }
  }

  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    CHECK(source.cols == matrix.cols && source.format == matrix.format);
    CHECK(first_row >= 0 && first_row + source.rows <= matrix.rows);
    const QuantizedView to = ref_quantized(matrix.view()).row_range(first_row, source.rows);
    for (int64_t r = 0; r < source.rows; ++r) {
      std::copy_n(source.codes_of(r), source.cols, const_cast<uint8_t*>(to.codes_of(r)));
      std::copy_n(source.scales_of(r), source.format.groups(source.cols),
                  const_cast<GroupScale*>(to.scales_of(r)));
    }
  }

 private:
  RefOps ops_;
};

}  // namespace

std::unique_ptr<Device> make_ref_device() { return std::make_unique<RefDevice>(); }

}  // namespace trireme
