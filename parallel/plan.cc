#include "parallel/plan.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace trireme {

HeadRanges split_heads(int64_t heads, int64_t kv_heads, int shard, int shards) {
  HeadRanges ranges;
  ranges.query = shard_range(heads, shard, shards);
  if (kv_heads >= shards) {
    ranges.kv = shard_range(kv_heads, shard, shards);
  } else {
    ranges.kv = {shard * kv_heads / shards, 1};
  }
  return ranges;
}

Status check_heads(std::string_view what, int64_t heads, int64_t kv_heads, int shards) {
  const auto fits = [&](int64_t n) {
    return heads % n == 0 && (kv_heads % n == 0 || n % kv_heads == 0);
  };
  if (fits(shards)) return Status::ok_status();
  std::string choices;
  for (int64_t n = 1; n <= heads; ++n) {
    if (fits(n)) choices += fmt::format("{}{}", choices.empty() ? "" : ", ", n);
  }
  if (heads % shards != 0) {
    return invalid_argument(
        fmt::format("tensor_parallel_size {} does not divide the model's {} {}; it can be {}",
                    shards, heads, what, choices));
  }
  return invalid_argument(fmt::format(
      "tensor_parallel_size {} neither divides the model's {} key/value heads nor is a multiple "
      "of them; it can be {}",
      shards, kv_heads, choices));
}

Result<std::vector<Range>> split_layers(std::span<const double> costs, int stages,
                                        double first_extra, double last_extra) {
  const int layers = static_cast<int>(costs.size());
  if (stages < 1 || layers < stages) {
    return invalid_argument(fmt::format(
        "pipeline_parallel_size {} is more than the model's {} layers; it can be 1 to {}", stages,
        layers, layers));
  }
  std::vector<double> sums(layers + 1, 0.0);
  for (int i = 0; i < layers; ++i) sums[i + 1] = sums[i] + costs[i];
  const auto stage_cost = [&](int stage, int begin, int end) {
    return sums[end] - sums[begin] + (stage == 0 ? first_extra : 0.0) +
           (stage == stages - 1 ? last_extra : 0.0);
  };
  // worst[s][e]: the least possible cost of the dearest of stages 0..s when they hold layers [0,
  // e).
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> worst(stages, std::vector<double>(layers + 1, infinity));
  std::vector<std::vector<int>> cut(stages, std::vector<int>(layers + 1, 0));
  for (int end = 1; end <= layers; ++end) worst[0][end] = stage_cost(0, 0, end);
  for (int s = 1; s < stages; ++s) {
    for (int end = s + 1; end <= layers; ++end) {
      for (int begin = s; begin < end; ++begin) {
        const double cost = std::max(worst[s - 1][begin], stage_cost(s, begin, end));
        if (cost <= worst[s][end]) {  // <=: the latest cut among equals
          worst[s][end] = cost;
          cut[s][end] = begin;
        }
      }
    }
  }
  std::vector<Range> ranges(stages);
  int end = layers;
  for (int s = stages - 1; s >= 0; --s) {
    const int begin = s == 0 ? 0 : cut[s][end];
    ranges[s] = {begin, end - begin};
    end = begin;
  }
  return ranges;
}

}  // namespace trireme
