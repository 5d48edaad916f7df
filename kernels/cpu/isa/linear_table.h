// The inner loops of linear(), one table per instruction set. Only declarations: the files of
// kernels/cpu/isa may include this (see simd16.h).
//
// Who calls it: kernels/cpu/linear.cc.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace trireme {

// Element types of packed weights, in the order of LinearTable::tile.
enum LinearWeight { kLinearF32, kLinearBF16, kLinearF16, kLinearInt8, kLinearInt4, kLinearFp8 };
constexpr int kLinearWeights = 6;

// Rows of x come to the loops with this distance, known at compile time so that each row costs a
// displacement and no register: one k-block, and a cache line so that rows do not share L1 sets.
constexpr int64_t kLinearXStride = 256 + 16;
constexpr int64_t kLinearPanel = 32;

// One k-block of one panel against `rows` rows of x:
//   s[r][j] = sum over i in [0, k), in order, of x[r * kLinearXStride + i] * w[i][j]   (fused)
//   y[r * y_stride + j] = (first ? s : y + s) + bias[j]                for j < cols
struct LinearTile {
  const void* w;   // [k][32], packed (packed_quantized.h where quantized) or unpacked
  const float* x;  // with one row, x[0..k) is all that is read
  float* y;
  const float* bias;  // null: none (or not the last k-block)
  // Where the caller will read next: a line is prefetched at next_w + i * next_w_step for each
  // input i (and its neighbour, where w is packed f32). A tile of quantized weights prefetches what
  // it reads itself, and goes on at next_w, whatever the step. Not null; any address will do.
  const void* next_w;
  int64_t next_w_step;  // bytes
  int64_t y_stride;
  int64_t k;
  int64_t group;  // inputs that share a scale, where w is quantized
  int rows;       // 1..rows_max, or 1..quantized_rows_max where w is quantized
  int cols;       // 1..32, of two panels up to 64
  bool first;
  int64_t second;  // bytes from this panel's k-block to the next one's, which is multiplied as
                   // well; 0: this one alone
};

struct LinearTable {
  int rows_max;            // rows of x that one tile takes
  int quantized_rows_max;  // the same where w is quantized: for more, unpack() is faster
  bool two_panels;         // whether a tile of one row of a quantized w takes LinearTile::second
  void (*tile[kLinearWeights])(const LinearTile&);  // w packed; index: LinearWeight
  void (*tile_unpacked)(const LinearTile&);         // the same, w by unpack()
  // One k-block of one panel of weights as f32: to[k * 32]. `group` as in LinearTile.
  void (*unpack[kLinearWeights])(const void* w, int64_t k, int64_t group, float* to);
};

extern const LinearTable kLinearScalar;
#ifdef TRIREME_X86
extern const LinearTable kLinearAvx2;
extern const LinearTable kLinearAvx512;
#endif

}  // namespace trireme
