// A matrix product as the kernels of this folder take it, and the four ways to do it: stream.cu,
// skinny.cu, library.cu, tiled.cu. linear.cc chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/base/dtype.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/gemm.h"
#include "kernels/ops.h"

namespace trireme::cuda {

// What x's rows become before they are multiplied, where an op before would only have written them
// down to be read again. kSwiglu: x is [rows, 2 inputs], gates, then values.
enum class Prologue : uint8_t { kNone, kReluSquared, kSwiglu };

// What a product becomes before it is stored. kSwiglu: w has 2 outputs rows, gates, then values.
enum class Epilogue : uint8_t { kNone, kActivate, kSwiglu };

// y = epilogue(prologue(x) transpose(w) + bias).
struct Call {
  const void* w;
  int64_t w_stride;
  const float* x;
  int64_t x_stride;
  const float* bias;  // may be null
  float* y;
  int64_t y_stride;
  int64_t rows, inputs, outputs;
  Prologue prologue;
  Epilogue epilogue;
  Activation activation;  // kActivate
};

inline constexpr int kCallsMax = 8;  // of one launch

// Up to so many rows of x the weights are streamed past all of them. Beyond, their products cost
// more than the reading, and tensor cores win.
inline constexpr int64_t kStreamedRows = 8;

// All calls in one launch. REQUIRES: at most kCallsMax calls of the same number of rows, from 1 to
// kStreamedRows, with weights of `dtype` and no prologue.
void stream_products(Context& context, DType dtype, std::span<const Call> calls);

// Up to so many rows, products with 16-bit weights go to tensor cores by a kernel of this folder.
inline constexpr int64_t kSkinnyRows = 64;

// All calls in one launch, with their rows in the format of the weights; two more write the rows
// down and add parts of sums. REQUIRES: at most kCallsMax calls of the same number of rows, from 1
// to kSkinnyRows, with weights of `dtype`, which has 16 bits, and no epilogue of kSwiglu.
void skinny_products(Context& context, DType dtype, std::span<const Call> calls);

// A call's rows of x in the format of its weights, after its prologue.
struct Narrow {
  Call call;
  void* rows;
  int64_t stride;  // beyond the inputs: zeros
  float* scales;   // of f16: what products with each row are multiplied by; null: with nothing
};

// Fills in all but the calls, which are alike in rows and in the weights' `dtype`, and queues what
// writes the rows to scratch memory. Returns `more_bytes` of scratch memory beyond them, aligned to
// 256 bytes; null after an error.
std::byte* narrow_rows(Context& context, DType dtype, std::span<Narrow> each, size_t more_bytes);

// On tensor cores, with inputs in the format of the weights. REQUIRES: at most kCallsMax calls with
// weights of `dtype` and no epilogue of kSwiglu.
void library_products(Context& context, Gemm& gemm, DType dtype, std::span<const Call> calls);

// Plain tiles in f32, any shape. REQUIRES: no epilogue of kSwiglu.
void tiled_product(Context& context, DType dtype, const Call& call);

}  // namespace trireme::cuda
