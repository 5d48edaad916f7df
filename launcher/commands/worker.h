// One rank's share of a worker, put together from a deployment: device, checkpoint, model,
// executor. What generate and score have in common.
#pragma once

#include <memory>
#include <optional>

#include "launcher/commands/step_limits.h"
#include "launcher/device_choice.h"
#include "launcher/world.h"
#include "runtime/config/deployment.h"
#include "runtime/engine/executor.h"
#include "runtime/model/families/families.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

// What is known before any weight is loaded. Cheap: the same on every rank.
struct ModelFiles {
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
  std::unique_ptr<Tokenizer> tokenizer;  // null for dummy weights of a folder without one
};
Result<ModelFiles> open_model(const Deployment& deployment);

// In what form the deployment wants the weights in memory.
WeightChoice weight_choice(const Deployment& deployment);

// The same in words: "bfloat16", "int4, quantized as they load", "gptq, as the checkpoint has
// them".
std::string describe_weights(const Deployment& deployment, const ModelFiles& files);

// The longest sequence that model and deployment allow; 0: no limit.
Result<uint32_t> context_limit(const Deployment& deployment, const ModelSpec& spec);

// INVARIANT: members are destroyed in the reverse order, executor first.
struct Worker {
  const ModelSpec* spec = nullptr;
  DeviceChoice choice;
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> device_world;  // of ranks with GPUs: tensors of the device too
  std::unique_ptr<Groups> groups;
  std::unique_ptr<Model> model;
  std::unique_ptr<Executor> executor;
  StepLimits limits;
  uint32_t tokens_max = 0;
  uint32_t chunk_max = 0;
  std::string weights;  // describe_weights()
  double load_seconds = 0;
};

// What a worker is made for.
struct WorkerShape {
  uint32_t tokens_max = 0;  // the longest sequence that will be run
  uint32_t rows_max = 0;    // of one step; 0: limits.rows
  PrefixRoom prefixes;      // what its cache holds besides sequences
  uint64_t swap_bytes = 0;  // host memory for sequences that yield, on each rank
};

// Every rank calls both, one after the other: where the ranks compute and what follows from that,
// then what lies there. Each returns kExitOk, or the exit code after one rank has said why; ranks
// settle after each part that can fail on one of them alone.
int place_worker(const Deployment& deployment, const ModelFiles& files, RankWorld& world,
                 Worker& worker);
int load_worker(const Deployment& deployment, const ModelFiles& files, RankWorld& world,
                const WorkerShape& shape, Worker& worker);

// The mesh and how its ranks are laid out, in one line: "tp 2 x pp 2 = 4 ranks, 1 thread each,
// cpu/avx512", and in brackets why it is the CPU where a CUDA library was found.
std::string describe_mesh(const Worker& worker);

}  // namespace trireme
