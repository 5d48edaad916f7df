#include "runtime/model/sublayers/weight_reader.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace trireme {
namespace {

DType wider(DType a, DType b) { return a == b ? a : DType::kF32; }

// [cols, rows] of any float type -> [rows, cols] f32 in `buffer`.
ConstTensorView transpose(ConstTensorView from, Buffer& buffer) {
  buffer = allocate_host(static_cast<size_t>(from.rows * from.cols) * sizeof(float));
  auto* to = static_cast<float*>(buffer.data());
  for (int64_t r = 0; r < from.rows; ++r) {
    const ConstTensorView row = from.row_range(r, 1);
    for (int64_t c = 0; c < from.cols; ++c)
      to[c * from.rows + r] = load_f32(row.data, row.dtype, c);
  }
  return {buffer.data(), from.cols, from.rows, DType::kF32};
}

// Of row_range, the rows that the matrix really has.
int64_t real_rows(const WeightSlice& s) {
  return std::clamp<int64_t>(s.rows - s.row_range.first, 0, s.row_range.count);
}

bool is_transposed(const Checkpoint& checkpoint, const WeightSlice& slice) {
  if (!slice.either_way || slice.rows == slice.cols) return false;
  const TensorInfo* info = checkpoint.find(slice.name);
  if (info == nullptr || info->shape.size() < 2) return false;
  const auto& shape = info->shape;
  return shape[shape.size() - 2] == slice.cols && shape[shape.size() - 1] == slice.rows;
}

void release(const Checkpoint& checkpoint, std::string_view name) {
  if (const TensorInfo* info = checkpoint.find(name)) checkpoint.done_with(*info);
}

}  // namespace

DType LoadingReader::matrix_dtype(std::span<const WeightSlice> slices) const {
  if (dtype_) return *dtype_;
  std::optional<DType> dtype;
  for (const WeightSlice& s : slices) {
    const TensorInfo* info = checkpoint_.find(s.name);
    if (info == nullptr || !info->dtype) continue;
    dtype = dtype ? wider(*dtype, *info->dtype) : *info->dtype;
  }
  return dtype.value_or(DType::kF32);
}

Result<ConstTensorView> LoadingReader::view(const WeightSlice& slice, Buffer& transposed) const {
  const bool flip = is_transposed(checkpoint_, slice);
  Result<ConstTensorView> matrix =
      flip ? trireme::matrix(checkpoint_, slice.name, slice.cols, slice.rows)
           : trireme::matrix(checkpoint_, slice.name, slice.rows, slice.cols);
  if (!matrix.ok()) return matrix;
  const ConstTensorView upright = flip ? transpose(*matrix, transposed) : *matrix;
  const int64_t rows = real_rows(slice);
  const int64_t first = std::min(slice.row_range.first, upright.rows);
  return upright.row_range(first, rows).col_range(slice.col_range.first, slice.col_range.count);
}

Result<Matrix> LoadingReader::matrix(std::span<const WeightSlice> slices) {
  int64_t rows = 0;
  for (const WeightSlice& s : slices) rows += s.row_range.count;
  const int64_t cols = slices.front().col_range.count;
  Result<Matrix> made = device_.make_matrix(rows, cols, matrix_dtype(slices));
  if (!made.ok()) return made;
  int64_t row = 0;
  for (const WeightSlice& s : slices) {
    CHECK(s.col_range.count == cols);
    Buffer transposed;
    Result<ConstTensorView> source = view(s, transposed);
    if (!source.ok()) return source.status();
    if (source->rows > 0) device_.write_rows(*made, row, *source);
    row += source->rows;
    if (const int64_t padding = s.row_range.count - source->rows; padding > 0) {
      const Buffer zeros = allocate_host(static_cast<size_t>(padding * cols) * sizeof(float));
      device_.write_rows(*made, row, ConstTensorView(zeros.data(), padding, cols, DType::kF32));
      row += padding;
    }
    if (progress_)
      progress_(static_cast<uint64_t>(source->rows * cols) * dtype_bytes(source->dtype));
    release(checkpoint_, s.name);
  }
  return made;
}

Result<Buffer> LoadingReader::vector(std::span<const VectorSlice> slices) {
  int64_t count = 0;
  for (const VectorSlice& s : slices) count += s.range.count;
  std::vector<float> floats(count, 0.0f);
  int64_t at = 0;
  for (const VectorSlice& s : slices) {
    if (!s.name.empty()) {
      Result<ConstTensorView> source = trireme::matrix(checkpoint_, s.name, s.rows, s.cols);
      if (!source.ok()) return source.status();
      for (int64_t i = 0; i < s.range.count; ++i) {
        const float x = load_f32(source->data, source->dtype, s.range.first + i);
        floats[at + i] = s.map == nullptr ? x : s.map(x);
      }
      release(checkpoint_, s.name);
      if (progress_) progress_(static_cast<uint64_t>(s.range.count) * dtype_bytes(source->dtype));
    }
    at += s.range.count;
  }
  Result<Buffer> buffer = device_.allocate(floats.size() * sizeof(float));
  if (!buffer.ok()) return buffer;
  device_.copy(buffer->data(), floats.data(), floats.size() * sizeof(float));
  if (Status s = device_.synchronize(); !s.ok()) return s;  // `floats` ends here
  return buffer;
}

Result<Matrix> MeasuringReader::matrix(std::span<const WeightSlice> slices) {
  std::optional<DType> dtype = dtype_;
  int64_t rows = 0;
  for (const WeightSlice& s : slices) {
    rows += s.row_range.count;
    parameters_ += static_cast<uint64_t>(real_rows(s) * s.col_range.count);
    shapes_[s.name] = {s.rows, s.cols};
    const TensorInfo* info = checkpoint_ == nullptr ? nullptr : checkpoint_->find(s.name);
    if (!dtype_ && info != nullptr && info->dtype)
      dtype = dtype ? wider(*dtype, *info->dtype) : *info->dtype;
  }
  Matrix m;
  m.rows = rows;
  m.cols = slices.front().col_range.count;
  m.format = dtype.value_or(DType::kBF16);
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
