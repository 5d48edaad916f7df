#include "launcher/commands/worker.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "comm/borrowed_communicator.h"
#include "kernels/cpu/features.h"
#include "launcher/commands/gpu_cache.h"
#include "launcher/output.h"
#include "runtime/engine/rehearsal.h"
#include "runtime/model/weights/dummy_checkpoint.h"
#include "runtime/model/weights/load_progress.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

Result<std::unique_ptr<Checkpoint>> make_dummy(const Deployment& deployment,
                                               const ModelSpec& spec) {
  const auto shapes = tensor_shapes(spec);
  if (!shapes.ok()) return shapes.status();
  const DType dtype = deployment.model.dtype.value_or(spec.dtype.value_or(DType::kBF16));
  std::vector<TensorInfo> tensors;
  for (const auto& [name, shape] : *shapes) tensors.push_back(make_tensor_info(name, dtype, shape));
  return make_dummy_checkpoint(std::move(tensors), deployment.engine.seed);
}

Result<std::unique_ptr<Device>> make_cpu(const EngineOptions& engine, const RankWorld& world) {
  CpuOptions options;
  options.threads =
      engine.threads > 0 ? engine.threads : std::max(1, allowed_cores() / world.host_size);
  options.isa = engine.isa == "auto" ? "" : engine.isa;
  options.first_core = world.host_rank * options.threads;
  // Where ranks share cores, a pinned thread would wait for its core while another idles.
  options.pin = options.threads * world.host_size <= allowed_cores();
  return make_cpu_device(options);
}

Result<std::unique_ptr<Device>> make_device(const EngineOptions& engine, const RankWorld& world,
                                            const DeviceChoice& choice, const CudaFound& found) {
  Result<std::unique_ptr<Device>> device = choice.kind == DeviceKind::kCuda
                                               ? found.library->plugin->make_device({choice.gpu})
                                               : make_cpu(engine, world);
#ifdef TRIREME_CHECKED_OPS
  if (device.ok()) device = make_checked_device(device.take());
#endif
  // A GPU that does not answer is no lost peer: the user chose this machine and this key.
  if (device.status().code() == StatusCode::kUnavailable)
    return invalid_argument(device.status().message());
  return device;
}

// How ranks with GPUs exchange tensors; worker.device_world stays null where there is one rank. A
// failure of NCCL that its watchdog finds ends the job: the rank's own thread may be waiting for a
// device that will not answer.
int join_gpus(RankWorld& world, const CudaFound& found, Worker& worker) {
  if (worker.choice.kind != DeviceKind::kCuda || world.size == 1) return kExitOk;
  const NcclDoor* door = nccl_door(*found.library);
  if (door == nullptr) {
    return fail(
        world,
        unavailable(fmt::format("{} has no communicators: build it anew", found.library->path)),
        Doing::kConfiguring);
  }
  NcclOptions options;
  options.ordinal = worker.choice.gpu;
  options.on_failure = [&world](const Status& status) { fail(world, status, Doing::kRunning); };
  Result<DeviceCommunicator> made =
      door->make(std::make_unique<BorrowedCommunicator>(*world.world), *worker.device, options);
  if (!made.ok()) return fail(world, made.status(), Doing::kRunning);
  worker.device_world = std::move(made->world);
  if (worker.choice.note.empty()) worker.choice.note = made->choice.why;
  return kExitOk;
}

// Every rank calls it. Sets worker.choice, worker.device and worker.device_world; returns the exit
// code.
int open_device(const EngineOptions& engine, RankWorld& world, Worker& worker) {
  CudaFound found;
  if (engine.device != DeviceKind::kCpu) found = look_for_cuda(cuda_library_folders());
  const Result<DeviceChoice> choice =
      choose_device(engine.device, found, world.host_rank, world.host_size);
  if (const int code = settle(world, choice.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  worker.choice = *choice;
  if (Status s = agree_on_device(world, worker.choice); !s.ok())
    return fail(world, s, Doing::kRunning);
  Result<std::unique_ptr<Device>> device = make_device(engine, world, worker.choice, found);
  if (const int code = settle(world, device.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  worker.device = device.take();
  return join_gpus(world, found, worker);
}

}  // namespace

Result<ModelFiles> open_model(const Deployment& deployment) {
  ModelFiles files;
  const std::string& path = deployment.model.path;
  const bool dummy = deployment.model.load_format == LoadFormat::kDummy;
  if (!dummy) {
    Result<std::unique_ptr<Checkpoint>> checkpoint = open_checkpoint(path);
    if (!checkpoint.ok()) return checkpoint.status();
    files.checkpoint = checkpoint.take();
  }
  Result<ModelSpec> spec = read_model_spec(path, files.checkpoint.get());
  if (!spec.ok()) return spec.status();
  files.spec = spec.take();
  if (dummy) {
    files.spec.quantized = nullptr;  // what is made up is plain
    Result<std::unique_ptr<Checkpoint>> checkpoint = make_dummy(deployment, files.spec);
    if (!checkpoint.ok()) return checkpoint.status();
    files.checkpoint = checkpoint.take();
  }
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      load_tokenizer(deployment.model.tokenizer.value_or(path));
  if (tokenizer.ok()) {
    files.tokenizer = tokenizer.take();
  } else if (deployment.model.tokenizer || tokenizer.status().code() != StatusCode::kNotFound) {
    return tokenizer.status();
  }
  return files;
}

WeightChoice weight_choice(const Deployment& deployment) {
  return {deployment.model.dtype, deployment.model.quantization};
}

std::string describe_weights(const Deployment& deployment, const ModelFiles& files) {
  const auto& quantization = deployment.model.quantization;
  if (quantization)
    return fmt::format("{}, quantized as they load", weight_type_name(*quantization));
  if (files.spec.quantized != nullptr)
    return fmt::format("{}, as the checkpoint has them", files.spec.quantized->name());
  return std::string(
      dtype_name(weights_dtype(files.spec, *files.checkpoint, deployment.model.dtype)));
}

Result<uint32_t> context_limit(const Deployment& deployment, const ModelSpec& spec) {
  const auto& wanted = deployment.model.max_model_len;
  if (!wanted) return spec.context_max;
  if (spec.context_max > 0 && static_cast<uint32_t>(*wanted) > spec.context_max) {
    return invalid_argument(fmt::format(
        "max_model_len {} is more than the {} positions that the model was made for; lower it",
        *wanted, spec.context_max));
  }
  return static_cast<uint32_t>(*wanted);
}

namespace {

// This rank's weights.
Status load_model(const Deployment& deployment, const ModelFiles& files, const RankWorld& world,
                  uint32_t rows_max, Worker& worker) {
  const Clock::time_point start = Clock::now();
  ModelLoad load;
  load.weights.choice = weight_choice(deployment);
  load.weights.threads = std::max(1, allowed_cores() / world.host_size);
  load.cache_dtype = deployment.engine.kv_cache_dtype;
  load.rows_max = rows_max;
  load.block_tokens = static_cast<uint32_t>(deployment.engine.block_size);
  // On a GPU a step waits once for all its logits, and only such a step is recorded.
  if (worker.choice.kind == DeviceKind::kCuda) {
    load.logit_rows_max = std::max<int64_t>(load.logit_rows_max,
                                            std::min<int64_t>(rows_max, worker.limits.sequences));
  }
  const Result<uint64_t> bytes = weight_bytes(files.spec, files.checkpoint.get(),
                                              load.weights.choice, world.mesh, worker.groups->here);
  if (!bytes.ok()) return bytes.status();
  LoadProgress progress("weights", *bytes, start, [&](const std::string& line) {
    if (world.rank == 0 && deployment.logging.level == LogLevel::kInfo) print_message(line);
  });
  load.weights.progress = [&](uint64_t n) { progress.add(n, Clock::now()); };
  Result<std::unique_ptr<Model>> model =
      Model::load(files.spec, *files.checkpoint, *worker.device, *worker.groups, load);
  if (!model.ok()) return model.status();
  progress.finish(Clock::now());
  worker.model = model.take();
  return Status::ok_status();
}

ExecutorOptions executor_options(const EngineOptions& engine, const WorkerShape& shape,
                                 const Worker& worker) {
  ExecutorOptions options;
  options.tokens_max = worker.tokens_max;
  options.chunk_max = worker.chunk_max;
  options.sequences_max = worker.limits.sequences;
  options.prefixes = shape.prefixes;
  options.swap_bytes = shape.swap_bytes;
  options.record_steps = !engine.enforce_eager;
  return options;
}

// What gpu_memory_utilization leaves for the cache, once steps have taken what they need beside it.
int measure_gpu_cache(const EngineOptions& engine, RankWorld& world, const ExecutorOptions& options,
                      Worker& worker, uint64_t& bytes) {
  const auto left = [&](uint64_t executor_bytes) {
    return gpu_cache_bytes(worker.device->memory(), engine.gpu_memory_utilization,
                           worker.choice.ranks_on_gpu, executor_bytes);
  };
  const Result<uint64_t> most = left(0);
  if (const int code = settle(world, most.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  ExecutorOptions trial = options;
  trial.cache_bytes = *most;
  const Result<uint64_t> executor_bytes =
      rehearse(*worker.device, *world.world, *worker.groups, *worker.model, trial);
  if (const int code = settle(world, executor_bytes.status(), Doing::kLoadingModel);
      code != kExitOk)
    return code;
  const Result<uint64_t> cache = left(*executor_bytes);
  // Settling is also waiting: nobody takes its cache before all have measured.
  if (const int code = settle(world, cache.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  bytes = *cache;
  return kExitOk;
}

// REQUIRES: this rank's weights are loaded. Every rank calls it; sets worker.executor, returns the
// exit code.
int start_executor(const EngineOptions& engine, RankWorld& world, const WorkerShape& shape,
                   Worker& worker) {
  ExecutorOptions options = executor_options(engine, shape, worker);
  options.cache_bytes = engine.cpu_kv_cache_space;
  if (worker.choice.kind == DeviceKind::kCuda && engine.kv_cache_memory_bytes) {
    options.cache_bytes = *engine.kv_cache_memory_bytes;
  } else if (worker.choice.kind == DeviceKind::kCuda) {
    if (const int code = measure_gpu_cache(engine, world, options, worker, options.cache_bytes);
        code != kExitOk)
      return code;
  }
  Result<std::unique_ptr<Executor>> executor =
      Executor::make(*worker.device, *world.world, *worker.groups, *worker.model, options);
  if (const int code = settle(world, executor.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  worker.executor = executor.take();
  return kExitOk;
}

}  // namespace

int place_worker(const Deployment& deployment, const ModelFiles& files, RankWorld& world,
                 Worker& worker) {
  const Status fits = check_mesh(files.spec, world.mesh);
  if (const int code = settle(world, fits, Doing::kConfiguring); code != kExitOk) return code;
  // Before the groups: what moves their tensors depends on where these lie.
  if (const int code = open_device(deployment.engine, world, worker); code != kExitOk) return code;
  worker.limits = step_limits(deployment.engine, worker.choice.kind);
  Communicator& ranks = worker.device_world != nullptr ? *worker.device_world : *world.world;
  Result<Groups> groups = make_groups(ranks, world.mesh);
  if (!groups.ok()) return fail(world, groups.status(), Doing::kRunning);
  worker.groups = std::make_unique<Groups>(groups.take());
  return kExitOk;
}

int load_worker(const Deployment& deployment, const ModelFiles& files, RankWorld& world,
                const WorkerShape& shape, Worker& worker) {
  const Clock::time_point start = Clock::now();
  const EngineOptions& engine = deployment.engine;
  worker.spec = &files.spec;
  worker.weights = describe_weights(deployment, files);
  worker.tokens_max = shape.tokens_max;
  const uint32_t rows_max = shape.rows_max > 0 ? shape.rows_max : worker.limits.rows;
  worker.chunk_max = rows_max;
  if (engine.prefill_chunk > 0)
    worker.chunk_max = std::min(worker.chunk_max, static_cast<uint32_t>(engine.prefill_chunk));
  const Status loaded = load_model(deployment, files, world, rows_max, worker);
  if (const int code = settle(world, loaded, Doing::kLoadingModel); code != kExitOk) return code;
  if (const int code = start_executor(engine, world, shape, worker); code != kExitOk) return code;
  worker.load_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return kExitOk;
}

std::string describe_mesh(const Worker& worker) {
  const Mesh& mesh = worker.groups->mesh;
  const int threads = worker.device->threads();
  return fmt::format("tp {} x pp {} = {} rank{}, {} thread{} each, {}", mesh.shards, mesh.stages,
                     mesh.size(), mesh.size() == 1 ? "" : "s", threads, threads == 1 ? "" : "s",
                     worker.device->name()) +
         (worker.choice.note.empty() ? "" : fmt::format(" ({})", worker.choice.note));
}

}  // namespace trireme
