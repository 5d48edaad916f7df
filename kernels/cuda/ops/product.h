// A matrix product as the kernels of this folder take it, and the ways to do it: stream.cu and
// stream_short.cu, skinny.cu, library.cu and tiled.cu, and with quantized weights quantized.cu and
// written_out.cu. linear.cc chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/base/weight_format.h"
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
  const void* w;     // of a quantized format: as quantized_layout.h has it
  int64_t w_stride;  // in elements; of a quantized format: in bytes, of its codes
  const float* x;
  int64_t x_stride;
  const float* bias;  // may be null
  float* y;
  int64_t y_stride;
  int64_t rows, inputs, outputs;
  Prologue prologue;
  Epilogue epilogue;
  Activation activation;  // kActivate
  bool adds;              // y += instead of y =; where a function below says that it can
};

// What x becomes first: NormKind::kRms over all of it.
struct NormOfRow {
  const float* gain;  // may be null
  float epsilon;
};

inline constexpr int kCallsMax = 8;  // of one launch

// Up to so many rows of x, one, the weights are streamed past it. Beyond, tensor cores win:
// measured on an H200, a step of 8B parameters at batch 2 took 5.7 ms streamed and 4.9 by the
// library.
inline constexpr int64_t kStreamedRows = 1;

// All calls in one launch or two; they may add. REQUIRES: at most kCallsMax calls of one row, with
// weights of `dtype` and no prologue.
void stream_products(Context& context, DType dtype, std::span<const Call> calls);
// The same in one launch, of the norm of x. False where a block cannot hold what it takes to make
// it: then nothing has been queued. REQUIRES: all calls have the same x.
bool stream_normed_products(Context& context, DType dtype, const NormOfRow& norm,
                            std::span<const Call> calls);
// Those with few inputs; stream_products() sends them here.
void stream_short_rows(Context& context, DType dtype, std::span<const Call> calls);

// Up to so many rows, products with 16-bit weights go to tensor cores by a kernel of this folder.
inline constexpr int64_t kSkinnyRows = 64;

// All calls in one launch, with their rows in the format of the weights; two more write the rows
// down and add parts of sums. REQUIRES: at most kCallsMax calls of the same number of rows, from 1
// to kSkinnyRows, with weights of `dtype`, which has 16 bits, and no epilogue of kSwiglu.
void skinny_products(Context& context, DType dtype, std::span<const Call> calls);

// The same by products of warp groups, one large call or several, and kSwiglu may be. REQUIRES:
// Context::warp_groups().
void skinny_hopper_products(Context& context, DType dtype, std::span<const Call> calls);
// Both products of a feed-forward net with weights in bf16; what is between them is the epilogue of
// `up`, whose y holds bf16 then and is read by `down`. False where shapes forbid it: then nothing
// has been queued. REQUIRES: as above; no other prologue or epilogue.
bool skinny_hopper_feed_forward(Context& context, const Call& up, const Call& down);

// A call's rows of x in the format of its weights, after its prologue.
struct Narrow {
  Call call;
  void* rows;
  int64_t stride;  // beyond the inputs: zeros
  float* scales;   // of f16: what products with each row are multiplied by; null: with nothing
  const float* factors;  // likewise of each output; narrow_rows leaves it alone
};

// As the library takes it: all but the types, x and w of a call, or all, of 16-bit or f32 weights.
Product product_of(const Call& call);
Product product_of(const Narrow& narrow, DType dtype);

// Room for outputs of products of low rank, in bf16, where other products read them next: those
// whose rows lie beside the last call's, if it has few outputs for its inputs. Nothing where the
// calls read what products have left, which lies there. To be asked before narrow_rows(); calls
// find their part by their outputs (LeftRows::find).
LeftRows room_for_low_rank(Context& context, std::span<const Call> calls);

// Fills in all but the calls, which are alike in rows and in the weights' `dtype`, and queues what
// writes the rows to scratch memory. Returns `more_bytes` of scratch memory beyond them, aligned to
// 256 bytes; null after an error.
std::byte* narrow_rows(Context& context, DType dtype, std::span<Narrow> each, size_t more_bytes);

// What is left to do to products that the library has written down: scales, factors, bias,
// epilogue. REQUIRES: as of library_products().
void finish_products(Context& context, std::span<const Narrow> each);

// On tensor cores, with inputs in the format of the weights. REQUIRES: at most kCallsMax calls with
// weights of `dtype` and no epilogue of kSwiglu.
void library_products(Context& context, Gemm& gemm, DType dtype, std::span<const Call> calls);

// Both products of a feed-forward net and what is between them, in bf16, as the weights are; `up`
// writes to its inner rows, `down` reads them. False where shapes or the library forbid it: then y
// is as it was. REQUIRES: no prologue and no epilogue.
bool library_feed_forward(Context& context, Gemm& gemm, FeedForward kind, const Call& up,
                          const Call& down);

// Plain tiles in f32, any shape. REQUIRES: no epilogue of kSwiglu.
void tiled_product(Context& context, DType dtype, const Call& call);

// Tensor cores multiply so many rows at once by what codes become in registers.
inline constexpr int64_t kFewRows = 64;

// Up to so many rows they take gate and value of an output together.
inline constexpr int64_t kGatedRows = 8;

// All calls in one launch for each kFewRows rows, with their rows in f16; of one row they may add.
// REQUIRES: at most kCallsMax calls of the same number of rows, at least one, with weights of
// `format`, which is quantized; no epilogue of kSwiglu with more than kGatedRows rows.
void quantized_products(Context& context, WeightFormat format, std::span<const Call> calls);
// As stream_normed_products(), with weights of `format`.
bool quantized_normed_products(Context& context, WeightFormat format, const NormOfRow& norm,
                               std::span<const Call> calls);

// Whether the library may take rows and weights in fp8.
bool multiplied_in_fp8(const Context& context, WeightFormat format);

// By the library, with rows and weights in f16, which weights are written out in, or in fp8.
// REQUIRES: at most kCallsMax calls of the same number of rows with weights of `format`, which is
// quantized, and no epilogue of kSwiglu.
inline constexpr int64_t kSliceBytes = int64_t{64} << 20;  // of f16 weights, written out at a time
void written_out_products(Context& context, Gemm& gemm, WeightFormat format,
                          std::span<const Call> calls, int64_t slice_bytes = kSliceBytes);

}  // namespace trireme::cuda
