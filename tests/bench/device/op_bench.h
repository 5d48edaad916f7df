// Every op at the shapes of a model, against the bytes that it has to move and the products that it
// has to compute.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/bench/device/figures.h"

namespace trireme::bench {

struct OpPlan {
  std::vector<std::string> models;  // of folders in tests/bench/models
  std::vector<int64_t> rows;        // of the ops that have rows: decodes and a prefill
  std::vector<int64_t>
      rows_between;  // also of the first model's feed-forward: where kernels change
  struct Decode {
    int64_t batch = 1, context = 1024;
  };
  std::vector<Decode> decodes;  // of attention; recurrences take the batches
  int64_t prefill = 8192;       // rows of one sequence: attention and recurrences
  size_t arena_bytes = 0;       // of inputs, and of outputs
  std::string only;             // what an op and its shape must contain
  bool warp_groups = true;      // the device's: attention is called by another name then
  Timing timing;
};

// Products with quantized weights.
struct QuantizedPlan {
  struct Shape {
    int64_t outputs = 0, inputs = 0;
  };
  std::string model;  // that has the shapes
  std::vector<Shape> shapes;
  std::vector<WeightFormat> formats;
  std::vector<int64_t> rows;
  size_t arena_bytes = 0;
  Timing timing;
};
// Prints figures "op", and "skip" where the device has no such weights.
Status run_quantized(Device& device, const QuantizedPlan& plan, const Deadline& deadline);

// Prints figures "op", each shape once whatever models share it.
Status run_ops(Device& device, const OpPlan& plan, const Deadline& deadline);

}  // namespace trireme::bench
