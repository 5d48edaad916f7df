#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tests/bench/device/device_arrays.h"
#include "tests/bench/device/made_up_matrix.h"
#include "tests/bench/device/op_bench.h"

namespace trireme::bench {
namespace {

// So many equal matrices that none is found in a cache when its turn comes.
Result<std::vector<Matrix>> rotated(Device& device, QuantizedPlan::Shape shape, WeightFormat format,
                                    size_t bytes) {
  std::vector<Matrix> copies;
  Result<Matrix> first = make_up_matrix(device, shape.outputs, shape.inputs, format);
  if (!first.ok()) return first.status();
  copies.push_back(first.take());
  const size_t each = copies.front().buffer.bytes();
  while (copies.size() < 2 || copies.size() * each < bytes) {
    Result<Matrix> made = device.make_matrix(shape.outputs, shape.inputs, format);
    if (!made.ok()) return made.status();
    device.copy(made->buffer.data(), copies.front().buffer.data(), each);
    copies.push_back(made.take());
  }
  return copies;
}

}  // namespace

Status run_quantized(Device& device, const QuantizedPlan& plan, const Deadline& deadline) {
  constexpr size_t kRotatedBytes = size_t{256} << 20;
  Arena arena;
  if (Status s = arena.make(device, plan.arena_bytes); !s.ok()) return s;
  for (const WeightFormat format : plan.formats) {
    const std::string name = weight_format_name(format);
    if (const Result<Matrix> one = device.make_matrix(1, 1, format); !one.ok()) {
      print_figure({{"kind", "skip"},
                    {"model", plan.model},
                    {"what", "products with " + name},
                    {"why", std::string(one.status().message())}});
      continue;
    }
    for (const QuantizedPlan::Shape& shape : plan.shapes) {
      if (deadline.left() < 1) return Status::ok_status();
      const Result<std::vector<Matrix>> copies =
          rotated(device, shape, format, std::min(kRotatedBytes, plan.arena_bytes));
      if (!copies.ok()) return copies.status();
      for (const int64_t rows : plan.rows) {
        const int64_t outputs = shape.outputs, inputs = shape.inputs;
        const int64_t widest = std::max(inputs, outputs);
        if (static_cast<size_t>(rows * widest) * sizeof(float) > plan.arena_bytes ||
            deadline.left() < 0.5)
          continue;
        const Result<double> seconds = seconds_of(device, plan.timing, [&](int64_t call) {
          device.ops().linear(arena.input(rows, inputs),
                              (*copies)[static_cast<size_t>(call) % copies->size()].view(),
                              arena.output(rows, outputs));
        });
        if (!seconds.ok()) return seconds.status();
        print_figure({{"kind", "op"},
                      {"model", plan.model},
                      {"op", "linear"},
                      {"shape", fmt::format("{} x {} {}, {} rows", outputs, inputs, name, rows)},
                      {"seconds", *seconds},
                      {"bytes", static_cast<double>(weight_bytes(outputs, inputs, format)) +
                                    4.0 * static_cast<double>(rows * (inputs + outputs))},
                      {"flops", 2.0 * static_cast<double>(rows * inputs * outputs)}});
      }
    }
  }
  return Status::ok_status();
}

}  // namespace trireme::bench
