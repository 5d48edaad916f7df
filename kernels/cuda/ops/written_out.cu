// Products of many rows with quantized weights, by the library.
//
// A matrix is written out as f16, of which a row may have been divided by its factor, and then
// multiplied; a slice of its outputs at a time, so that the memory for it is bounded. Writing 8B
// parameters out and reading them back moves 4 bytes each beside their codes: 9 ms on an H200
// (reckoned), a fiftieth of a prefill of 8192 rows.
//
// Of fp8 by rows, nothing is written out where tensor cores multiply fp8 (sm_89): rows of x are
// rounded to fp8 as well, each with the scale that makes its largest number 448, in the order in
// which the weights lie. The library multiplies by both scales.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/quantized.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kFp8Capability = 89;

// Rows of a quantized matrix, and where they go as f16.
struct Slice {
  const uint8_t* codes;
  const unsigned* scales;  // of the first row
  const float* factors;    //
  int64_t w_rows;          // of the whole matrix
  F16* to;
  int64_t to_stride;
  int32_t rows, pieces;  // of 16 bytes of a row
  int32_t shift;         // see few_rows_warp.cuh
};

// A thread for each piece: 16 inputs of each unit, four at a time.
template <class Q>
__global__ void write_out_kernel(const __grid_constant__ Slice s) {
  next_may_start();
  const auto index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= int64_t{s.rows} * s.pieces) return;
  const int32_t row = static_cast<int32_t>(index / s.pieces);
  const int32_t piece = static_cast<int32_t>(index - int64_t{row} * s.pieces);
  const Pack<uint8_t, 16> codes = load_once<16>(s.codes + index * 16);
  const auto* words = reinterpret_cast<const unsigned*>(&codes);
  const float inverse = s.shift == 31 ? 0.0f : Q::kUnit / s.factors[row];
  F16* to = s.to + row * s.to_stride;
  previous_done();
#pragma unroll
  for (int u = 0; u < Q::kUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int input = (piece / 4 * Q::kUnits + u) * kUnitInputs + 16 * j + piece % 4 * 4;
      if (input >= s.to_stride) continue;
      const unsigned word = s.scales[(input >> s.shift) * s.w_rows + row];
      Four four = four_of<Q>(words[j], u, zeros_of<Q>(word));
      if (s.shift != 31) {
        const float scale = scale_of_word(word) * inverse;
        const auto scaled = [&](unsigned two) {
          return pack<F16>(to_float(F16{static_cast<uint16_t>(two)}) * scale,
                           to_float(F16{static_cast<uint16_t>(two >> 16)}) * scale);
        };
        four = {scaled(four.first), scaled(four.last)};
      }
      store<2>(reinterpret_cast<unsigned*>(to + input), Pack<unsigned, 2>{{four.first, four.last}});
    }
  }
}

// Rows of x in fp8.
struct Fp8Rows {
  Call call;
  uint8_t* rows;
  int64_t stride;
  float* scales;
};
struct AllFp8Rows {
  Fp8Rows each[kCallsMax];
};

// A block for each row of each call.
template <bool kWide>
__global__ void fp8_rows_kernel(const __grid_constant__ AllFp8Rows all) {
  next_may_start();
  previous_done();
  const Fp8Rows& f = all.each[blockIdx.y];
  const int64_t row = blockIdx.x;
  const float* x = f.call.x + row * f.call.x_stride;
  const float largest = row_max(f.call, x);
  const bool zeros = largest < 0x1p-100f;  // whose inverse has no number
  if (threadIdx.x == 0) f.scales[row] = zeros ? 0.0f : largest / 448.0f;
  const float inverse = zeros ? 0.0f : 448.0f / largest;
  for (int64_t piece = threadIdx.x; piece < f.stride / 16; piece += kThreads) {
    const int64_t first = piece / 4 * kUnitInputs + piece % 4 * 4;
    Pack<float, 4> fours[4];
    fours_of<kWide>(f.call, x, first, 16, fours);
    Pack<unsigned, 4> words;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) fours[j].at[i] *= inverse;
      words.at[j] = fp8_word(fours[j]);
    }
    store<4>(reinterpret_cast<unsigned*>(f.rows + row * f.stride + piece * 16), words);
  }
}

QuantizedLayout layout_of(WeightFormat format, const Call& c) {
  return {format, c.outputs, c.inputs};
}
const std::byte* part_of(const Call& c, int64_t at) {
  return static_cast<const std::byte*>(c.w) + at;
}

size_t aligned_bytes(int64_t bytes) { return static_cast<size_t>(bytes + 255) / 256 * 256; }

// Outputs of a slice: as many as fit, in whole tiles of a product.
int64_t slice_outputs(const Call& c, int64_t slice_bytes) {
  const int64_t fit = slice_bytes /
                      (std::max(weight_stride(c.inputs), int64_t{1}) * int64_t{sizeof(F16)}) / 128 *
                      128;
  return std::min(std::max(fit, int64_t{128}), c.outputs);
}

// `outputs` of them at a time. False where the library has no algorithm; what it has written until
// then is written again.
bool multiply_slices(Context& context, Gemm& gemm, WeightFormat format, const Narrow& n,
                     int64_t outputs, std::byte* scratch) {
  const Call& c = n.call;
  if (!aligned4(c.y, c.y_stride)) return false;
  const QuantizedLayout layout = layout_of(format, c);
  for (int64_t first = 0; first < c.outputs; first += outputs) {
    Slice s;
    s.codes = reinterpret_cast<const uint8_t*>(part_of(c, first * layout.stride()));
    s.scales = reinterpret_cast<const unsigned*>(part_of(c, layout.scales_at())) + first;
    s.factors = n.factors + first;
    s.w_rows = layout.rows;
    s.to = reinterpret_cast<F16*>(scratch);
    s.to_stride = weight_stride(c.inputs);
    s.rows = static_cast<int32_t>(std::min(outputs, c.outputs - first));
    s.pieces = static_cast<int32_t>(layout.stride() / 16);
    s.shift = group_shift(format);
    const Grid grid{dim3(static_cast<unsigned>(ceil_div(int64_t{s.rows} * s.pieces, kThreads))),
                    dim3(kThreads), 0, true};
    dispatch_quantized(format.type, [&](auto type) {
      launch(context, "linear", grid, write_out_kernel<decltype(type)>, s);
    });
    Product p = product_of(c);
    p.type = WeightType::kF16;
    p.x = n.rows;
    p.x_stride = n.stride;
    p.w = s.to;
    p.w_stride = s.to_stride;
    p.y = c.y + first;
    p.outputs = s.rows;
    if (!gemm.multiply(context, p)) return false;
  }
  return true;
}

// Returns how many calls are left, which stand first then.
size_t fp8_products(Context& context, Gemm& gemm, WeightFormat format, std::span<Call> calls) {
  AllFp8Rows all{};
  size_t bytes = 0;
  bool wide = true;
  for (const Call& c : calls) {
    bytes += aligned_bytes(c.rows * layout_of(format, c).stride()) + aligned_bytes(c.rows * 4);
    wide = wide && aligned4(c.x, c.x_stride) && c.inputs % 4 == 0;
  }
  auto* scratch = static_cast<std::byte*>(context.scratch(bytes));
  if (scratch == nullptr) return 0;  // the context holds the error
  for (size_t i = 0; i < calls.size(); ++i) {
    Fp8Rows& f = all.each[i];
    f.call = calls[i];
    f.stride = layout_of(format, calls[i]).stride();
    f.rows = reinterpret_cast<uint8_t*>(scratch);
    scratch += aligned_bytes(f.call.rows * f.stride);
    f.scales = reinterpret_cast<float*>(scratch);
    scratch += aligned_bytes(f.call.rows * 4);
  }
  const Grid grid{
      dim3(static_cast<unsigned>(calls.front().rows), static_cast<unsigned>(calls.size())),
      dim3(kThreads), kWarpSize * sizeof(float), true};
  launch(context, "linear", grid, wide ? fp8_rows_kernel<true> : fp8_rows_kernel<false>, all);
  Narrow done[kCallsMax] = {};
  size_t count = 0, left = 0;
  for (size_t i = 0; i < calls.size(); ++i) {
    const Fp8Rows& f = all.each[i];
    Product p = product_of(f.call);
    p.type = WeightType::kFp8;
    p.x = f.rows;
    p.x_stride = f.stride;
    p.w = f.call.w;
    p.w_stride = p.inputs = f.stride;  // in the order of codes, zeros beyond the last input
    // A GroupScale word without a zero is its scale.
    const auto* w_scales =
        reinterpret_cast<const float*>(part_of(f.call, layout_of(format, f.call).scales_at()));
    p.x_scales = f.scales;
    p.w_scales = w_scales;
    const bool scaled = aligned4(f.call.y, f.call.y_stride) && gemm.multiply(context, p);
    p.x_scales = p.w_scales = nullptr;
    if (scaled) {
      done[count++].call = f.call;
    } else if (aligned4(f.call.y, f.call.y_stride) && gemm.multiply(context, p)) {
      done[count++] = {f.call, nullptr, 0, f.scales, w_scales};
    } else {
      calls[left++] = f.call;
    }
  }
  finish_products(context, {done, count});
  return left;
}

}  // namespace

bool multiplied_in_fp8(const Context& context, WeightFormat format) {
  return format == WeightFormat{WeightType::kFp8, 0} && context.capability() >= kFp8Capability;
}

void written_out_products(Context& context, Gemm& gemm, WeightFormat format,
                          std::span<const Call> calls, int64_t slice_bytes) {
  Call rest[kCallsMax];
  std::copy(calls.begin(), calls.end(), rest);
  size_t left = calls.size();
  if (multiplied_in_fp8(context, format)) left = fp8_products(context, gemm, format, {rest, left});
  if (left == 0) return;
  Narrow each[kCallsMax] = {};
  size_t bytes = 0;
  for (size_t i = 0; i < left; ++i) {
    const Call& c = each[i].call = rest[i];
    each[i].factors = reinterpret_cast<const float*>(part_of(c, layout_of(format, c).factors_at()));
    bytes = std::max(bytes, aligned_bytes(slice_outputs(c, slice_bytes) * weight_stride(c.inputs) *
                                          int64_t{sizeof(F16)}));
  }
  std::byte* scratch = narrow_rows(context, DType::kF16, {each, left}, bytes);
  if (scratch == nullptr) return;  // the context holds the error
  size_t done = 0, refused = 0;
  for (size_t i = 0; i < left; ++i) {
    if (multiply_slices(context, gemm, format, each[i], slice_outputs(rest[i], slice_bytes),
                        scratch)) {
      each[done++] = each[i];
    } else {
      rest[refused++] = rest[i];
    }
  }
  finish_products(context, {each, done});
  if (refused > 0) quantized_products(context, format, {rest, refused});
}

}  // namespace trireme::cuda
