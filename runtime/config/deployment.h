// A deployment as plain values: what one YAML file and the command line together say. Made by
// config_reader.h and the launcher's command line, read by the launcher, which hands each component
// the part that is its own. configs/README.md describes every key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/weight_format.h"
#include "runtime/sample/sampling_params.h"

namespace trireme {

enum class LoadFormat : uint8_t {
  kAuto,   // the checkpoint's own
  kDummy,  // random weights from engine.seed; the path needs only a config.json
};

enum class GenerationConfig : uint8_t {
  kAuto,  // the model's generation_config.json, where a request and sampling.* say nothing
  kNone,
};

struct ModelOptions {
  std::string path;                      // a folder or a checkpoint file; "" = not given
  std::optional<std::string> tokenizer;  // nullopt = the model's own
  std::optional<DType> dtype;            // of the weights in memory; nullopt = the checkpoint's
  std::optional<WeightType>
      quantization;  // of the large ones; nullopt = as the checkpoint has them
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<int32_t> max_model_len;        // tokens; nullopt = the model's
  std::vector<std::string> served_model_name;  // of `serve`; empty = the path's last part
  std::optional<std::string> chat_template;    // a Jinja file; nullopt = the model's own
  GenerationConfig generation_config = GenerationConfig::kAuto;  // of `serve`

  bool operator==(const ModelOptions&) const = default;
};

enum class SchedulingPolicy : uint8_t { kFcfs, kPriority };
enum class AdmissionKind : uint8_t { kReserve, kOptimistic };
enum class PreemptionKind : uint8_t { kAuto, kSpill, kRecompute };

enum class DeviceKind : uint8_t {
  kAuto,  // kCuda where every rank can have a GPU, else kCpu
  kCpu,
  kCuda,
};

struct EngineOptions {
  DeviceKind device = DeviceKind::kAuto;
  std::optional<int32_t> tensor_parallel_size;    // nullopt = not given: chosen from the world
  std::optional<int32_t> pipeline_parallel_size;  // nullopt = not given: 1
  int32_t threads = 0;                            // per rank; 0 = the host's cores over its ranks
  // Of one step: tokens; sequences, or as many as tokens if that is less. nullopt = by the device.
  std::optional<int32_t> max_num_batched_tokens, max_num_seqs;
  int32_t prefill_chunk = 0;  // most prompt tokens of one sequence in one step; 0 = no own limit
  int32_t block_size = 32;    // tokens of one cache block
  std::optional<DType> kv_cache_dtype;              // nullopt = the engine chooses
  uint64_t cpu_kv_cache_space = uint64_t{1} << 30;  // bytes of cache per rank, on the CPU
  float gpu_memory_utilization = 0.9f;              // share of a GPU's memory that is used at all
  std::optional<uint64_t> kv_cache_memory_bytes;  // per rank, on a GPU; nullopt = what that leaves
  bool enforce_eager = false;                     // no recorded steps
  std::string isa = "auto";                       // "auto", "scalar", "avx2", "avx512"
  uint64_t seed = 0;                              // of dummy weights

  // Of `serve`.
  bool enable_prefix_caching = true;
  int32_t prefix_granule = 64;  // tokens of one key of the prefix cache
  bool enable_chunked_prefill = true;
  SchedulingPolicy scheduling_policy = SchedulingPolicy::kFcfs;
  AdmissionKind admission = AdmissionKind::kReserve;
  PreemptionKind preemption = PreemptionKind::kAuto;
  uint64_t swap_space = uint64_t{1}
                        << 30;          // bytes of host memory for preempted sequences, per rank
  uint64_t priority_aging_ms = 10000;   // waiting that makes up for one level of priority
  int32_t pipeline_depth = 0;           // steps under way; 0 = the number of stages
  int32_t max_queue = 1024;             // requests that wait, at most
  uint64_t step_timeout_ms = 300000;    // a step that takes longer ends the worker
  int32_t max_logprobs = kLogprobsMax;  // log-probabilities of a token, at most

  // What the mesh needs, as far as it was given.
  int mesh_size() const {
    return tensor_parallel_size.value_or(1) * pipeline_parallel_size.value_or(1);
  }

  bool operator==(const EngineOptions&) const = default;
};

struct GenerateOptions {
  std::vector<std::string> prompts;
  std::string prompt_file;  // one prompt: the whole file; "" = not given

  bool operator==(const GenerateOptions&) const = default;
};

enum class GroupRole : uint8_t { kPrefill, kDecode, kBoth };

// The workers of one kind. So far a deployment has one of one worker, and so one of these; what its
// `engine` says is in Deployment::engine.
struct GroupDeployment {
  std::string name = "worker";
  GroupRole role = GroupRole::kBoth;
  int32_t replicas = 1;
  std::vector<std::string> nodes;  // hosts; empty = this one, or where mpirun puts the ranks

  bool operator==(const GroupDeployment&) const = default;
};

// Of `serve`: where it listens, and what it lets in.
struct GatewayDeployment {
  std::string host = "127.0.0.1";
  int32_t port = 8000;        // 0 = any that is free
  std::string api_keys_file;  // one key per line; "" = open to all who reach it
  uint64_t max_body = uint64_t{64} << 20;
  int32_t max_connections = 4096;
  int32_t max_choices = 128;          // n of a request
  int32_t max_prompts = 2048;         // of one completions request
  uint64_t request_timeout_ms = 0;    // of one call; 0 = none
  uint64_t idle_timeout_ms = 75000;   // for the next request of a connection
  uint64_t write_timeout_ms = 60000;  // a client that takes nothing for so long is gone
  int32_t io_threads = 1;
  std::vector<std::string> cors_origins;

  bool operator==(const GatewayDeployment&) const = default;
};

// A second address, for those who run the server.
struct AdminDeployment {
  bool enabled = false;
  std::string host = "127.0.0.1";
  int32_t port = 8001;

  bool operator==(const AdminDeployment&) const = default;
};

struct MetricsDeployment {
  bool enabled = true;
  bool vllm_names = true;
  bool legacy_names = false;  // also those that older routers read

  bool operator==(const MetricsDeployment&) const = default;
};

struct TracingDeployment {
  int32_t ring_events = 1 << 17;  // the newest that each rank keeps; 0 = none

  bool operator==(const TracingDeployment&) const = default;
};

enum class LogLevel : uint8_t { kError, kWarning, kInfo };

struct LoggingOptions {
  LogLevel level = LogLevel::kInfo;
  bool requests = false;  // `serve`: a line for each HTTP request

  bool operator==(const LoggingOptions&) const = default;
};

// Where each key was given: "file.yaml:3:5", "--port", "--set gateway.port". A key that is not here
// has its default.
using Origins = std::map<std::string, std::string, std::less<>>;

// INVARIANT of one that validate() accepted: every number is in its range; at most one of
// generate.prompts and generate.prompt_file is given.
struct Deployment {
  ModelOptions model;
  EngineOptions engine;
  GroupDeployment group;
  GenerateOptions generate;
  SamplingParams sampling;  // generate.max_tokens of the YAML is sampling.max_tokens here
  GatewayDeployment gateway;
  AdminDeployment admin;
  MetricsDeployment metrics;
  TracingDeployment tracing;
  LoggingOptions logging;
  Origins origins;

  // Whether both say the same, wherever they said it.
  bool operator==(const Deployment& o) const {
    return model == o.model && engine == o.engine && group == o.group && generate == o.generate &&
           sampling == o.sampling && gateway == o.gateway && admin == o.admin &&
           metrics == o.metrics && tracing == o.tracing && logging == o.logging;
  }
};

}  // namespace trireme
