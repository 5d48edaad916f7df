// How sublayers get their weights: each asks for the slices that its shard holds, by the names that
// its spec gives. One implementation loads them onto a device, one only counts them, so that
// `trireme inspect` and the memory plan need no second list of tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "parallel/mesh.h"

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

  // Of row_range, those that the matrix really has.
  int64_t real_rows() const {
    return std::clamp<int64_t>(rows - row_range.first, 0, row_range.count);
  }
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

// In what form a deployment wants a model's matrices in memory.
struct WeightChoice {
  std::optional<DType>
      dtype;  // of those kept as floating-point numbers; none: as the file has them
  // Of those that are worth it (matrix_format.h): kInt8, kInt4 or kFp8; none: as the file has them.
  std::optional<WeightType> quantization;
};

// What a matrix is for: whether its precision may be given up for speed.
enum class MatrixRole : uint8_t {
  kProjection,  // one of the large ones, where a model's bytes are
  kVocabulary,  // the embedding or the head
  kLowRank,  // a factor of a low-rank layer, a gate by heads: small, and what it says is amplified
};

class WeightReader {
 public:
  virtual ~WeightReader() = default;

  // The slices, stacked by rows into one matrix. REQUIRES: equally many columns.
  virtual Result<Matrix> matrix(std::span<const WeightSlice> slices, MatrixRole role) = 0;

  // The slices one after the other, as f32.
  virtual Result<Buffer> vector(std::span<const VectorSlice> slices) = 0;

  Result<Matrix> matrix(std::span<const WeightSlice> slices) {
    return matrix(slices, MatrixRole::kProjection);
  }
  Result<Matrix> matrix(const WeightSlice& slice, MatrixRole role = MatrixRole::kProjection) {
    return matrix(std::span(&slice, 1), role);
  }
  Result<Buffer> vector(const VectorSlice& slice) { return vector(std::span(&slice, 1)); }
};

}  // namespace trireme
