#include "runtime/model/sublayers/loading_reader.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace trireme {
namespace {

// Rows that are converted on the host at once: bounds its memory.
constexpr int64_t kPieceNumbers = int64_t{4} << 20;

int64_t rows_at_once(int64_t cols) {
  return std::max<int64_t>(1, kPieceNumbers / std::max<int64_t>(1, cols));
}

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

bool is_transposed(const Checkpoint& checkpoint, const WeightSlice& slice) {
  if (!slice.either_way || slice.rows == slice.cols) return false;
  const TensorInfo* info = checkpoint.find(slice.name);
  if (info == nullptr || info->shape.size() < 2) return false;
  const auto& shape = info->shape;
  return shape[shape.size() - 2] == slice.cols && shape[shape.size() - 1] == slice.rows;
}

// The whole matrix that the slice is of, upright.
Result<ConstTensorView> plain_matrix(const Checkpoint& checkpoint, const WeightSlice& slice,
                                     Buffer& transposed) {
  const bool flip = is_transposed(checkpoint, slice);
  Result<ConstTensorView> matrix =
      flip ? trireme::matrix(checkpoint, slice.name, slice.cols, slice.rows)
           : trireme::matrix(checkpoint, slice.name, slice.rows, slice.cols);
  if (!matrix.ok() || !flip) return matrix;
  return transpose(*matrix, transposed);
}

// `from` in `format`, in parts by as many threads: most of the time that loading takes, where
// weights are quantized on the way.
Result<std::vector<QuantizedRows>> quantize_parts(ConstTensorView from, WeightFormat format,
                                                  int threads_max) {
  constexpr int64_t kLeastNumbers = 1 << 16;  // of a thread
  const int64_t parts = std::clamp<int64_t>(from.rows * from.cols / kLeastNumbers, 1,
                                            std::min<int64_t>(threads_max, from.rows));
  std::vector<std::optional<Result<QuantizedRows>>> made(static_cast<size_t>(parts));
  const auto work = [&](int64_t part) {
    const int64_t first = from.rows * part / parts, end = from.rows * (part + 1) / parts;
    made[static_cast<size_t>(part)] = quantize(from.row_range(first, end - first), format);
  };
  {
    std::vector<std::jthread> threads;
    for (int64_t part = 1; part < parts; ++part) threads.emplace_back(work, part);
    work(0);
  }
  std::vector<QuantizedRows> rows;
  for (auto& part : made) {
    if (!part->ok()) return part->status();
    rows.push_back(part->take());
  }
  return rows;
}

}  // namespace

Result<Matrix> LoadingReader::matrix(std::span<const WeightSlice> slices, MatrixRole role) {
  int64_t rows = 0;
  for (const WeightSlice& s : slices) rows += s.row_range.count;
  const int64_t cols = slices.front().col_range.count;
  const Result<WeightFormat> format = matrix_format(source_, options_.choice, slices, role);
  if (!format.ok()) return format.status();
  Result<Matrix> made = device_.make_matrix(rows, cols, *format);
  if (!made.ok()) return made;
  int64_t row = 0;
  for (const WeightSlice& s : slices) {
    CHECK(s.col_range.count == cols);
    if (s.real_rows() > 0) {
      if (Status status = write_slice(*made, row, s); !status.ok()) return status;
    }
    write_zeros(*made, row + s.real_rows(), s.row_range.count - s.real_rows());
    row += s.row_range.count;
    if (options_.progress) options_.progress(weight_bytes(s.real_rows(), cols, *format));
    release(s);
  }
  return made;
}

Status LoadingReader::write_slice(Matrix& matrix, int64_t row, const WeightSlice& slice) {
  return source_.holds_quantized(slice.name) ? write_held(matrix, row, slice)
                                             : write_plain(matrix, row, slice);
}

Status LoadingReader::write_held(Matrix& matrix, int64_t row, const WeightSlice& slice) {
  const QuantizedTensors& held = *source_.quantized;
  const int64_t at_once = rows_at_once(slice.cols);
  const Range& cols = slice.col_range;
  for (int64_t done = 0; done < slice.real_rows(); done += at_once) {
    const int64_t first = slice.row_range.first + done;
    const int64_t count = std::min(at_once, slice.real_rows() - done);
    if (!matrix.format.quantized()) {
      Result<std::vector<float>> floats =
          held.floats(*source_.checkpoint, slice.name, slice.rows, slice.cols, first, count);
      if (!floats.ok()) return floats.status();
      const ConstTensorView view(floats->data(), count, slice.cols, DType::kF32);
      device_.write_rows(matrix, row + done, view.col_range(cols.first, cols.count));
      continue;
    }
    Result<QuantizedRows> rows =
        held.rows(*source_.checkpoint, slice.name, slice.rows, slice.cols, first, count);
    if (!rows.ok()) return rows.status();
    write_quantized(matrix, row + done, *rows, cols);
  }
  return Status::ok_status();
}

Status LoadingReader::write_plain(Matrix& matrix, int64_t row, const WeightSlice& slice) {
  Buffer transposed;
  const Result<ConstTensorView> whole = plain_matrix(*source_.checkpoint, slice, transposed);
  if (!whole.ok()) return whole.status();
  const ConstTensorView rows = whole->row_range(slice.row_range.first, slice.real_rows());
  if (matrix.format.quantized()) return write_quantizing(matrix, row, rows, slice);
  device_.write_rows(matrix, row, rows.col_range(slice.col_range.first, slice.col_range.count));
  return Status::ok_status();
}

// Whole rows are quantized, whatever this shard takes of them, so that the numbers are the same
// however a model is cut: groups that a cut goes through, too.
Status LoadingReader::write_quantizing(Matrix& matrix, int64_t row, ConstTensorView rows,
                                       const WeightSlice& slice) {
  WeightFormat format = matrix.format;
  if (format.group != 0) format = quantizing_format(format.type);
  const int64_t at_once = rows_at_once(rows.cols);
  for (int64_t first = 0; first < rows.rows; first += at_once) {
    const ConstTensorView piece = rows.row_range(first, std::min(at_once, rows.rows - first));
    Result<std::vector<QuantizedRows>> parts = quantize_parts(piece, format, options_.threads);
    if (!parts.ok()) {
      return invalid_argument(fmt::format("{}: tensor '{}', in rows from {} on: {}",
                                          source_.checkpoint->path(), slice.name,
                                          slice.row_range.first + first, parts.status().message()));
    }
    for (const QuantizedRows& part : *parts) {
      write_quantized(matrix, row, part, slice.col_range);
      row += part.rows;
    }
  }
  return Status::ok_status();
}

// Whole rows, of which this shard takes some columns.
void LoadingReader::write_quantized(Matrix& matrix, int64_t row, const QuantizedRows& rows,
                                    Range cols) {
  if (rows.format.group != matrix.format.group) {
    return write_quantized(matrix, row, with_smaller_groups(rows.view(), matrix.format.group),
                           cols);
  }
  device_.write_quantized_rows(matrix, row, rows.view().col_range(cols.first, cols.count));
}

void LoadingReader::write_zeros(Matrix& matrix, int64_t row, int64_t count) {
  if (count <= 0) return;
  if (matrix.format.quantized()) {  // no scale: no number
    const QuantizedRows zeros = QuantizedRows::make(count, matrix.cols, matrix.format);
    device_.write_quantized_rows(matrix, row, zeros.view());
    return;
  }
  const Buffer zeros = allocate_host(static_cast<size_t>(count * matrix.cols) * sizeof(float));
  device_.write_rows(matrix, row, ConstTensorView(zeros.data(), count, matrix.cols, DType::kF32));
}

void LoadingReader::release(const WeightSlice& slice) {
  const Checkpoint& checkpoint = *source_.checkpoint;
  if (source_.holds_quantized(slice.name)) {
    for (const std::string& part : source_.quantized->parts(checkpoint, slice.name))
      checkpoint.done_with(*checkpoint.find(part));
  } else if (const TensorInfo* info = checkpoint.find(slice.name)) {
    checkpoint.done_with(*info);
  }
}

Result<Buffer> LoadingReader::vector(std::span<const VectorSlice> slices) {
  int64_t count = 0;
  for (const VectorSlice& s : slices) count += s.range.count;
  std::vector<float> floats(count, 0.0f);
  int64_t at = 0;
  for (const VectorSlice& s : slices) {
    if (!s.name.empty()) {
      Result<ConstTensorView> source = trireme::matrix(*source_.checkpoint, s.name, s.rows, s.cols);
      if (!source.ok()) return source.status();
      for (int64_t i = 0; i < s.range.count; ++i) {
        const float x = load_f32(source->data, source->dtype, s.range.first + i);
        floats[at + i] = s.map == nullptr ? x : s.map(x);
      }
      source_.checkpoint->done_with(*source_.checkpoint->find(s.name));
      if (options_.progress)
        options_.progress(static_cast<uint64_t>(s.range.count) * sizeof(float));
    }
    at += s.range.count;
  }
  Result<Buffer> buffer = device_.allocate(floats.size() * sizeof(float));
  if (!buffer.ok()) return buffer;
  device_.copy(buffer->data(), floats.data(), floats.size() * sizeof(float));
  if (Status s = device_.synchronize(); !s.ok()) return s;  // `floats` ends here
  return buffer;
}

}  // namespace trireme
