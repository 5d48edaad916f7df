// The serving engine over an executor: what a step takes where requests come in and tokens go out.
#pragma once

#include <cstdint>

#include "runtime/engine/executor.h"

namespace trireme::bench {

struct ServePlan {
  int64_t requests = 1;  // at once, greedy, with prompts of their own
  int64_t prompt = 128;  // tokens of each
  int64_t answer = 64;
};

// Each rank of `world` calls it with its own executor, which has room for all requests at once.
// Returns, on rank 0, the median time between two tokens of a request while all of them decode; 0
// on others.
Result<double> served_step_seconds(Executor& executor, Communicator& world, const Groups& groups,
                                   const ServePlan& plan);

}  // namespace trireme::bench
