#include "runtime/model/sublayers/measuring_reader.h"

#include <algorithm>

namespace trireme {

Result<Matrix> MeasuringReader::matrix(std::span<const WeightSlice> slices, MatrixRole role) {
  const Result<WeightFormat> format = matrix_format(source_, choice_, slices, role);
  if (!format.ok()) return format.status();
  Matrix m;
  for (const WeightSlice& s : slices) {
    m.rows += s.row_range.count;
    parameters_ += static_cast<uint64_t>(s.real_rows() * s.col_range.count);
    shapes_[s.name] = {s.rows, s.cols};
  }
  m.cols = slices.front().col_range.count;
  m.format = *format;
  bytes_ += weight_bytes(m.rows, m.cols, m.format);
  return m;
}

Result<Buffer> MeasuringReader::vector(std::span<const VectorSlice> slices) {
  for (const VectorSlice& s : slices) {
    bytes_ += static_cast<uint64_t>(s.range.count) * sizeof(float);
    if (s.name.empty()) continue;
    parameters_ += static_cast<uint64_t>(s.range.count);
    shapes_[s.name] =
        s.rows == 1 ? std::vector<int64_t>{s.cols} : std::vector<int64_t>{s.rows, s.cols};
  }
  return Buffer();
}

}  // namespace trireme
