// How a checkpoint holds its quantized matrices: the arrangements of GPTQ, AWQ, compressed-tensors
// and fp8 (README.md has them in a table), each read into the one format that devices take
// (kernels/base/weight_format.h). Weight loaders call it at start-up.
//
//   auto quantized = quantized_tensors(config, "/models/x/config.json");
//   if (*quantized && (*quantized)->holds(checkpoint, "model.layers.0.mlp.up_proj.weight"))
//     auto rows = (*quantized)->rows(checkpoint, name, 14336, 4096, first, count);
//
// INVARIANT: immutable; every method may be called from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/json.h"
#include "kernels/base/quantize.h"
#include "kernels/base/status.h"
#include "kernels/base/weight_format.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {

// `weight` is a matrix's name as a checkpoint without quantization has it,
// "model.layers.0.mlp.up_proj.weight", of shape [rows, cols] = [outputs, inputs].
class QuantizedTensors {
 public:
  virtual ~QuantizedTensors() = default;

  // For messages: "gptq", "awq", "compressed-tensors" or "fp8".
  virtual std::string_view name() const = 0;

  // Whether the checkpoint holds `weight` quantized. False: as a plain tensor, or not at all.
  // Decided by which tensors exist, not by the lists of exceptions in configs.
  virtual bool holds(const Checkpoint& checkpoint, std::string_view weight) const = 0;

  // The tensors that `weight` consists of, those that exist, sorted: to be released, counted, and
  // not reported as unknown. Among them are scales of activations, which nothing here reads.
  virtual std::vector<std::string> parts(const Checkpoint& checkpoint,
                                         std::string_view weight) const = 0;

  // What rows() gives. A format that is not quantized, the type of the scales, where our groups
  // cannot say what the checkpoint says (inputs in groups that are not consecutive, groups that no
  // multiple of 32 divides): then only floats() can be asked.
  // Errors, here and below: one sentence with file, tensor and what to do. kNotFound where a part
  // is missing, kInvalidArgument where a shape or type is another, kDataLoss where a number cannot
  // be.
  // REQUIRES: holds(checkpoint, weight), here and below.
  virtual Result<WeightFormat> format(const Checkpoint& checkpoint, std::string_view weight,
                                      int64_t rows, int64_t cols) const = 0;

  // Rows [first, first + count), all inputs. Scales of f32 are rounded as GroupScale says. GPTQ and
  // AWQ keep an input's outputs together, so ask for hundreds of rows at a time.
  // REQUIRES: format() is quantized; the range is within `rows`.
  virtual Result<QuantizedRows> rows(const Checkpoint& checkpoint, std::string_view weight,
                                     int64_t rows, int64_t cols, int64_t first,
                                     int64_t count) const = 0;

  // The same rows as numbers [count, cols]: scale * (code - zero), rounded once to f32.
  virtual Result<std::vector<float>> floats(const Checkpoint& checkpoint, std::string_view weight,
                                            int64_t rows, int64_t cols, int64_t first,
                                            int64_t count) const = 0;
};

// From the whole config.json, whose `quantization_config` says what is read; nullptr where it has
// none. `path` is the file's, for messages.
// Errors: kUnimplemented for a method, layout or width that is not read, kInvalidArgument for a
// field of a wrong type; each names the field and its value.
Result<std::unique_ptr<QuantizedTensors>> quantized_tensors(const Json& config,
                                                            const std::string& path);

}  // namespace trireme
