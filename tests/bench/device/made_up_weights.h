// Weights for benchmarks of large models: as make_dummy_checkpoint makes them, but large tensors
// are windows of one block of random numbers, which is made once. Sixteen gigabytes then cost the
// copies to the device and nothing else.
#pragma once

#include <memory>

#include "kernels/device.h"
#include "runtime/model/spec.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme::bench {

// A checkpoint in bf16 with all that a model of `spec` needs. The block is memory from which
// `device`, which outlives the checkpoint, copies fast.
Result<std::unique_ptr<Checkpoint>> make_up_weights(Device& device, const ModelSpec& spec);

}  // namespace trireme::bench
