// How a model is cut: layers into stages by cost, heads onto shards, or a sentence that says why a
// model does not fit a mesh and which meshes it would fit. Pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "parallel/mesh.h"

namespace trireme {

// The query and key/value heads of one shard. Where there are fewer key/value heads than shards,
// each is held by several shards (and computed by each of them).
struct HeadRanges {
  Range query;
  Range kv;
};

// REQUIRES: check_heads(...) of the same numbers is ok.
HeadRanges split_heads(int64_t heads, int64_t kv_heads, int shard, int shards);

// `what` names the heads in the sentence: "attention heads", "retention heads".
Status check_heads(std::string_view what, int64_t heads, int64_t kv_heads, int shards);

// Cuts layers [0, costs.size()) into `stages` consecutive non-empty ranges so that the dearest
// stage is as cheap as can be; `first_extra` and `last_extra` are what the first and last stage pay
// besides (embedding, head). Ties go to the split whose earlier stages are larger.
// kInvalidArgument where there are fewer layers than stages.
Result<std::vector<Range>> split_layers(std::span<const double> costs, int stages,
                                        double first_extra, double last_extra);

}  // namespace trireme
