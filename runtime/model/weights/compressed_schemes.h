// The config groups of compressed-tensors: how the weights of a model are quantized
// (compressed_tensors/quantization/quant_scheme.py, quant_args.py). quantized_compressed.cc's own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/quantization_fields.h"

namespace trireme {

struct CompressedScheme {
  // What shares a scale: all, an output, some inputs of an output, a block of both.
  enum class Strategy : uint8_t { kTensor, kChannel, kGroup, kBlock };

  std::string name;     // "config_groups.group_0"
  bool packed = false;  // in words, else an element of a tensor for each code
  bool floats = false;  // e4m3, else integers
  int bits = 8;         // 4 or 8 where packed
  bool symmetric = true;
  Strategy strategy = Strategy::kTensor;
  int64_t block_outputs = 1;  // of kBlock
  int64_t block_inputs = 1;   // of kGroup and kBlock

  // Inputs that share a scale, at least 1.
  int64_t group(int64_t cols) const;
  // Shapes of scales, and of zeros that are not packed; the first is the one written today.
  std::vector<std::vector<int64_t>> scale_shapes(int64_t rows, int64_t cols) const;
  // Words of a packed row, and of a packed column of zeros.
  int64_t row_words(int64_t cols) const { return words(cols); }
  int64_t zero_words(int64_t rows) const { return words(rows); }
  // "num_bits 4 and strategy group of config_groups.group_0".
  std::string text() const;

 private:
  int64_t words(int64_t codes) const { return (codes + 32 / bits - 1) / (32 / bits); }
};

// Of quantization_config. Errors as of quantized_tensors().
Result<std::vector<CompressedScheme>> read_compressed_schemes(QuantizationFields& fields);

}  // namespace trireme
