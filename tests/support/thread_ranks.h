// A worker whose ranks are threads: loads a checkpoint at a mesh and runs it. Most tests of models
// use it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/executor.h"
#include "runtime/model/families/families.h"
#include "tests/support/nccl_gpus.h"

namespace trireme::test {

struct RankOptions {
  Mesh mesh;
  // Of the CPU device; "ref": the reference device; "emulated": an emulated GPU; "cuda": a GPU.
  std::string isa = "";
  // Each rank has a GPU of its own here, with NCCL between them; `isa` is not asked. Null: devices
  // that are not the host meet by way of the host.
  NcclGpus* gpus = nullptr;
  int threads = 1;
  std::optional<DType> dtype, cache_dtype;
  std::optional<WeightType> quantization;
  uint32_t block_tokens = 16;
  int64_t rows_max = 1024;
  uint32_t tokens_max = 1024;
  uint32_t sequences_max = 8;
  uint64_t cache_bytes = uint64_t{1} << 30;
  PrefixRoom prefixes;
  uint64_t swap_bytes = 0;  // pinned
  bool record_steps = true;
  std::function<void(ModelSpec&)> edit_spec;  // negative controls
};

// One rank as its thread sees it.
struct Rank {
  Communicator& world;
  const Groups& groups;
  Model& model;
  Executor& executor;
};

// Loads `path` on mesh.size() threads and calls `body` on each; the first error of any rank.
Status run_ranks(const std::string& path, const RankOptions& options,
                 const std::function<Status(Rank&)>& body);

// Logits [tokens, vocab] of each sequence, computed together, each step at most `chunk` tokens of
// each sequence (0: all at once).
Result<std::vector<std::vector<float>>> score_sequences(
    const std::string& path, const RankOptions& options,
    const std::vector<std::vector<int32_t>>& sequences, uint32_t chunk);

// A tensor of a safetensors file as a vector.
Result<std::vector<int64_t>> read_int64s(const std::string& path, const std::string& name);
Result<std::vector<float>> read_floats(const std::string& path, const std::string& name);

}  // namespace trireme::test
