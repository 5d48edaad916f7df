// Which sublayers a pipeline stage runs, and what passes between stages. Pure functions of the
// spec.
#pragma once

#include <vector>

#include "kernels/base/status.h"
#include "parallel/mesh.h"
#include "runtime/model/spec.h"

namespace trireme {

struct StagePlan {
  Range layers;
  // Indices into ModelSpec::sublayers, in the order in which the stage runs them. Ascending, but
  // for one case: a stage that begins inside YOCO's cross-decoder first runs store_shared_kv again,
  // for its own cache.
  std::vector<uint32_t> sublayers;
  uint32_t begin = 0;  // the stage's own part of ModelSpec::sublayers is [begin, end)
  uint32_t end = 0;
};

// Heads, layers and divisibility: ok, or a sentence that says what does not fit and what would.
Status check_mesh(const ModelSpec& spec, Mesh mesh);

// One plan per stage, balanced by parameters (the head counts as the last stage's).
// REQUIRES: check_mesh(spec, {stages, 1}) is ok.
Result<std::vector<StagePlan>> plan_stages(const ModelSpec& spec, int stages);

// Columns of Carry::side on a shard; 0 where the model has no side.
int64_t side_cols(const ModelSpec& spec, int shard, int shard_count);

// The index of the sublayer that writes it; sublayers.size() where there is none.
uint32_t side_producer(const ModelSpec& spec);

// Parameters of each sublayer and of embedding and head, unsharded.
struct ParameterCounts {
  std::vector<uint64_t> sublayers;
  uint64_t embedding = 0;  // with its norm
  uint64_t head = 0;       // with the final norm; without a tied table
  uint64_t total() const;
};
Result<ParameterCounts> count_parameters(const ModelSpec& spec);

}  // namespace trireme
