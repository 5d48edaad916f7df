// A whole model on one device, or in shards on several: prefill and decode steps of the engine,
// with made-up weights and a cache that was filled without computing it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "kernels/device.h"
#include "tests/bench/device/figures.h"
#include "tests/bench/device/serve_bench.h"

namespace trireme::bench {

struct ModelPlan {
  std::string name;                   // of a folder in tests/bench/models
  std::vector<int64_t> prefills;      // tokens of one sequence
  std::vector<int64_t> contexts;      // of decodes
  std::vector<int64_t> batches;       // of decodes, the most interesting first
  uint64_t memory_bytes = 0;          // for weights and cache; 0: what the device has free
  double decode_seconds = 0.4;        // of one measurement
  std::optional<WeightType> weights;  // quantized as the loader does it; none: bf16
  std::string variant = "";           // of the device; comes after the name
  std::vector<ServePlan> serves = {};
};

// Prints figures "load", "memory", "prefill", "decode", "served", and "skip" for what does not fit
// or found no time. Each rank of `world` calls it with its own device and the same plan, and has a
// shard of the model; rank 0 prints, and decides what depends on the time.
Status run_model(Communicator& world, Device& device, const ModelPlan& plan,
                 const Deadline& deadline);

}  // namespace trireme::bench
