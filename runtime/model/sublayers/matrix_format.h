// In what format a rank holds each of its matrices: as the checkpoint has it, or as the deployment
// asks. The same on every rank of a mesh but for the size of groups, which a cut inside a group
// makes smaller without changing an element.
#pragma once

#include <optional>
#include <span>

#include "kernels/base/weight_format.h"
#include "runtime/model/sublayers/weight_reader.h"
#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/quantized_tensors.h"

namespace trireme {

// Where the numbers come from.
struct WeightSource {
  const Checkpoint* checkpoint = nullptr;       // null: nothing is known but shapes
  const QuantizedTensors* quantized = nullptr;  // null: every matrix is a plain tensor

  bool holds_quantized(std::string_view name) const {
    return checkpoint != nullptr && quantized != nullptr && quantized->holds(*checkpoint, name);
  }
};

// What a matrix that the deployment has quantized becomes, before shards cut its groups.
WeightFormat quantizing_format(WeightType type);

// The format of a matrix of these slices. Matrices that the deployment has quantized: projections
// in groups of 64 (int4) or 128 (int8), or by rows (fp8); tables of the vocabulary in int8 where
// the rest is int4, since every token goes through each; low-rank factors not at all. Slices that
// the checkpoint holds in different types are kept as floating-point numbers. Errors:
// kInvalidArgument where a cut between shards is not on a multiple of 32 inputs, or where the
// deployment would quantize what the checkpoint has quantized already.
Result<WeightFormat> matrix_format(const WeightSource& source, const WeightChoice& choice,
                                   std::span<const WeightSlice> slices, MatrixRole role);

}  // namespace trireme
