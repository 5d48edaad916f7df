#include "tests/bench/device/work.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme::bench {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

// Elements of a matrix; 0 for a vector.
double matrix_elements(const Shapes& shapes, const std::string& name) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) return 0;
  double elements = 1;
  int dimensions = 0;
  for (const int64_t d : found->second) {
    elements *= static_cast<double>(d);
    dimensions += d != 1 ? 1 : 0;
  }
  return dimensions >= 2 ? elements : 0;
}

// Positions that a row with `before` positions before it sees, itself among them.
double seen(const SublayerSpec& sub, int64_t before) {
  const auto window = static_cast<int64_t>(sub.heads.window_tokens);
  return static_cast<double>(window > 0 ? std::min(before + 1, window) : before + 1);
}

bool attends(const SublayerSpec& sub) {
  return sub.kind == SublayerKind::kAttention || sub.kind == SublayerKind::kSharedAttention;
}

// One row after `before` others: its products and its share of the cache.
Work row_work(const ModelSpec& spec, const SublayerSpec& sub, const Shapes& shapes, int64_t before,
              DType cache) {
  Work work;
  for (const auto& [role, name] : sub.tensors) work.flops += 2 * matrix_elements(shapes, name);
  if (attends(sub)) {
    const double positions = seen(sub, before);
    work.flops += 4 * positions * sub.heads.heads * sub.heads.head_dim;
    work.bytes += positions * static_cast<double>(kv_bytes_per_token(sub.heads.kv_heads,
                                                                     sub.heads.head_dim, cache));
  } else {
    const StateSpec state = state_spec(spec, sub, 0, 1, cache);
    if (state.growth == StateSpec::Growth::kFixed)
      work.bytes += 2 * static_cast<double>(state.bytes);
  }
  return work;
}

}  // namespace

Result<Work> decode_work(const ModelSpec& spec, int64_t batch, int64_t context,
                         const WeightChoice& weights, DType cache) {
  const auto shapes = tensor_shapes(spec);
  if (!shapes.ok()) return shapes.status();
  const Result<uint64_t> all = weight_bytes(spec, nullptr, weights, Mesh{1, 1}, Coordinate{});
  if (!all.ok()) return all.status();
  const Result<WeightFormat> format = matrix_format({}, weights, {}, MatrixRole::kVocabulary);
  if (!format.ok()) return format.status();
  const auto rows = static_cast<double>(batch);
  const auto table = static_cast<double>(weight_bytes(spec.vocab, spec.dim, *format));
  Work work;
  // Of the embedding only the rows of the batch, unless it is the head as well.
  work.bytes = static_cast<double>(*all) - (spec.tied ? 0 : table);
  work.bytes += rows * static_cast<double>(weight_bytes(1, spec.dim, *format));
  work.flops = 2 * rows * matrix_elements(*shapes, spec.head);
  for (const SublayerSpec& sub : spec.sublayers) {
    const Work row = row_work(spec, sub, *shapes, context, cache);
    work.bytes += rows * row.bytes;
    work.flops += rows * row.flops;
  }
  return work;
}

Result<Work> prefill_work(const ModelSpec& spec, int64_t tokens, DType weights, DType cache) {
  Result<Work> work =
      decode_work(spec, 1, tokens - 1, {weights, std::nullopt}, cache);  // of the last token
  const auto shapes = tensor_shapes(spec);
  if (!work.ok() || !shapes.ok()) return work;
  for (size_t i = 0; i < spec.logits_only_from; ++i) {
    const SublayerSpec& sub = spec.sublayers[i];
    const double each = row_work(spec, sub, *shapes, 0, cache).flops;
    work->flops += static_cast<double>(tokens - 1) * each;
    if (!attends(sub)) continue;
    // `each` saw one position; the rest of what rows 0 .. tokens - 2 see.
    double more = 0;
    for (int64_t t = 0; t + 1 < tokens; ++t) more += seen(sub, t) - 1;
    work->flops += 4 * more * sub.heads.heads * sub.heads.head_dim;
  }
  return work;
}

}  // namespace trireme::bench
