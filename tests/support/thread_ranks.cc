#include "tests/support/thread_ranks.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>

#include "comm/borrowed_communicator.h"
#include "comm/in_process/in_process.h"
#include "comm/staged/staged.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/support/cuda_gpu.h"

namespace trireme::test {
namespace {

Result<std::unique_ptr<Device>> make_device(const RankOptions& options, int rank) {
  if (options.gpus != nullptr) {
    Result<std::unique_ptr<Device>> device = options.gpus->make_device(rank);
    if (!device.ok()) return device;
    return make_checked_device(device.take());
  }
  if (options.isa == "ref") return make_checked_device(make_ref_device());
  if (options.isa == "cuda") return make_checked_device(make_gpu_device());
  if (options.isa == "emulated") {
    Result<std::unique_ptr<Device>> device = make_cuda_device({});
    if (!device.ok()) return device;
    return make_checked_device(device.take());
  }
  CpuOptions cpu;
  cpu.threads = options.threads;
  cpu.isa = options.isa;
  cpu.pin = false;
  Result<std::unique_ptr<Device>> device = make_cpu_device(cpu);
  if (!device.ok()) return device;
  return make_checked_device(device.take());
}

// The world that takes the device's tensors; null where those are the host's.
Result<std::unique_ptr<Communicator>> make_device_world(Communicator& world, Device& device,
                                                        const RankOptions& options) {
  if (device.place() == Place::kHost) return std::unique_ptr<Communicator>();
  if (options.gpus == nullptr)
    return make_staged_communicator(std::make_unique<BorrowedCommunicator>(world), device);
  NcclOptions nccl;
  nccl.ordinal = world.rank();
  return options.gpus->make_world(std::make_unique<BorrowedCommunicator>(world), device, nccl);
}

Status run_rank(Communicator& world, const ModelSpec& spec, const std::string& path,
                const RankOptions& options, const std::function<Status(Rank&)>& body) {
  // A checkpoint of its own: a rank gives a tensor's memory back when it has taken its slices.
  Result<std::unique_ptr<Checkpoint>> checkpoint = open_checkpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  Result<std::unique_ptr<Device>> device = make_device(options, world.rank());
  if (!device.ok()) return device.status();
  Result<std::unique_ptr<Communicator>> far = make_device_world(world, **device, options);
  if (!far.ok()) return far.status();
  Result<Groups> groups = make_groups(*far == nullptr ? world : **far, options.mesh);
  if (!groups.ok()) return groups.status();
  ModelLoad load;
  load.weights.choice = {options.dtype, options.quantization};
  load.cache_dtype = options.cache_dtype;
  load.rows_max = options.rows_max;
  load.block_tokens = options.block_tokens;
  Result<std::unique_ptr<Model>> model = Model::load(spec, **checkpoint, **device, *groups, load);
  if (!model.ok()) return model.status();
  ExecutorOptions executor_options;
  executor_options.cache_bytes = options.cache_bytes;
  executor_options.tokens_max = options.tokens_max;
  executor_options.chunk_max = options.tokens_max;
  executor_options.sequences_max = options.sequences_max;
  executor_options.prefixes = options.prefixes;
  executor_options.swap_bytes = options.swap_bytes;
  executor_options.record_steps = options.record_steps;
  Result<std::unique_ptr<Executor>> executor =
      Executor::make(**device, world, *groups, **model, executor_options);
  if (!executor.ok()) return executor.status();
  Rank rank{world, *groups, **model, **executor};
  return body(rank);
}

}  // namespace

Status run_ranks(const std::string& path, const RankOptions& options,
                 const std::function<Status(Rank&)>& body) {
  Result<std::unique_ptr<Checkpoint>> checkpoint = open_checkpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  Result<ModelSpec> spec = read_model_spec(path, checkpoint->get());
  if (!spec.ok()) return spec.status();
  if (options.edit_spec) options.edit_spec(*spec);
  if (Status s = check_mesh(*spec, options.mesh); !s.ok()) return s;

  std::vector<std::unique_ptr<Communicator>> world = make_in_process_world(options.mesh.size());
  std::mutex mutex;
  Status first_error;
  std::vector<std::thread> threads;
  for (int i = 0; i < options.mesh.size(); ++i) {
    threads.emplace_back([&, i] {
      std::unique_ptr<Communicator> mine =
          std::move(world[i]);  // gone when the thread ends: peers notice
      const Status status = run_rank(*mine, *spec, path, options, body);
      const std::lock_guard lock(mutex);
      if (first_error.ok() && !status.ok()) first_error = status;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

Result<std::vector<std::vector<float>>> score_sequences(
    const std::string& path, const RankOptions& options,
    const std::vector<std::vector<int32_t>>& sequences, uint32_t chunk) {
  std::vector<std::vector<float>> logits(sequences.size());
  const auto body = [&](Rank& rank) -> Status {
    const int64_t vocab = rank.model.spec().vocab;
    const bool writes = rank.groups.last_stage() && rank.groups.here.shard == 0;
    std::vector<BlockPool> pools;
    for (uint32_t total : rank.executor.blocks_total()) pools.emplace_back(total);
    std::vector<SequenceBlocks> blocks(sequences.size(), SequenceBlocks(rank.executor.layout()));
    std::vector<uint32_t> done(sequences.size(), 0);
    for (;;) {
      std::vector<SequenceRun> runs;
      std::vector<size_t> row_owner;
      for (size_t s = 0; s < sequences.size(); ++s) {
        const auto left = static_cast<uint32_t>(sequences[s].size()) - done[s];
        const uint32_t count = chunk == 0 ? left : std::min(left, chunk);
        if (count == 0) continue;
        CHECK(blocks[s].advance(pools, done[s], done[s] + count));
        runs.push_back({&blocks[s], done[s], std::span(sequences[s]).subspan(done[s], count),
                        SequenceRun::Logits::kAll});
        row_owner.insert(row_owner.end(), count, s);
        done[s] += count;
      }
      if (runs.empty()) return Status::ok_status();
      const Status status = rank.executor.step(runs, [&](int64_t first, TensorView part) {
        for (int64_t r = 0; r < part.rows && writes; ++r) {
          std::vector<float>& out = logits[row_owner[first + r]];
          out.insert(out.end(), part.f32_row(r), part.f32_row(r) + vocab);
        }
        return Status::ok_status();
      });
      if (!status.ok()) return status;
    }
  };
  if (Status s = run_ranks(path, options, body); !s.ok()) return s;
  return logits;
}

namespace {

template <class T>
Result<std::vector<T>> read_tensor(const std::string& path, const std::string& name) {
  Result<std::unique_ptr<Checkpoint>> file = open_checkpoint(path);
  if (!file.ok()) return file.status();
  const TensorInfo* info = (*file)->find(name);
  if (info == nullptr) return not_found(path + ": no tensor " + name);
  Result<std::span<const std::byte>> bytes = (*file)->bytes(*info);
  if (!bytes.ok()) return bytes.status();
  std::vector<T> values(bytes->size() / sizeof(T));
  std::memcpy(values.data(), bytes->data(), values.size() * sizeof(T));
  return values;
}

}  // namespace

Result<std::vector<int64_t>> read_int64s(const std::string& path, const std::string& name) {
  return read_tensor<int64_t>(path, name);
}

Result<std::vector<float>> read_floats(const std::string& path, const std::string& name) {
  return read_tensor<float>(path, name);
}

}  // namespace trireme::test
