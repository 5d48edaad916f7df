// Rows that an op leaves in the format of weights beside its output in f32, so that the products
// that read them next need not write them down (narrow_rows of ops/product.h): a launch less in a
// step of decode, 6 bytes less a number in a prompt.
//
// Who calls it: ops whose outputs products read (norms, token shift, what follows RWKV-7's
// recurrence), and products of low rank, leave rows; narrow_rows finds them. What is left holds
// until the next kernel is launched or something is copied: an op in between may have changed the
// output. Communicators write on the stream by themselves, and only large products: nothing is left
// of that.
//
// The rows are rounded as narrow_rows would round them: whether they were left changes no bit.
#pragma once

#include <cstdint>

#include "kernels/base/tensor.h"
#include "kernels/cuda/formats.h"

namespace trireme::cuda {

class Context;

// Where a kernel writes them, row by row. No data: nowhere.
struct LeftOut {
  Bf16* data = nullptr;
  int64_t stride = 0;  // in numbers
};

// Whose memory they lie in. Products have some of their own, for they leave rows while they read
// what the op before them has left.
enum class LeftBy : uint8_t { kOp, kProduct };

struct LeftRows {
  const float* x = nullptr;  // the output; null: nothing is left
  int64_t x_stride = 0, rows = 0, cols = 0;
  LeftOut out;
  LeftBy by = LeftBy::kOp;

  // `rows` rows of x of `inputs` numbers each, which may be some columns of what is left. No data
  // where they are not all there, or not on words of 16 bytes.
  LeftOut find(const float* rows_of, int64_t stride, int64_t rows, int64_t inputs) const;
};

// Room for the rows of `y`, where products are likely to want them: the last that wrote rows down
// did so in bf16. Else nothing, nor where memory is short or would have to grow in a recording.
// The op launches its kernel with `out`, then calls Context::leave.
LeftRows room_for_left(Context& context, const TensorView& y, LeftBy by = LeftBy::kOp);

}  // namespace trireme::cuda
