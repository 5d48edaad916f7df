// One quantized weight as its checkpoint arranges it, and what all arrangements have in common: how
// codes, scales and zeros become rows of our format, or numbers. A method (quantized_*.cc) finds
// and checks the tensors and unpacks codes and zeros; the rest is here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/quantize.h"
#include "runtime/model/weights/quantized_parts.h"
#include "runtime/model/weights/quantized_tensors.h"

namespace trireme {

// Where the scale of an output and a group is: element
//   output / outputs * output_stride + group * group_stride
// of a tensor of F32, BF16, F16 or F8_E8M0 (a power of two by its exponent: OCP Microscaling
// Formats v1.0, 5.4.1).
struct ScaleGrid {
  Part part;
  int64_t outputs = 1;  // consecutive outputs that share a scale
  int64_t output_stride = 0;
  int64_t group_stride = 0;

  float at(int64_t output, int64_t group) const;
};

class QuantizedMatrix {
 public:
  virtual ~QuantizedMatrix() = default;

  WeightType type = WeightType::kInt4;  // kInt4, kInt8 or kFp8
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group = 1;              // inputs that share a scale, at least 1; the last may be shorter
  std::vector<int32_t> group_of;  // [cols], where input i is not in group i / group; else empty
  ScaleGrid scales;
  // All words of the codes, where an input's outputs lie together, so that a range of rows touches
  // nearly every page of them.
  ConstTensorView input_major;
  std::string where;  // the start of a message about the codes

  int64_t groups() const { return cols == 0 ? 0 : (cols - 1) / group + 1; }

  // Codes [count, cols] of rows [first, first + count), as WeightType says.
  virtual void read_codes(int64_t first, int64_t count, uint8_t* to) const = 0;
  // Zeros [count, groups()] of the same rows.
  virtual void read_zeros(int64_t first, int64_t count, int32_t* to) const = 0;
};

// A QuantizedTensors whose weights are QuantizedMatrix.
class QuantizedMatrices : public QuantizedTensors {
 public:
  Result<WeightFormat> format(const Checkpoint& checkpoint, std::string_view weight, int64_t rows,
                              int64_t cols) const final;
  Result<QuantizedRows> rows(const Checkpoint& checkpoint, std::string_view weight, int64_t rows,
                             int64_t cols, int64_t first, int64_t count) const final;
  Result<std::vector<float>> floats(const Checkpoint& checkpoint, std::string_view weight,
                                    int64_t rows, int64_t cols, int64_t first,
                                    int64_t count) const final;

 private:
  // The weight, every type and shape checked, nothing read but group indices.
  // REQUIRES: holds(checkpoint, weight).
  virtual Result<std::unique_ptr<QuantizedMatrix>> open(const Checkpoint& checkpoint,
                                                        std::string_view weight, int64_t rows,
                                                        int64_t cols) const = 0;
};

}  // namespace trireme
