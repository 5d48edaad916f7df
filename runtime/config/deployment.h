// A deployment as plain values: what one YAML file and the command line together say. Made by
// config_reader.h and the launcher's command line, read by the launcher, which hands each component
// the part that is its own. configs/README.md describes every key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "runtime/sample/sampling_params.h"

namespace trireme {

enum class LoadFormat : uint8_t {
  kAuto,   // the checkpoint's own
  kDummy,  // random weights from engine.seed; the path needs only a config.json
};

struct ModelOptions {
  std::string path;                      // a folder or a checkpoint file; "" = not given
  std::optional<std::string> tokenizer;  // nullopt = the model's own
  std::optional<DType> dtype;            // of the weights in memory; nullopt = the checkpoint's
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<int32_t> max_model_len;        // tokens; nullopt = the model's
  std::vector<std::string> served_model_name;  // of `serve`; empty = the path's last part
  std::optional<std::string> chat_template;    // a Jinja file; nullopt = the model's own

  bool operator==(const ModelOptions&) const = default;
};

enum class AdmissionKind : uint8_t { kReserve, kOptimistic };
enum class PreemptionKind : uint8_t { kAuto, kSpill, kRecompute };

enum class DeviceKind : uint8_t {
  kAuto,  // the best of this build and machine
  kCpu,
};

struct EngineOptions {
  DeviceKind device = DeviceKind::kAuto;
  std::optional<int32_t> tensor_parallel_size;    // nullopt = not given: chosen from the world
  std::optional<int32_t> pipeline_parallel_size;  // nullopt = not given: 1
  int32_t threads = 0;                            // per rank; 0 = the host's cores over its ranks
  int32_t max_num_batched_tokens = 512;           // tokens of one step
  int32_t max_num_seqs = 64;  // of one step, or max_num_batched_tokens if that is less
  int32_t prefill_chunk = 0;  // most prompt tokens of one sequence in one step; 0 = no own limit
  int32_t block_size = 32;    // tokens of one cache block
  std::optional<DType> kv_cache_dtype;              // nullopt = the engine chooses
  uint64_t cpu_kv_cache_space = uint64_t{1} << 30;  // bytes of cache per rank
  std::string isa = "auto";                         // "auto", "scalar", "avx2", "avx512"
  uint64_t seed = 0;                                // of dummy weights

  // Of `serve`.
  bool enable_prefix_caching = true;
  int32_t prefix_granule = 64;  // tokens of one key of the prefix cache
  AdmissionKind admission = AdmissionKind::kReserve;
  PreemptionKind preemption = PreemptionKind::kAuto;
  uint64_t swap_space = uint64_t{1}
                        << 30;         // bytes of host memory for preempted sequences, per rank
  uint64_t priority_aging_ms = 10000;  // waiting that makes up for one level of priority
  int32_t pipeline_depth = 0;          // steps under way; 0 = the number of stages
  int32_t max_queue = 1024;            // requests that wait, at most
  uint64_t step_timeout_ms = 300000;   // a step that takes longer ends the worker

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

// Of `serve`: where it listens, and what it lets in.
struct GatewayDeployment {
  std::string host = "127.0.0.1";
  int32_t port = 8000;        // 0 = any that is free
  std::string api_keys_file;  // one key per line; "" = open to all who reach it
  uint64_t max_body = uint64_t{64} << 20;
  int32_t max_connections = 4096;
  int32_t max_choices = 128;          // n of a request
  uint64_t request_timeout_ms = 0;    // of one call; 0 = none
  uint64_t idle_timeout_ms = 75000;   // for the next request of a connection
  uint64_t write_timeout_ms = 60000;  // a client that takes nothing for so long is gone
  int32_t io_threads = 1;
  std::vector<std::string> cors_origins;

  bool operator==(const GatewayDeployment&) const = default;
};

enum class LogLevel : uint8_t { kError, kWarning, kInfo };

struct LoggingOptions {
  LogLevel level = LogLevel::kInfo;

  bool operator==(const LoggingOptions&) const = default;
};

// INVARIANT of one that validate() accepted: every number is in its range; at most one of
// generate.prompts and generate.prompt_file is given.
struct Deployment {
  ModelOptions model;
  EngineOptions engine;
  GenerateOptions generate;
  SamplingParams sampling;  // generate.max_tokens of the YAML is sampling.max_tokens here
  GatewayDeployment gateway;
  LoggingOptions logging;

  bool operator==(const Deployment&) const = default;
};

}  // namespace trireme
