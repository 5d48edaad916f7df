// How a quantized matrix lies in a CUDA device's memory, and how the host packs it so.
//
//   codes    rows of `stride` bytes. Each 64 bytes of a row are a chunk of 64 inputs of 8 bits, or
//   of
//            128 inputs of 4 bits. Byte 16 t + 4 j + e of a chunk holds input
//                16 j + 4 t + {0, 2, 1, 3}[e]
//            and, of 4 bits, that input in its lower half and the one 64 further in its upper half.
//            int8 is kept as code + 128. Codes beyond the last input are those of 0.
//   scales   [groups][rows] GroupScale words: those of a tile of rows lie side by side.
//   factors  [rows] f32: what products with a row that was written out as f16 are multiplied by.
//
// Why: thread t of the four that share a row of a tensor core's fragment takes 16 bytes, which are
// its part of four products of 16 inputs (eight, of 4 bits), and finds the matching numbers of x
// four neighbours at a time (device/mma.cuh). A byte's place within its word makes two f16 of one
// mask. Rows stay rows: a library of products reads fp8 where it is, beside rows of x in the same
// order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/quantize.h"
#include "kernels/base/weight_format.h"

namespace trireme::cuda {

inline constexpr int kChunkBytes = 64;
inline constexpr int kUnitInputs = 64;  // a byte's inputs are this far apart

struct QuantizedLayout {
  WeightFormat format;
  int64_t rows = 0, cols = 0;

  constexpr int64_t chunk_inputs() const {
    return format.type == WeightType::kInt4 ? 2 * kUnitInputs : kUnitInputs;
  }
  // Bytes from one row of codes to the next.
  constexpr int64_t stride() const {
    return (cols + chunk_inputs() - 1) / chunk_inputs() * kChunkBytes;
  }
  constexpr int64_t groups() const { return format.groups(cols); }
  constexpr int64_t scales_at() const { return rows * stride(); }  // bytes from the first
  constexpr int64_t factors_at() const { return scales_at() + 4 * groups() * rows; }
  constexpr int64_t bytes() const { return factors_at() + 4 * rows; }
};

// A row's codes, into layout.stride() bytes. REQUIRES: `codes` has layout.cols.
void pack_codes(const QuantizedLayout& layout, const uint8_t* codes, uint8_t* to);

// A row's factor: its scale, where it has one (of fp8 256 times that, since an e4m3 written as f16
// is 256 times smaller); else a power of two that leaves the largest scale between 32 and 64 of it,
// so that no element leaves what f16 holds. 1 where all scales are 0.
float row_factor(const QuantizedLayout& layout, const GroupScale* scales);

}  // namespace trireme::cuda
