#include "tests/contract/ops_cache.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trireme::contract {

Cache::Cache(Device& device, const CacheSpec& spec, const std::vector<int32_t>& lengths,
             uint64_t shuffle)
    : device_(&device), spec_(spec) {
  const int64_t block_bytes =
      kv_bytes_per_token(spec.kv_heads, spec.head_dim, spec.dtype) * spec.block_tokens;
  block_stride_ = block_bytes + 192;
  int32_t count = 3;  // blocks of nobody
  for (int32_t length : lengths) count += (length + spec.block_tokens - 1) / spec.block_tokens;
  const auto bytes = static_cast<size_t>(count * block_stride_);
  buffer_ = device.allocate(bytes).take();
  const std::vector<unsigned char> poison(bytes, 0xff);  // NaN in every dtype
  device.copy(buffer_.data(), poison.data(), bytes);

  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  Random random(shuffle);
  for (int32_t i = count - 1; i > 0; --i) {
    std::swap(ids[static_cast<size_t>(i)], ids[static_cast<size_t>(random.integer(0, i))]);
  }
  for (int32_t length : lengths) {
    blocks_.emplace_back();
    for (int32_t p = 0; p < length; p += spec.block_tokens) {
      blocks_.back().push_back(ids.back());
      ids.pop_back();
    }
  }
}

KvView Cache::view(const std::vector<int32_t>& sequences,
                   const std::vector<int32_t>& first_positions) {
  size_t stride = 1;
  for (int32_t s : sequences) stride = std::max(stride, blocks_[static_cast<size_t>(s)].size());
  std::vector<int32_t> table(stride * sequences.size(), -1), first_block;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<int32_t>& blocks = blocks_[static_cast<size_t>(sequences[i])];
    const int32_t seen =
        spec_.window_tokens == 0 ? 0 : std::max(0, first_positions[i] - spec_.window_tokens + 1);
    first_block.push_back(seen / spec_.block_tokens);
    std::copy(blocks.begin() + first_block.back(), blocks.end(),
              table.begin() + static_cast<int64_t>(i * stride));
  }
  table_ = std::make_unique<Array<int32_t>>(*device_, table);
  first_block_ = std::make_unique<Array<int32_t>>(*device_, first_block);
  KvView view;
  view.blocks = static_cast<std::byte*>(buffer_.data());
  view.block_stride = block_stride_;
  view.block_table = table_->data();
  view.first_block = first_block_->data();
  view.table_stride = static_cast<int32_t>(stride);
  view.block_tokens = spec_.block_tokens;
  view.kv_heads = spec_.kv_heads;
  view.head_dim = spec_.head_dim;
  view.window_tokens = spec_.window_tokens;
  view.dtype = spec_.dtype;
  return view;
}

Sequences::Sequences(Random& random, const CacheSpec& spec, int32_t heads,
                     const std::vector<int32_t>& lengths) {
  const auto fill = [&](std::vector<std::vector<std::vector<float>>>& of, int64_t cols,
                        DType dtype) {
    for (int32_t length : lengths) {
      of.emplace_back();
      for (int32_t p = 0; p < length; ++p) {
        std::vector<float> row(static_cast<size_t>(cols)), stored = row;
        for (float& x : row) x = random.normal();
        convert_floats(row.data(), DType::kF32, stored.data(), dtype, row.size());
        convert_floats(stored.data(), dtype, row.data(), DType::kF32, row.size());
        of.back().push_back(row);
      }
    }
  };
  fill(q, int64_t{heads} * spec.head_dim, DType::kF32);
  fill(k, int64_t{spec.kv_heads} * spec.head_dim, spec.dtype);
  fill(v, int64_t{spec.kv_heads} * spec.head_dim, spec.dtype);
}

Mat Sequences::rows(Device& device, const std::vector<std::vector<std::vector<float>>>& of,
                    const std::vector<int32_t>& sequences, const Batch& batch, int64_t pad) {
  const auto cols = static_cast<int64_t>(of[0][0].size());
  Mat mat(device, batch.rows(), cols, pad);
  for (int32_t i = 0; i < batch.sequences(); ++i) {
    for (int32_t t = batch.offset(i); t < batch.offset(i + 1); ++t) {
      const auto& row = of[static_cast<size_t>(sequences[static_cast<size_t>(i)])]
                          [static_cast<size_t>(batch.position(t))];
      for (int64_t c = 0; c < cols; ++c) mat.at(t, c) = row[static_cast<size_t>(c)];
    }
  }
  mat.put();
  return mat;
}

std::vector<double> attention_of(const Sequences& all, const CacheSpec& spec, int32_t sequence,
                                 int32_t position, double scale) {
  const auto s = static_cast<size_t>(sequence);
  const std::vector<float>& q = all.q[s][static_cast<size_t>(position)];
  const auto dim = static_cast<size_t>(spec.head_dim);
  const size_t heads = q.size() / dim, group = heads / static_cast<size_t>(spec.kv_heads);
  const int32_t first =
      spec.window_tokens == 0 ? 0 : std::max(0, position - spec.window_tokens + 1);
  std::vector<double> out;
  for (size_t h = 0; h < heads; ++h) {
    std::vector<double> sum(dim), scores;
    double largest = -INFINITY, total = 0;
    for (int32_t j = first; j <= position; ++j) {
      const float* key = all.k[s][static_cast<size_t>(j)].data() + h / group * dim;
      double score = 0;
      for (size_t d = 0; d < dim; ++d) score += double{q[h * dim + d]} * key[d];
      scores.push_back(score * scale);
      largest = std::max(largest, scores.back());
    }
    for (int32_t j = first; j <= position; ++j) {
      const float* value = all.v[s][static_cast<size_t>(j)].data() + h / group * dim;
      const double weight = std::exp(scores[static_cast<size_t>(j - first)] - largest);
      total += weight;
      for (size_t d = 0; d < dim; ++d) sum[d] += weight * value[d];
    }
    for (double x : sum) out.push_back(x / total);
  }
  return out;
}

}  // namespace trireme::contract
