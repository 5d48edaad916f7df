// The kernel behind CudaSampler: one block chooses one row's token.
#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/device_sampler.h"

namespace trireme::cuda {

struct SampleCall {
  const float* logits;
  int64_t stride;
  int32_t vocab;
  const SampleRow* rows;  // [count]
  int32_t count;
  const LogitEdit* edits;
  const uint32_t* masks;
  float* edited;      // [count, vocab]: rows after their edits
  uint64_t* weights;  // [count, vocab]
  int32_t* tokens;    // [count]
};

void queue_sample(Context& context, const SampleCall& call);

}  // namespace trireme::cuda
