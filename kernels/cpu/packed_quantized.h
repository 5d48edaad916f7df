// A panel's k-block of a quantized matrix: the words of scale and zero, then the codes.
//
//   [group of inputs][32 outputs]          GroupScale; one that a whole row shares stands in each
//                                          k-block, so that a block needs nothing else
//   int8:  [k / 4][32 outputs]             words of 4 codes, each plus 128
//   int4:  [k / 8][32 outputs]             words of 8 codes
//   fp8:   [k / 2][32 outputs]             half words of 2 codes
//
// The last words are filled up with zeros. Input i of an int8 or fp8 word is byte i, from the
// lowest. In a word of int4, inputs 2 i and 2 i + 1 are bits [4 i, 4 i + 4) and [16 + 4 i, 16 + 4 i
// + 4): one shift brings a pair to bits 0 and 16, and from either place one instruction makes a
// number of it (isa/simd16.h).
//
// Who calls it: CpuDevice, linear.cc. Any thread; rows share no bytes.
#pragma once

#include <cstdint>

#include "kernels/base/quantize.h"

namespace trireme {

// Fills rows [first_row, first_row + source.rows) of a packed [rows, cols] matrix of the format of
// `source`. Padding is not written: `data` must have been zeroed once.
// REQUIRES: source.cols == cols; the group is 0, 32, 64 or 128; zeros of kFp8 are 0.
void write_packed_quantized_rows(void* data, int64_t rows, int64_t cols, int64_t first_row,
                                 const QuantizedView& source);

// Row `row` as f32, [cols].
void read_packed_quantized_row(const void* data, int64_t rows, int64_t cols, WeightFormat format,
                               int64_t row, float* to);

}  // namespace trireme
