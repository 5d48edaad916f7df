// The inner loops of linear(), one table per instruction set. Only declarations: the files of
// kernels/cpu/isa may include this (see simd16.h).
//
// Who calls it: kernels/cpu/linear.cc.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace trireme {

// Element types of packed weights, in the order of LinearTable::tile.
enum LinearWeight { kLinearF32 = 0, kLinearBF16 = 1, kLinearF16 = 2 };

// Rows of x come to the loops with this distance, known at compile time so that each row costs a
// displacement and no register: one k-block, and a cache line so that rows do not share L1 sets.
constexpr int64_t kLinearXStride = 256 + 16;
constexpr int64_t kLinearPanel = 32;

// One k-block of one panel against `rows` rows of x:
//   s[r][j] = sum over i in [0, k), in order, of x[r * kLinearXStride + i] * w[i][j]   (fused)
//   y[r * y_stride + j] = (first ? s : y + s) + bias[j]                for j < cols
struct LinearTile {
  const void* w;   // [k][32], packed or unpacked
  const float* x;  // with one row, x[0..k) is all that is read
  float* y;
  const float* bias;  // null: none (or not the last k-block)
  // Where the caller will read next: a line is prefetched at next_w + i * next_w_step for each
  // input i (and its neighbour, where w is packed f32). Not null; any address will do.
  const void* next_w;
  int64_t next_w_step;  // bytes
  int64_t y_stride;
  int64_t k;
  int rows;  // 1..rows_max
  int cols;  // 1..32
  bool first;
};

struct LinearTable {
  int rows_max;                              // rows of x that one tile takes
  void (*tile[3])(const LinearTile&);        // w packed; index: LinearWeight
  void (*tile_unpacked)(const LinearTile&);  // the same, w by unpack()
  // One k-block of one panel of 16-bit weights as f32: to[k * 32].
  void (*unpack[3])(const void* w, int64_t k, float* to);
};

extern const LinearTable kLinearScalar;
#ifdef TRIREME_X86
extern const LinearTable kLinearAvx2;
extern const LinearTable kLinearAvx512;
#endif

}  // namespace trireme
