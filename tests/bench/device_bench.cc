// A device against its ceilings: every op, and whole models; JSON lines. scripts/gpu_check runs it.
//
//   bench_device --device cpu|cuda ops [--only TEXT] [--seconds N]     TEXT: of an op and its shape
//   bench_device --device cpu|cuda quantized [--seconds N]      products with quantized weights
//   bench_device --device cpu|cuda model NAME [--weights int4|int8|fp8] [--seconds N]
//                                                              a folder of tests/bench/models
//       ... [--no-warp-groups]    kernels of older GPUs on a Hopper
//       (CudaOptions)
//       ... [--prefills 8192,1024] [--contexts 1024] [--batches 1,64]    only these
//   bench_device --device cpu|emulated --smoke                  all of it, small: shows that it
//   runs
//
// Over several GPUs with NCCL between them, or emulated ones:
//
//   bench_device --device cuda|emulated --gpus N all-reduce
//   bench_device --device cuda|emulated --gpus N model NAME [--seconds N]
//   bench_device --device emulated --gpus N --smoke
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "kernels/cuda/cuda_device.h"
#include "runtime/model/sublayers/matrix_format.h"
#include "tests/bench/device/all_reduce_bench.h"
#include "tests/bench/device/model_bench.h"
#include "tests/bench/device/op_bench.h"
#include "tests/support/cuda_gpu.h"
#include "tests/support/nccl_gpus.h"

namespace trireme::bench {
namespace {

struct Arguments {
  std::string device = "cpu";
  std::string what;  // "ops", "quantized", "model", "all-reduce", "smoke"
  int gpus = 0;      // with NCCL between them; 0: one device, without
  std::string model;
  std::optional<WeightType> weights;
  std::vector<int64_t> prefills, contexts, batches;  // empty: as is usual for the model
  std::string only;
  CudaOptions cuda;
  double seconds = 1e9;
};

const std::map<std::string, WeightType> kQuantized = {
    {"int4", WeightType::kInt4}, {"int8", WeightType::kInt8}, {"fp8", WeightType::kFp8}};

int usage() {
  std::fputs(
      "usage: bench_device --device cpu|cuda|emulated (ops [--only TEXT] | quantized | model NAME "
      "[--weights W] | --smoke) [--seconds N]\n"
      "       bench_device --device cuda|emulated --gpus N (all-reduce | model NAME | --smoke) "
      "[--seconds N]\n"
      "       of a model: [--prefills N,...] [--contexts N,...] [--batches N,...]\n"
      "       of one device: [--no-warp-groups] [--skinny-groups[=2|4]]\n",
      stderr);
  return 2;
}

// Numbers above 0 with commas between them; false where it is anything else.
bool parse_list(const std::string& word, std::vector<int64_t>& list) {
  list.clear();
  const char* at = word.data();
  const char* const end = at + word.size();
  while (at < end) {
    int64_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc{} || number <= 0 || (next < end && *next != ',')) return false;
    list.push_back(number);
    at = next < end ? next + 1 : end;
  }
  return !list.empty();
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
    } else if (words[i] == "--smoke" || words[i] == "ops" || words[i] == "quantized" ||
               words[i] == "all-reduce") {
      arguments.what = words[i] == "--smoke" ? "smoke" : words[i];
    } else if (words[i] == "model" && more) {
      arguments.what = "model";
      arguments.model = words[++i];
    } else if (words[i] == "--gpus" && more) {
      arguments.gpus = std::atoi(words[++i].c_str());
    } else if (words[i] == "--weights" && more) {
      const auto found = kQuantized.find(words[++i]);
      if (found == kQuantized.end()) return false;
      arguments.weights = found->second;
    } else if (words[i] == "--no-warp-groups") {
      arguments.cuda.warp_groups = false;
    } else if (words[i] == "--skinny-groups") {
      arguments.cuda.skinny_groups = true;
    } else if (words[i] == "--skinny-groups=2" || words[i] == "--skinny-groups=4") {
      arguments.cuda.skinny_groups = true;
      arguments.cuda.skinny_tile_groups = words[i].back() - '0';
    } else if (words[i] == "--only" && more) {
      arguments.only = words[++i];
    } else if (words[i] == "--prefills" && more) {
      if (!parse_list(words[++i], arguments.prefills)) return false;
    } else if (words[i] == "--contexts" && more) {
      if (!parse_list(words[++i], arguments.contexts)) return false;
    } else if (words[i] == "--batches" && more) {
      if (!parse_list(words[++i], arguments.batches)) return false;
    } else {
      return false;
    }
  }
  const bool together = arguments.what == "all-reduce" || arguments.gpus > 0;
  if (together && (arguments.device == "cpu" || arguments.weights || arguments.what == "ops" ||
                   arguments.what == "quantized"))
    return false;
  if (arguments.gpus < (arguments.what == "all-reduce" ? 2 : 0)) return false;
  return !arguments.what.empty() && arguments.seconds > 0 &&
         (arguments.device == "cpu" || arguments.device == "cuda" ||
          arguments.device == "emulated");
}

Result<std::unique_ptr<Device>> make_device(const Arguments& arguments) {
  if (arguments.device == "cpu") return make_cpu_device({});
  if (arguments.device == "emulated") return make_cuda_device(arguments.cuda);
  const Result<CudaLibrary> library = test::find_gpu();
  if (!library.ok()) return library.status();
  return library->plugin->make_device(arguments.cuda);
}

OpPlan all_ops(const Arguments& arguments) {
  OpPlan plan;
  plan.only = arguments.only;
  plan.warp_groups = arguments.cuda.warp_groups;
  plan.models = {"llama-3-8b", "rwkv7-7.2b", "yoco-3b", "llama-2-7b", "llama-1.1b"};
  plan.rows = {1, 64, 8192};
  plan.rows_between = {2, 4, 8, 9, 16, 32, 256};
  plan.decodes = {{1, 131072}, {64, 1024}, {16, 32768}};
  plan.arena_bytes = size_t{2} << 30;
  return plan;
}

QuantizedPlan quantized_products() {
  QuantizedPlan plan;
  plan.model = "llama-3-8b";
  plan.shapes = {{28672, 4096}, {4096, 14336}, {4096, 4096}};
  for (const auto& [name, type] : kQuantized) plan.formats.push_back(quantizing_format(type));
  plan.rows = {1, 8, 16, 64, 8192};
  plan.arena_bytes = size_t{2} << 30;
  return plan;
}

AllReducePlan all_reduces() {
  AllReducePlan plan;
  for (int64_t kilobytes = 8; kilobytes <= 64 << 10; kilobytes *= 2)
    plan.bytes.push_back(kilobytes << 10);
  return plan;
}

// What changes with the number of GPUs: decodes, which have an all-reduce after each sublayer.
ModelPlan sharded_model(const std::string& name) {
  return {name, {1024}, {1024}, {1, 64, 16}, 0, 0.4, std::nullopt};
}

ModelPlan whole_model(const std::string& name, std::optional<WeightType> weights) {
  if (weights) {
    const int64_t prefill = *weights == WeightType::kFp8 ? 8192 : 1024;
    return {name, {prefill}, {1024}, {1, 16, 64}, 0, 0.3, weights};
  }
  ModelPlan plan = {name, {8192, 1024}, {1024, 32768, 131072}, {1, 64, 16, 256}, 0, 0.4, {}};
  plan.serves = {{64}, {1}};
  return plan;
}

// The usual plan, but for what the command line names.
ModelPlan chosen(ModelPlan plan, const Arguments& arguments) {
  if (!arguments.prefills.empty()) plan.prefills = arguments.prefills;
  if (!arguments.contexts.empty()) plan.contexts = arguments.contexts;
  if (!arguments.batches.empty()) {
    plan.batches = arguments.batches;
    plan.serves.clear();  // which have batches of their own
  }
  if (!arguments.cuda.warp_groups) plan.variant += ", no warp groups";
  if (arguments.cuda.skinny_groups) plan.variant += ", skinny groups";
  if (const int groups = arguments.cuda.skinny_tile_groups; groups > 0)
    plan.variant += " of " + std::to_string(groups);
  return plan;
}

Status run_model_alone(Device& device, const ModelPlan& plan, const Deadline& deadline) {
  return run_model(*make_in_process_world(1)[0], device, plan, deadline);
}

Status run_model_sharded(test::NcclGpus& gpus, int count, const ModelPlan& plan,
                         const Deadline& deadline) {
  const auto answers = test::run_gpu_ranks(gpus, count, {}, [&](test::GpuRank& rank) {
    return run_model(rank.world, rank.device, plan, deadline);
  });
  for (const Status& answer : answers)
    if (!answer.ok()) return answer;
  return Status::ok_status();
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
    ModelPlan model = {name, {70, 33}, {40, 100}, {1, 4, 3}, uint64_t{1} << 30, 1e-3, {}};
    model.serves = {{3, 80, 6}};
    if (Status s = run_model_alone(device, model, deadline); !s.ok()) return s;
  }
  QuantizedPlan quantized = quantized_products();
  quantized.model = "smoke-gqa";
  quantized.shapes = {{96, 80}};
  quantized.rows = {1, 20, 70};
  quantized.arena_bytes = ops.arena_bytes;
  quantized.timing = ops.timing;
  if (Status s = run_quantized(device, quantized, deadline); !s.ok()) return s;
  for (const auto& [name, type] : kQuantized) {
    const ModelPlan model = {"smoke-gqa", {70}, {40}, {1, 4}, uint64_t{1} << 30, 1e-3, type};
    if (Status s = run_model_alone(device, model, deadline); !s.ok()) return s;
  }
  return run_ops(device, ops, deadline);
}

Status run_together(const Arguments& arguments, const Deadline& deadline) {
  Result<std::unique_ptr<test::NcclGpus>> gpus =
      arguments.device == "emulated" ? test::emulate_nccl_gpus() : test::find_nccl_gpus();
  if (!gpus.ok()) return gpus.status();
  const int count = arguments.gpus;
  if (count > (*gpus)->count())
    return invalid_argument(fmt::format("--gpus {}: this machine has {}", count, (*gpus)->count()));
  if (arguments.what == "all-reduce") return run_all_reduce(**gpus, count, all_reduces());
  if (arguments.what == "model")
    return run_model_sharded(**gpus, count, chosen(sharded_model(arguments.model), arguments),
                             deadline);
  AllReducePlan small;
  small.bytes = {8 << 10, 100'000};
  small.calls = small.repetitions = 3;
  if (Status s = run_all_reduce(**gpus, count, small); !s.ok()) return s;
  ModelPlan model = {"smoke-gqa", {33}, {40}, {1, 3}, uint64_t{1} << 30, 1e-3, {}};
  model.serves = {{2, 20, 4}};
  return run_model_sharded(**gpus, count, model, deadline);
}

Status run_alone(const Arguments& arguments, const Deadline& deadline) {
  Result<std::unique_ptr<Device>> device = make_device(arguments);
  Status status = device.status();
  if (status.ok() && arguments.what == "ops")
    status = run_ops(**device, all_ops(arguments), deadline);
  if (status.ok() && arguments.what == "quantized")
    status = run_quantized(**device, quantized_products(), deadline);
  if (status.ok() && arguments.what == "model")
    status = run_model_alone(
        **device, chosen(whole_model(arguments.model, arguments.weights), arguments), deadline);
  if (status.ok() &&
      arguments.what == "smoke")  // nobody looks at its times: what ops require is checked
    status = smoke(*make_checked_device(device.take()), deadline);
  return status;
}

int run(const std::vector<std::string>& words) {
  Arguments arguments;
  if (!parse(words, arguments)) return usage();
  const Deadline deadline(arguments.seconds);
  const Status status =
      arguments.gpus > 0 ? run_together(arguments, deadline) : run_alone(arguments, deadline);
  if (status.ok()) return 0;
  std::fprintf(stderr, "bench_device: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) { return trireme::bench::run({argv + 1, argv + argc}); }
