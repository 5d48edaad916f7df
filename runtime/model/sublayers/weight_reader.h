// How sublayers get their weights: each asks for the slices that its shard holds, by the names that
// its spec gives. One implementation loads them onto a device, one only counts them, so that
// `trireme inspect` and the memory plan need no second list of tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "parallel/mesh.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {

// A part of a matrix [rows, cols] = [outputs, inputs]. Rows of row_range at or beyond `rows` are
// padding and become zeros.
struct WeightSlice {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  Range row_range;
  Range col_range;
  bool either_way =
      false;  // the file may hold it transposed, which its shape tells (RWKV-7's LoRA)
};

// A part of a vector; the file's shape is [rows, cols], taken as rows * cols numbers in order.
// An empty name: zeros.
struct VectorSlice {
  std::string name;
  int64_t rows = 1;
  int64_t cols = 0;
  Range range;
  float (*map)(float) = nullptr;  // applied to each number
};

inline WeightSlice whole(std::string name, int64_t rows, int64_t cols) {
  return {std::move(name), rows, cols, {0, rows}, {0, cols}};
}
inline VectorSlice whole_vector(std::string name, int64_t cols) {
  return {std::move(name), 1, cols, {0, cols}};
}

class WeightReader {
 public:
  virtual ~WeightReader() = default;

  // The slices, stacked by rows into one matrix. REQUIRES: equally many columns.
  virtual Result<Matrix> matrix(std::span<const WeightSlice> slices) = 0;

  // The slices one after the other, as f32.
  virtual Result<Buffer> vector(std::span<const VectorSlice> slices) = 0;

  Result<Matrix> matrix(const WeightSlice& slice) { return matrix(std::span(&slice, 1)); }
  Result<Buffer> vector(const VectorSlice& slice) { return vector(std::span(&slice, 1)); }
};

// Loads from a checkpoint onto a device. `dtype`: of all matrices; none: each as the file has it.
// `progress` is told the bytes of each tensor's slices as they are done.
class LoadingReader final : public WeightReader {
 public:
  LoadingReader(Device& device, const Checkpoint& checkpoint, std::optional<DType> dtype,
                std::function<void(uint64_t)> progress = {})
      : device_(device), checkpoint_(checkpoint), dtype_(dtype), progress_(std::move(progress)) {}
  using WeightReader::matrix;
  using WeightReader::vector;
  Result<Matrix> matrix(std::span<const WeightSlice> slices) override;
  Result<Buffer> vector(std::span<const VectorSlice> slices) override;

 private:
  Result<ConstTensorView> view(const WeightSlice& slice, Buffer& transposed) const;
  DType matrix_dtype(std::span<const WeightSlice> slices) const;

  Device& device_;
  const Checkpoint& checkpoint_;
  std::optional<DType> dtype_;
  std::function<void(uint64_t)> progress_;
};

// Counts what a rank would hold and notes every tensor asked for, with the shape it should have.
// Gives matrices and buffers without memory.
class MeasuringReader final : public WeightReader {
 public:
  // `checkpoint` may be nullptr: then every matrix counts as `dtype`, bf16 where there is none.
  MeasuringReader(const Checkpoint* checkpoint, std::optional<DType> dtype)
      : checkpoint_(checkpoint), dtype_(dtype) {}
  using WeightReader::matrix;
  using WeightReader::vector;
  Result<Matrix> matrix(std::span<const WeightSlice> slices) override;
  Result<Buffer> vector(std::span<const VectorSlice> slices) override;

  uint64_t bytes() const { return bytes_; }            // on the device
  uint64_t parameters() const { return parameters_; }  // padding not counted
  const std::map<std::string, std::vector<int64_t>>& shapes() const { return shapes_; }

 private:
  const Checkpoint* checkpoint_;
  std::optional<DType> dtype_;
  uint64_t bytes_ = 0;
  uint64_t parameters_ = 0;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

}  // namespace trireme
