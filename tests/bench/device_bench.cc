// A device against its ceilings: every op, and whole models; JSON lines. scripts/gpu_check runs it.
//
//   bench_device --device cpu|cuda ops [--seconds N]
//   bench_device --device cpu|cuda model NAME [--seconds N]     a folder of tests/bench/models
//   bench_device --device cpu|emulated --smoke                  both, small: shows that it runs
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "tests/bench/device/model_bench.h"
#include "tests/bench/device/op_bench.h"
#include "tests/support/cuda_gpu.h"

namespace trireme::bench {
namespace {

struct Arguments {
  std::string device = "cpu";
  std::string what;  // "ops", "model", "smoke"
  std::string model;
  double seconds = 1e9;
};

int usage() {
  std::fputs(
      "usage: bench_device --device cpu|cuda|emulated (ops | model NAME | --smoke) [--seconds N]\n",
      stderr);
  return 2;
}

bool parse(const std::vector<std::string>& words, Arguments& arguments) {
  for (size_t i = 0; i < words.size(); ++i) {
    const bool more = i + 1 < words.size();
    if (words[i] == "--device" && more) {
      arguments.device = words[++i];
    } else if (words[i].starts_with("--seconds=")) {
      arguments.seconds = std::atof(words[i].c_str() + 10);
    } else if (words[i] == "--seconds" && more) {
      arguments.seconds = std::atof(words[++i].c_str());
    } else if (words[i] == "--smoke" || words[i] == "ops") {
      arguments.what = words[i] == "ops" ? "ops" : "smoke";
    } else if (words[i] == "model" && more) {
      arguments.what = "model";
      arguments.model = words[++i];
    } else {
      return false;
    }
  }
  return !arguments.what.empty() && arguments.seconds > 0 &&
         (arguments.device == "cpu" || arguments.device == "cuda" ||
          arguments.device == "emulated");
}

Result<std::unique_ptr<Device>> make_device(const std::string& name) {
  if (name == "cpu") return make_cpu_device({});
  if (name == "emulated") return make_cuda_device({});
  const Result<CudaLibrary> library = test::find_gpu();
  if (!library.ok()) return library.status();
  return library->plugin->make_device({});
}

OpPlan all_ops() {
  OpPlan plan;
  plan.models = {"llama-3-8b", "rwkv7-7.2b", "yoco-3b", "llama-2-7b", "llama-1.1b"};
  plan.rows = {1, 64, 8192};
  plan.rows_between = {2, 4, 8, 9, 16, 32, 256};
  plan.decodes = {{1, 131072}, {64, 1024}, {16, 32768}};
  plan.arena_bytes = size_t{2} << 30;
  return plan;
}

ModelPlan whole_model(const std::string& name) {
  return {name, {8192, 1024}, {1024, 32768, 131072}, {1, 64, 16, 256}, 0, 0.4};
}

Status smoke(Device& device, const Deadline& deadline) {
  OpPlan ops;
  ops.rows = {1, 5};
  ops.rows_between = {2};
  ops.decodes = {{1, 100}, {3, 40}};
  ops.prefill = 70;
  ops.arena_bytes = size_t{1} << 20;
  ops.timing = {1e-4, 1};
  for (const char* name : {"smoke-gqa", "smoke-rwkv7", "smoke-yoco"}) {
    ops.models.emplace_back(name);
    const ModelPlan model = {name, {70, 33}, {40, 100}, {1, 4, 3}, uint64_t{1} << 30, 1e-3};
    if (Status s = run_model(device, model, deadline); !s.ok()) return s;
  }
  return run_ops(device, ops, deadline);
}

int run(const std::vector<std::string>& words) {
  Arguments arguments;
  if (!parse(words, arguments)) return usage();
  const Deadline deadline(arguments.seconds);
  Result<std::unique_ptr<Device>> device = make_device(arguments.device);
  Status status = device.status();
  if (status.ok() && arguments.what == "ops") status = run_ops(**device, all_ops(), deadline);
  if (status.ok() && arguments.what == "model")
    status = run_model(**device, whole_model(arguments.model), deadline);
  if (status.ok() &&
      arguments.what == "smoke")  // nobody looks at its times: what ops require is checked
    status = smoke(*make_checked_device(device.take()), deadline);
  if (status.ok()) return 0;
  std::fprintf(stderr, "bench_device: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) { return trireme::bench::run({argv + 1, argv + argc}); }
