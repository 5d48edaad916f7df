// Random weights for --load-format dummy: benchmarks, load tests and CI run a model of any size
// from its config alone. The loader tells which tensors it wants and the checkpoint makes them up.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {

// A checkpoint of these tensors. A tensor's values depend on (seed, name, shape, dtype) and on
// nothing else, so that every rank makes the same tensor and takes its slice of it. They keep a
// forward pass finite and its logits distinct:
//   matrices [.., cols]    normal / sqrt(cols)
//   vectors "*.weight"     1 + 0.02 * normal     (norm gains)
//   other vectors          0.02 * normal
// A tensor is made at its first bytes() and given back by done_with(): memory for it must be there.
// REQUIRES: names are distinct; every dtype is F32, BF16 or F16.
std::unique_ptr<Checkpoint> make_dummy_checkpoint(std::vector<TensorInfo> tensors, uint64_t seed);

}  // namespace trireme
