// Rotary positions, the cache of keys and values, attention.
//
// In a block: keys [kv_heads][block_tokens][head_dim], then values likewise.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ref/ref_ops.h"

namespace trireme {
namespace {

// Where an element of the cache is: `element` of the vector of kv head `head` at `position`.
struct Slot {
  std::byte* block;
  size_t index;  // in elements
};

enum class Half { kKeys, kValues };

Slot slot(const KvView& cache, Half half, int32_t sequence, int64_t position, int64_t head,
          int64_t element) {
  const int64_t table_index = position / cache.block_tokens - cache.first_block[sequence];
  const int64_t block = cache.block_table[int64_t{sequence} * cache.table_stride + table_index];
  const int64_t heads_before = half == Half::kKeys ? head : cache.kv_heads + head;
  const int64_t row = heads_before * cache.block_tokens + position % cache.block_tokens;
  return {cache.blocks + block * cache.block_stride,
          static_cast<size_t>(row * cache.head_dim + element)};
}

double read(const KvView& cache, Half half, int32_t sequence, int64_t position, int64_t head,
            int64_t element) {
  const Slot s = slot(cache, half, sequence, position, head, element);
  return load_f32(s.block, cache.dtype, s.index);
}

}  // namespace

void RefOps::rope_table(const int32_t* positions, int32_t rows, ConstTensorView inverse_frequencies,
                        float scale, TensorView cos_sin) {
  const int64_t n = inverse_frequencies.cols;
  for (int32_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < n; ++i) {
      const float angle = static_cast<float>(positions[t]) * inverse_frequencies.f32_row(0)[i];
      cos_sin.f32_row(t)[i] = static_cast<float>(std::cos(double{angle}) * scale);
      cos_sin.f32_row(t)[n + i] = static_cast<float>(std::sin(double{angle}) * scale);
    }
  }
}

void RefOps::rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) {
  const int64_t half = cos_sin.cols / 2;
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t h = 0; h < x.cols / head_dim; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        float* head = x.f32_row(t) + h * head_dim;
        float& x0 = style == RopeStyle::kHalves ? head[i] : head[2 * i];
        float& x1 = style == RopeStyle::kHalves ? head[i + half] : head[2 * i + 1];
        const double cosine = cos_sin.f32_row(t)[i], sine = cos_sin.f32_row(t)[half + i];
        const double a = x0, b = x1;
        x0 = static_cast<float>(a * cosine - b * sine);
        x1 = static_cast<float>(b * cosine + a * sine);
      }
    }
  }
}

void RefOps::store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                      const KvView& cache) {
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      for (int64_t c = 0; c < k.cols; ++c) {
        const int64_t head = c / cache.head_dim, element = c % cache.head_dim;
        const Slot key = slot(cache, Half::kKeys, s, rows.positions[t], head, element);
        store_f32(key.block, cache.dtype, key.index, k.f32_row(t)[c]);
        const Slot value = slot(cache, Half::kValues, s, rows.positions[t], head, element);
        store_f32(value.block, cache.dtype, value.index, v.f32_row(t)[c]);
      }
    }
  }
}

void RefOps::attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                    TensorView out) {
  const int64_t dim = cache.head_dim, heads = q.cols / dim, group = heads / cache.kv_heads;
  std::vector<double> weight;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      const int64_t position = rows.positions[t];
      const int64_t first =
          cache.window_tokens == 0 ? 0 : std::max<int64_t>(0, position - cache.window_tokens + 1);
      weight.resize(static_cast<size_t>(position - first + 1));
      for (int64_t h = 0; h < heads; ++h) {
        double largest = -INFINITY, total = 0;
        for (int64_t j = first; j <= position; ++j) {
          double score = 0;
          for (int64_t i = 0; i < dim; ++i) {
            score += q.f32_row(t)[h * dim + i] * read(cache, Half::kKeys, s, j, h / group, i);
          }
          weight[static_cast<size_t>(j - first)] = score * scale;
          largest = std::max(largest, score * scale);
        }
        for (double& w : weight) total += w = std::exp(w - largest);
        for (int64_t i = 0; i < dim; ++i) {
          double sum = 0;
          for (int64_t j = first; j <= position; ++j) {
            sum += weight[static_cast<size_t>(j - first)] *
                   read(cache, Half::kValues, s, j, h / group, i);
          }
          out.f32_row(t)[h * dim + i] = static_cast<float>(sum / total);
        }
      }
    }
  }
}

}  // namespace trireme
