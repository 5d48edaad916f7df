// Counts what a rank would hold, and loads nothing.
#pragma once

#include <map>

#include "runtime/model/sublayers/matrix_format.h"
#include "runtime/model/sublayers/weight_reader.h"

namespace trireme {

// Notes every tensor asked for, with the shape it should have. Gives matrices and buffers without
// memory. Without a checkpoint every matrix counts as the choice's dtype, bf16 where it has none.
class MeasuringReader final : public WeightReader {
 public:
  MeasuringReader(const WeightSource& source, const WeightChoice& choice)
      : source_(source), choice_(choice) {}
  using WeightReader::matrix;
  using WeightReader::vector;
  Result<Matrix> matrix(std::span<const WeightSlice> slices, MatrixRole role) override;
  Result<Buffer> vector(std::span<const VectorSlice> slices) override;

  uint64_t bytes() const { return bytes_; }            // on the device
  uint64_t parameters() const { return parameters_; }  // padding not counted
  const std::map<std::string, std::vector<int64_t>>& shapes() const { return shapes_; }

 private:
  WeightSource source_;
  WeightChoice choice_;
  uint64_t bytes_ = 0;
  uint64_t parameters_ = 0;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

}  // namespace trireme
