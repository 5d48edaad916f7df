// Writes keys and values into the paged cache; attention.cc says how a block is arranged.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

float same(float x) { return x; }

// Rows [row, row + count) of k and v to the `count` slots of one block from `offset` on. Element
// by element of the head, so that neighbouring tokens are written together.
template <class Element, Element (*kConvert)(float)>
void store_segment(const ConstTensorView& k, const ConstTensorView& v, int64_t row, int64_t count,
                   const KvView& cache, std::byte* block, int64_t offset) {
  const int64_t dim = cache.head_dim, block_tokens = cache.block_tokens;
  auto* keys = reinterpret_cast<Element*>(block);
  Element* values = keys + k.cols * block_tokens;
  for (int64_t c = 0; c < k.cols; ++c) {
    for (int64_t i = 0; i < count; ++i) {
      keys[c * block_tokens + offset + i] = kConvert(k.f32_row(row + i)[c]);
    }
  }
  for (int64_t head = 0; head < cache.kv_heads; ++head) {
    for (int64_t i = 0; i < count; ++i) {
      const float* from = v.f32_row(row + i) + head * dim;
      Element* to = values + (head * block_tokens + offset + i) * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] = kConvert(from[d]);
    }
  }
}

}  // namespace

void CpuOps::store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                      const KvView& cache) {
  const auto store = cache.dtype == DType::kF32    ? store_segment<float, same>
                     : cache.dtype == DType::kBF16 ? store_segment<uint16_t, f32_to_bf16>
                                                   : store_segment<uint16_t, f32_to_f16>;
  constexpr int64_t kStoreFloats = 4;
  share(k.rows, kStoreFloats * k.rows * k.cols, [&](int64_t first, int64_t last) {
    const int32_t* after = std::upper_bound(rows.offsets, rows.offsets + rows.sequences + 1, first);
    auto s = static_cast<int32_t>(after - rows.offsets) - 1;
    for (int64_t t = first; t < last;) {
      while (rows.offsets[s + 1] <= t) ++s;
      // As many rows as go to neighbouring slots of one block.
      const int64_t position = rows.positions[t], offset = position % cache.block_tokens;
      const int64_t end =
          std::min({last, int64_t{rows.offsets[s + 1]}, t + cache.block_tokens - offset});
      int64_t count = 1;
      while (t + count < end && rows.positions[t + count] == position + count) ++count;
      const int64_t entry = position / cache.block_tokens - cache.first_block[s];
      const int64_t block = cache.block_table[int64_t{s} * cache.table_stride + entry];
      store(k, v, t, count, cache, cache.blocks + block * cache.block_stride, offset);
      t += count;
    }
  });
}

}  // namespace trireme
