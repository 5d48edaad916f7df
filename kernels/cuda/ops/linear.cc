// Matrix products: which way they go.
#include <optional>
#include <span>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {
namespace {

Call call_of(const ConstTensorView& x, const WeightView& w, const TensorView& y) {
  Call call{};
  call.w = w.data;
  call.w_stride = weight_stride(w.cols);
  call.x = static_cast<const float*>(x.data);
  call.x_stride = x.row_stride;
  call.bias = w.bias.empty() ? nullptr : static_cast<const float*>(w.bias.data);
  call.y = static_cast<float*>(y.data);
  call.y_stride = y.row_stride;
  call.rows = x.rows;
  call.inputs = w.cols;
  call.outputs = w.rows;
  return call;
}

void activate(Call& call, Activation activation) {
  call.epilogue = Epilogue::kActivate;
  call.activation = activation;
}

// Of 2 to 64 rows: measured on an H200, the library is faster for one large matrix (a step of 8B
// parameters at batch 16 and 64 by 10 and 15 %), our kernel for several that go in one launch, most
// of them small (RWKV-7 7.2B, by 16 and 3 %).
bool skinny(DType dtype, int64_t rows, size_t calls) {
  return rows <= kSkinnyRows && dtype != DType::kF32 && calls > 1;
}

// With quantized weights, 64 rows take as long as reading them or, of 4 bits, twice as long. A few
// times that is less than writing a matrix out as f16, which moves eight times the bytes of 4 bits.
// Nothing is written out where the library takes fp8. Reckoned, not measured.
bool in_registers(const Context& context, WeightFormat format, int64_t rows) {
  return rows <= (multiplied_in_fp8(context, format) ? kFewRows : 4 * kFewRows);
}

// REQUIRES: at least one row, and the same number in all calls.
void products(Context& context, Gemm& gemm, WeightFormat format, std::span<const Call> calls) {
  if (format.quantized()) {
    if (in_registers(context, format, calls.front().rows))
      return quantized_products(context, format, calls);
    return written_out_products(context, gemm, format, calls);
  }
  const DType dtype = format.dtype();
  if (calls.front().rows <= kStreamedRows) return stream_products(context, dtype, calls);
  if (skinny(dtype, calls.front().rows, calls.size()))
    return skinny_products(context, dtype, calls);
  library_products(context, gemm, dtype, calls);
}

}  // namespace

void CudaOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  const LinearCall call{x, w, y, std::nullopt};
  linears({&call, 1});
}

// Neighbours that are alike go together.
void CudaOps::linears(std::span<const LinearCall> calls) {
  for (size_t i = 0; i < calls.size();) {
    const WeightFormat format = calls[i].w.format;
    const int64_t rows = calls[i].x.rows;
    Call group[kCallsMax];
    size_t count = 0;
    for (; i < calls.size() && count < kCallsMax; ++i) {
      const LinearCall& call = calls[i];
      if (call.x.rows != rows || call.w.format != format) break;
      if (rows == 0 || call.w.rows == 0) continue;
      group[count] = call_of(call.x, call.w, call.y);
      if (call.activation) cuda::activate(group[count], *call.activation);
      ++count;
    }
    if (count > 0) products(context_, gemm_, format, {group, count});
  }
}

// Of few rows the inner activation is the first product's epilogue. Where the library multiplies,
// it is the second one's prologue: the rows are converted there anyway. Of many rows it is a kernel
// of its own, if the inner rows may be bf16: gate and up are then rounded once more than elsewhere,
// by as much as what becomes of them. Of f16, which overflows sooner, they stay f32.
void CudaOps::feed_forward(FeedForward kind, ConstTensorView x, const WeightView& up,
                           const WeightView& down, TensorView inner, TensorView y) {
  if (x.rows == 0) return;
  const bool gated = kind == FeedForward::kSwiglu;
  Call first = call_of(x, up, inner);
  Call second = call_of(inner, down, y);
  const bool both_bf16 = up.format == DType::kBF16 && down.format == DType::kBF16;
  if (both_bf16 && x.rows > kSkinnyRows && first.outputs > 0 && second.outputs > 0 &&
      library_feed_forward(context_, gemm_, kind, first, second))
    return;
  if (x.rows <= (up.format.quantized() ? kGatedRows : kStreamedRows)) {
    if (gated) {
      first.epilogue = Epilogue::kSwiglu;
      first.outputs /= 2;
    } else {
      cuda::activate(first, Activation::kReluSquared);
    }
  } else {
    second.prologue = gated ? Prologue::kSwiglu : Prologue::kReluSquared;
  }
  if (first.outputs > 0) products(context_, gemm_, up.format, {&first, 1});
  if (second.outputs > 0) products(context_, gemm_, down.format, {&second, 1});
}

}  // namespace trireme::cuda
