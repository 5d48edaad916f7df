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

Call call_of(const LinearCall& linear) {
  Call call = call_of(linear.x, linear.w, linear.y);
  if (linear.activation) activate(call, *linear.activation);
  return call;
}

// The first product of a feed-forward net, with what is between the two.
void activate_inner(FeedForward kind, Call& first) {
  if (kind == FeedForward::kReluSquared) return activate(first, Activation::kReluSquared);
  first.epilogue = Epilogue::kSwiglu;
  first.outputs /= 2;
}

// Of 2 to 64 rows: measured on an H200, the library is faster for one large matrix (a step of 8B
// parameters at batch 16 and 64 by 10 and 15 %), our kernel for several that go in one launch, most
// of them small (RWKV-7 7.2B, by 16 and 3 %).
bool skinny(DType dtype, int64_t rows, size_t calls) {
  return rows <= kSkinnyRows && dtype != DType::kF32 && calls > 1;
}

// Of 2 to 64 rows, where products of warp groups are asked for: all, one or several.
bool by_warp_groups(const Context& context, WeightFormat format, int64_t rows) {
  return context.skinny_groups() && !format.quantized() && format.dtype() != DType::kF32 &&
         rows > kStreamedRows && rows <= kSkinnyRows;
}

// With quantized weights, 64 rows take as long as reading them or, of 4 bits, twice as long. A few
// times that is less than writing a matrix out as f16, which moves eight times the bytes of 4 bits.
// Nothing is written out where the library takes fp8. Reckoned, not measured.
bool in_registers(const Context& context, WeightFormat format, int64_t rows) {
  return rows <= (multiplied_in_fp8(context, format) ? kFewRows : 4 * kFewRows);
}

// Whether products of so many rows may be added to what lies at y.
bool can_add(int64_t rows) { return rows > 0 && rows <= kStreamedRows; }

// The norm of `in`, and products of it, in one launch, if that can be: then it has been queued.
bool normed_products(Context& context, const ResidualNorm& in, WeightFormat format,
                     std::span<const Call> calls) {
  if (in.x.rows == 0 || in.x.rows > kStreamedRows || in.delta.rows > 0 || in.norm.groups != 1 ||
      in.norm.kind != NormKind::kRms || !in.norm.bias.empty())
    return false;
  const ConstTensorView& gain = in.norm.gain;
  const NormOfRow norm{gain.empty() ? nullptr : static_cast<const float*>(gain.data),
                       in.norm.epsilon};
  Call of_x[kCallsMax];
  for (size_t i = 0; i < calls.size(); ++i) {
    of_x[i] = calls[i];
    of_x[i].x = static_cast<const float*>(in.x.data);
    of_x[i].x_stride = in.x.row_stride;
  }
  if (format.quantized())
    return quantized_normed_products(context, format, norm, {of_x, calls.size()});
  return stream_normed_products(context, format.dtype(), norm, {of_x, calls.size()});
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
  if (by_warp_groups(context, format, calls.front().rows))
    return skinny_hopper_products(context, dtype, calls);
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
      group[count++] = call_of(call);
    }
    if (count > 0) products(context_, gemm_, format, {group, count});
  }
}

// Of several rows, large products go one by one where the library is faster: see skinny().
void CudaOps::norm_linears(const ResidualNorm& in, std::span<const LinearCall> calls) {
  Call group[kCallsMax];
  size_t count = 0;
  bool alike = calls.size() <= kCallsMax;
  for (size_t i = 0; alike && i < calls.size(); ++i) {
    const LinearCall& call = calls[i];
    alike = call.w.format == calls[0].w.format;
    if (call.w.rows > 0) group[count++] = call_of(call);
  }
  if (alike && count > 0 && normed_products(context_, in, calls[0].w.format, {group, count}))
    return;
  residual_norm(in);
  const bool together =
      alike && count > 0 && by_warp_groups(context_, calls[0].w.format, in.x.rows);
  if (in.x.rows <= kStreamedRows || together) return linears(calls);
  for (const LinearCall& call : calls) linears({&call, 1});
}

bool CudaOps::linear_add(ConstTensorView x, const WeightView& w, TensorView delta,
                         const Residual& residual) {
  if (residual.x.rows == 0 || !can_add(x.rows) || w.rows == 0)
    return Ops::linear_add(x, w, delta, residual);
  Call call = call_of(x, w, residual.x);
  call.adds = residual.adds;
  products(context_, gemm_, w.format, {&call, 1});
  return true;
}

bool CudaOps::norm_feed_forward(const ResidualNorm& in, FeedForward kind, const WeightView& up,
                                const WeightView& down, TensorView inner, TensorView delta,
                                const Residual& residual) {
  if (residual.x.rows == 0 || !can_add(in.x.rows))
    return Ops::norm_feed_forward(in, kind, up, down, inner, delta, residual);
  Call first = call_of(in.y, up, inner);
  activate_inner(kind, first);
  // A shard may have no inner rows; the others still count on it.
  if (first.outputs == 0 || !normed_products(context_, in, up.format, {&first, 1})) {
    residual_norm(in);
    if (first.outputs > 0) products(context_, gemm_, up.format, {&first, 1});
  }
  Call second = call_of(inner, down, residual.x);
  second.adds = residual.adds;
  if (second.outputs > 0) products(context_, gemm_, down.format, {&second, 1});
  return true;
}

// Of few rows, and by warp groups, the inner activation is the first product's epilogue. Where the
// library multiplies, it is the second one's prologue: the rows are converted there anyway. Of many
// rows it is a kernel of its own, if the inner rows may be bf16: gate and up are then rounded once
// more than elsewhere, by as much as what becomes of them. Of f16, which overflows sooner, they
// stay f32.
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
  const bool groups = by_warp_groups(context_, up.format, x.rows);
  if (groups || x.rows <= (up.format.quantized() ? kGatedRows : kStreamedRows)) {
    activate_inner(kind, first);
    if (groups && both_bf16 && first.outputs > 0 && second.outputs > 0 &&
        skinny_hopper_feed_forward(context_, first, second))
      return;
  } else {
    second.prologue = gated ? Prologue::kSwiglu : Prologue::kReluSquared;
  }
  if (first.outputs > 0) products(context_, gemm_, up.format, {&first, 1});
  if (second.outputs > 0) products(context_, gemm_, down.format, {&second, 1});
}

}  // namespace trireme::cuda
