// All-reduce over GPUs of one host, by size: alone, one behind the other, and in a recorded step.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/support/nccl_gpus.h"

namespace trireme::bench {

struct AllReducePlan {
  std::vector<int64_t> bytes;
  int calls = 64;  // in one step: those of a decode step of 32 layers
  int repetitions = 9;
};

// On `count` GPUs. Prints a figure "all_reduce" for each size: seconds of a call with the wait for
// it; of a call among `calls`, plain and recorded, with one wait for all.
Status run_all_reduce(test::NcclGpus& gpus, int count, const AllReducePlan& plan);

}  // namespace trireme::bench
