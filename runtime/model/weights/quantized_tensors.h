// How a checkpoint holds its quantized matrices.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/quantize.h"
#include "kernels/base/status.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {

class QuantizedTensors {
 public:
  virtual ~QuantizedTensors() = default;
  virtual std::string_view name() const = 0;
  virtual bool holds(const Checkpoint& checkpoint, std::string_view weight) const = 0;
  virtual std::vector<std::string> parts(const Checkpoint& checkpoint,
                                         std::string_view weight) const = 0;
  virtual Result<WeightFormat> format(const Checkpoint& checkpoint, std::string_view weight,
                                      int64_t rows, int64_t cols) const = 0;
  virtual Result<QuantizedRows> rows(const Checkpoint& checkpoint, std::string_view weight,
                                     int64_t rows, int64_t cols, int64_t first,
                                     int64_t count) const = 0;
  virtual Result<std::vector<float>> floats(const Checkpoint& checkpoint, std::string_view weight,
                                            int64_t rows, int64_t cols, int64_t first,
                                            int64_t count) const = 0;
};

}  // namespace trireme
