// What a step of a model has to move and to compute at least, counted from its spec: the floor that
// measured times are held against.
#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "runtime/model/spec.h"
#include "runtime/model/sublayers/matrix_format.h"

namespace trireme::bench {

struct Work {
  double bytes = 0;  // read or written once, in device memory
  double flops = 0;  // of matrix products and attention; a multiply-add is two
};

// A step in which each of `batch` sequences, which have `context` tokens already, computes one
// more: every weight is read once, and every row of the cache that the token sees; states are read
// and written. Activations are not counted: they stay in the L2 cache.
Result<Work> decode_work(const ModelSpec& spec, int64_t batch, int64_t context,
                         const WeightChoice& weights, DType cache);

// A step of the first `tokens` tokens of one sequence, of which the last wants logits.
Result<Work> prefill_work(const ModelSpec& spec, int64_t tokens, DType weights, DType cache);

}  // namespace trireme::bench
