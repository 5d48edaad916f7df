// Loads matrices and vectors from a checkpoint onto a device.
#pragma once

#include <functional>

#include "runtime/model/sublayers/matrix_format.h"
#include "runtime/model/sublayers/weight_reader.h"

namespace trireme {

struct LoadingOptions {
  WeightChoice choice;
  int threads = 1;  // that quantize matrices on their way
  // Told of each slice's bytes on the device, once they are there.
  std::function<void(uint64_t bytes)> progress = {};
};

// REQUIRES: the source has a checkpoint.
class LoadingReader final : public WeightReader {
 public:
  LoadingReader(Device& device, const WeightSource& source, LoadingOptions options)
      : device_(device), source_(source), options_(std::move(options)) {}
  using WeightReader::matrix;
  using WeightReader::vector;
  Result<Matrix> matrix(std::span<const WeightSlice> slices, MatrixRole role) override;
  Result<Buffer> vector(std::span<const VectorSlice> slices) override;

 private:
  Status write_slice(Matrix& matrix, int64_t row, const WeightSlice& slice);
  Status write_held(Matrix& matrix, int64_t row, const WeightSlice& slice);
  Status write_plain(Matrix& matrix, int64_t row, const WeightSlice& slice);
  Status write_quantizing(Matrix& matrix, int64_t row, ConstTensorView rows,
                          const WeightSlice& slice);
  void write_quantized(Matrix& matrix, int64_t row, const QuantizedRows& rows, Range cols);
  void write_zeros(Matrix& matrix, int64_t row, int64_t count);
  void release(const WeightSlice& slice);

  Device& device_;
  WeightSource source_;
  LoadingOptions options_;
};

}  // namespace trireme
