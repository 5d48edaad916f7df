#include "runtime/model/stage_plan.h"

#include <numeric>

#include <fmt/format.h>

#include "comm/in_process/in_process.h"
#include "parallel/plan.h"
#include "runtime/model/sublayers/measuring_reader.h"
#include "runtime/model/sublayers/sublayer.h"

namespace trireme {

Status check_mesh(const ModelSpec& spec, Mesh mesh) {
  if (mesh.stages > static_cast<int>(spec.layers)) {
    return invalid_argument(fmt::format(
        "pipeline_parallel_size {} is more than the model's {} layers; it can be 1 to {}",
        mesh.stages, spec.layers, spec.layers));
  }
  for (const SublayerSpec& sub : spec.sublayers) {
    const HeadSpec& h = sub.heads;
    Status status;
    switch (sub.kind) {
      case SublayerKind::kAttention:
      case SublayerKind::kSharedAttention:
        status = check_heads("attention heads", h.heads, h.kv_heads, mesh.shards);
        break;
      case SublayerKind::kRetention:
        status = check_heads("retention heads", h.heads, h.heads, mesh.shards);
        break;
      case SublayerKind::kRwkv7TimeMix:
        status = check_heads("RWKV-7 heads", h.heads, h.heads, mesh.shards);
        break;
      case SublayerKind::kRwkv4TimeMix:
        if (mesh.shards > spec.attention_dim) {
          status = invalid_argument(
              fmt::format("tensor_parallel_size {} is more than the model's {} channels",
                          mesh.shards, spec.attention_dim));
        }
        break;
      case SublayerKind::kSwiGlu:
      case SublayerKind::kRwkv4ChannelMix:
      case SublayerKind::kRwkv7ChannelMix:
        if (mesh.shards > sub.ffn_dim) {
          status = invalid_argument(
              fmt::format("tensor_parallel_size {} is more than the model's feed-forward width {}",
                          mesh.shards, sub.ffn_dim));
        }
        break;
      case SublayerKind::kMakeSharedKv:
      case SublayerKind::kStoreSharedKv:
        break;  // the shared attentions answer for them
    }
    if (!status.ok()) return status;
  }
  return Status::ok_status();
}

uint64_t ParameterCounts::total() const {
  return std::accumulate(sublayers.begin(), sublayers.end(), uint64_t{0}) + embedding + head;
}

Result<ParameterCounts> count_parameters(const ModelSpec& spec) {
  const std::unique_ptr<Device> device = make_ref_device();
  const auto world = make_in_process_world(1);
  const uint64_t norm = static_cast<uint64_t>(spec.dim) * (spec.norm_has_bias() ? 2 : 1);
  const auto table = static_cast<uint64_t>(spec.vocab * spec.dim);
  ParameterCounts counts;
  counts.embedding = table + (spec.embedding_norm.empty() ? 0 : norm);
  counts.head = norm + (spec.tied ? 0 : table);
  for (const SublayerSpec& sub : spec.sublayers) {
    MeasuringReader weights(WeightSource{}, WeightChoice{});
    const auto made = make_sublayer({spec, sub, *device, *world[0], 0, 1, weights});
    if (!made.ok()) return made.status();
    counts.sublayers.push_back(weights.parameters() + (sub.norm.empty() ? 0 : norm));
  }
  return counts;
}

Result<std::vector<StagePlan>> plan_stages(const ModelSpec& spec, int stages) {
  const Result<ParameterCounts> counts = count_parameters(spec);
  if (!counts.ok()) return counts.status();
  std::vector<double> costs(spec.layers, 0.0);
  for (size_t i = 0; i < spec.sublayers.size(); ++i)
    costs[spec.sublayers[i].layer] += static_cast<double>(counts->sublayers[i]);
  const double head = static_cast<double>(spec.vocab) * static_cast<double>(spec.dim);
  const Result<std::vector<Range>> ranges = split_layers(costs, stages, 0.0, head);
  if (!ranges.ok()) return ranges.status();

  std::vector<StagePlan> plans;
  uint32_t next = 0;
  uint32_t store = static_cast<uint32_t>(spec.sublayers.size());
  for (uint32_t i = 0; i < spec.sublayers.size(); ++i) {
    if (spec.sublayers[i].kind == SublayerKind::kStoreSharedKv) store = i;
  }
  for (const Range& layers : *ranges) {
    StagePlan plan;
    plan.layers = layers;
    plan.begin = next;
    while (next < spec.sublayers.size() && spec.sublayers[next].layer < layers.end()) ++next;
    plan.end = next;
    bool reads_shared = false;
    for (uint32_t i = plan.begin; i < plan.end; ++i)
      reads_shared |= spec.sublayers[i].kind == SublayerKind::kSharedAttention;
    if (reads_shared && store < plan.begin) plan.sublayers.push_back(store);
    for (uint32_t i = plan.begin; i < plan.end; ++i) {
      const bool stores_for_nobody =
          i == store && !reads_shared;  // all its readers are on later stages
      if (!stores_for_nobody) plan.sublayers.push_back(i);
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

int64_t side_cols(const ModelSpec& spec, int shard, int shard_count) {
  const uint32_t producer = side_producer(spec);
  if (producer == spec.sublayers.size()) return 0;
  const SublayerSpec& sub = spec.sublayers[producer];
  const HeadSpec& h = sub.heads;
  if (sub.kind == SublayerKind::kMakeSharedKv) {
    return 2 * split_heads(h.heads, h.kv_heads, shard, shard_count).kv.count * h.head_dim;
  }
  return shard_units(spec.dim, h.head_dim, shard, shard_count).count;
}

uint32_t side_producer(const ModelSpec& spec) {
  for (uint32_t i = 0; i < spec.sublayers.size(); ++i) {
    const SublayerKind kind = spec.sublayers[i].kind;
    if (kind == SublayerKind::kMakeSharedKv ||
        (kind == SublayerKind::kRwkv7TimeMix && spec.sublayers[i].layer == 0))
      return i;
  }
  return static_cast<uint32_t>(spec.sublayers.size());
}

}  // namespace trireme
