// Shape and threading of the matrix product; the loops themselves are in isa/linear.inc.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/isa/linear_table.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/packed_quantized.h"

namespace trireme {
namespace {

static_assert(kBlockK + 16 == kLinearXStride && kPanelRows == kLinearPanel);

// Rows of x whose k-block is copied at once: 306 KB on a worker's stack, inside its L2.
constexpr int64_t kChunkRows = 288;
// Of y at once: 512 KB, so that it, the copy of x and the weights passing by share an L2 of 2 MB.
constexpr int64_t kPieceFloats = 128 * 1024;
// From so many tiles of rows on, a panel's k-block of 16-bit weights is converted to f32 once.
constexpr int kUnpackTiles = 8;
// Less work than this is done before another thread has noticed.
constexpr int64_t kMinParallelMacs = 32 * 1024;

const LinearTable& table_of(Isa isa) {
#ifdef TRIREME_X86
  if (isa == Isa::kAvx512) return kLinearAvx512;
  if (isa == Isa::kAvx2) return kLinearAvx2;
#endif
  CHECK(isa == Isa::kScalar);
  return kLinearScalar;
}

LinearWeight weight_of(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return kLinearF32;
    case WeightType::kBF16:
      return kLinearBF16;
    case WeightType::kF16:
      return kLinearF16;
    case WeightType::kInt8:
      return kLinearInt8;
    case WeightType::kInt4:
      return kLinearInt4;
    case WeightType::kFp8:
      return kLinearFp8;
  }
  CHECK(false) << "linear() has no weights of type " << static_cast<int>(type);
  return kLinearF32;
}

// How the workers share a product: each of row_parts * panel_parts has its own rectangle of y.
struct Partition {
  int row_parts = 1;
  int panel_parts = 1;
};

// Estimated cycles per input for the largest rectangle: multiply-adds (or, with few rows, waiting
// for weights), copying its rows of x, unpacking its panels.
double cost_of(const Partition& p, int64_t rows, int64_t panels) {
  const auto r = static_cast<double>((rows + p.row_parts - 1) / p.row_parts);
  const auto n = static_cast<double>((panels + p.panel_parts - 1) / p.panel_parts);
  return n * std::max(r, 10.0) + 0.3 * r + 3.0 * n;
}

Partition choose_partition(int workers, int64_t rows, int64_t panels, int64_t cols) {
  if (workers == 1 || rows * panels * kPanelRows * cols < kMinParallelMacs) return {1, 1};
  Partition best{1, workers};
  for (int row_parts = 2; row_parts <= workers; ++row_parts) {
    if (workers % row_parts != 0) continue;
    const Partition p{row_parts, workers / row_parts};
    if (cost_of(p, rows, panels) < cost_of(best, rows, panels)) best = p;
  }
  return best;
}

// One product, seen by its workers.
struct Product {
  const LinearTable& table;
  ConstTensorView x;
  const WeightView& w;
  TensorView y;
  LinearWeight kind = weight_of(w.format.type);
  int64_t group = w.format.group == 0 ? kBlockK : w.format.group;  // where w is quantized
  int64_t panels = panels_of(w.rows);

  const std::byte* panel_block(int64_t panel, int64_t k_begin) const {
    return static_cast<const std::byte*>(w.data) +
           panel_block_offset(w.rows, w.cols, w.format, panel, k_begin);
  }
  // Whether it pays to convert a panel's k-block to f32 once instead of in each tile.
  bool unpacks(int64_t rows, int tiles) const {
    if (w.format.quantized()) return rows > table.quantized_rows_max;
    return tiles >= kUnpackTiles && kind != kLinearF32;
  }
  // How many panels a tile takes.
  int64_t at_once(int64_t rows) const {
    return w.format.quantized() && rows == 1 && table.two_panels ? 2 : 1;
  }
};

// One k-block of one panel, or of two (Product::at_once), against the rows of `chunk`, whose
// k-block lies in x_block. `next`: the packed weights that this worker will want after these.
void multiply_panel(const Product& p, IndexRange chunk, const float* x_block, int64_t panel,
                    int64_t count, int64_t k_begin, int64_t k, const std::byte* next) {
  alignas(64) float unpacked[kBlockK * kPanelRows];
  const int tiles = static_cast<int>((chunk.size() + p.table.rows_max - 1) / p.table.rows_max);
  LinearTile tile;
  tile.w = p.panel_block(panel, k_begin);
  tile.k = k;
  tile.group = p.group;
  tile.y_stride = p.y.row_stride;
  tile.first = k_begin == 0;
  tile.cols = static_cast<int>(std::min(kPanelRows * count, p.w.rows - panel * kPanelRows));
  tile.second = count == 2 ? p.panel_block(panel + 1, k_begin) - p.panel_block(panel, k_begin) : 0;
  tile.bias = p.w.bias.rows != 0 && k_begin + k == p.w.cols
                  ? p.w.bias.f32_row(0) + panel * kPanelRows
                  : nullptr;
  tile.next_w_step = (panel_block_bytes(p.w.format, k) + k * tiles - 1) / (k * tiles);
  auto multiply = p.table.tile[p.kind];
  if (p.unpacks(chunk.size(), tiles)) {
    p.table.unpack[p.kind](tile.w, k, p.group, unpacked);
    tile.w = unpacked;
    multiply = p.table.tile_unpacked;
  }
  for (int i = 0; i < tiles; ++i) {  // tiles of equal height, to one row
    const IndexRange rows = split(chunk.size(), tiles, i);
    tile.x = x_block + rows.begin * kLinearXStride;
    tile.y = p.y.f32_row(chunk.begin + rows.begin) + panel * kPanelRows;
    tile.rows = static_cast<int>(rows.size());
    tile.next_w = next + i * k * tile.next_w_step;
    multiply(tile);
  }
}

// The k-block of the rows of `chunk`, each kLinearXStride from the one before.
void copy_rows(ConstTensorView x, IndexRange chunk, int64_t k_begin, int64_t k, float* to) {
  for (int64_t r = 0; r < chunk.size(); ++r) {
    std::memcpy(to + r * kLinearXStride, x.f32_row(chunk.begin + r) + k_begin,
                static_cast<size_t>(k) * sizeof(float));
  }
}

// The rows of `chunk` against `panels`. k-blocks outermost: the rows' block of x stays in L2, and
// neighbouring panels of one k-block are one stream. `copy` holds the chunk's block of x; `after`:
// what this worker will read when all this is done.
void multiply_chunk(const Product& p, IndexRange chunk, IndexRange panels, float* copy,
                    const std::byte* after) {
  for (int64_t k_begin = 0; k_begin < p.w.cols; k_begin += kBlockK) {
    const int64_t k = std::min(kBlockK, p.w.cols - k_begin);
    const float* x_block = copy;
    if (chunk.size() == 1) {
      x_block = p.x.f32_row(chunk.begin) + k_begin;
    } else {
      copy_rows(p.x, chunk, k_begin, k, copy);
    }
    const std::byte* next_block =
        k_begin + k < p.w.cols ? p.panel_block(panels.begin, k_begin + k) : after;
    for (int64_t panel = panels.begin; panel < panels.end;) {
      const int64_t count = std::min(p.at_once(chunk.size()), panels.end - panel);
      const std::byte* next =
          panel + count < panels.end ? p.panel_block(panel + count, k_begin) : next_block;
      multiply_panel(p, chunk, x_block, panel, count, k_begin, k, next);
      panel += count;
    }
  }
}

// A worker's rectangle of y, in pieces of y that stay in L2 while the k-blocks pass.
void multiply_rectangle(const Product& p, IndexRange rows, IndexRange panels) {
  if (rows.empty() || panels.empty()) return;
  alignas(64) float copy[kChunkRows * kLinearXStride];
  const int chunks = static_cast<int>((rows.size() + kChunkRows - 1) / kChunkRows);
  for (int c = 0; c < chunks; ++c) {
    const IndexRange part = split(rows.size(), chunks, c);
    const IndexRange chunk{rows.begin + part.begin, rows.begin + part.end};
    const int64_t y_floats = chunk.size() * panels.size() * kPanelRows;
    const int groups = static_cast<int>((y_floats + kPieceFloats - 1) / kPieceFloats);
    for (int g = 0; g < groups; ++g) {
      const IndexRange piece = split(panels.size(), groups, g);
      const IndexRange group{panels.begin + piece.begin, panels.begin + piece.end};
      if (group.empty()) continue;
      const int64_t after = g + 1 < groups ? group.end : panels.begin;
      multiply_chunk(p, chunk, group, copy, p.panel_block(after, 0));
    }
  }
}

// Without inputs every sum is empty: y is the bias, or zero.
void fill_with_bias(const WeightView& w, TensorView y) {
  for (int64_t r = 0; r < y.rows; ++r) {
    for (int64_t j = 0; j < y.cols; ++j) {
      y.f32_row(r)[j] = w.bias.rows != 0 ? w.bias.f32_row(0)[j] : 0.0f;
    }
  }
}

}  // namespace

void linear(ThreadPool& pool, Isa isa, ConstTensorView x, const WeightView& w, TensorView y) {
  CHECK(x.cols == w.cols && y.cols == w.rows && x.rows == y.rows)
      << x.rows << "x" << x.cols << " by " << w.rows << "x" << w.cols << " into " << y.rows << "x"
      << y.cols;
  if (x.rows == 0 || w.rows == 0) return;
  if (w.cols == 0) return fill_with_bias(w, y);

  const Product product{table_of(isa), x, w, y};
  const Partition parts = choose_partition(pool.size(), x.rows, product.panels, w.cols);
  const auto work = [&](int worker) {
    if (worker >= parts.row_parts * parts.panel_parts) return;
    multiply_rectangle(product, split(x.rows, parts.row_parts, worker / parts.panel_parts),
                       split(product.panels, parts.panel_parts, worker % parts.panel_parts));
  };
  if (parts.row_parts * parts.panel_parts == 1) {
    work(0);
  } else {
    pool.run(work);
  }
}

void embed(ThreadPool& pool, Isa /*isa*/, const WeightView& table, const int32_t* ids,
           int32_t count, int32_t first_id, float scale, TensorView y) {
  CHECK(y.rows == count && y.cols == table.cols);
  const auto gather = [&](IndexRange rows) {
    for (int64_t t = rows.begin; t < rows.end; ++t) {
      float* to = y.f32_row(t);
      const int64_t row = int64_t{ids[t]} - first_id;
      if (row < 0 || row >= table.rows) {
        std::fill_n(to, table.cols, 0.0f);
        continue;
      }
      if (table.format.quantized()) {
        read_packed_quantized_row(table.data, table.rows, table.cols, table.format, row, to);
      } else {
        read_packed_row(table.data, table.rows, table.cols, table.format.dtype(), row, 0,
                        table.cols, to);
      }
      for (int64_t k = 0; k < table.cols; ++k) to[k] *= scale;
    }
  };
  if (count * table.cols < kMinParallelMacs) return gather({0, count});
  pool.run([&](int worker) { gather(split(count, pool.size(), worker)); });
}

}  // namespace trireme
