#include "kernels/base/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include <fmt/format.h>

namespace trireme {
namespace {

// Below this a group is zeros: its scale would have no bits left.
constexpr float kSmallest = 0x1p-100f;

// Sums and extremes are kept in so many lanes, which compilers turn into vectors; a float's order
// of summing they may not change by themselves.
constexpr size_t kLanes = 8;

struct Extremes {
  float low = 0.0f, high = 0.0f;  // with 0 among them
};
Extremes extremes_of(std::span<const float> x) {
  float low[kLanes] = {}, high[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  }
  for (; i < x.size(); ++i) {
    low[0] = std::min(low[0], x[i]);
    high[0] = std::max(high[0], x[i]);
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

// To the nearest integer, ties to even. REQUIRES: |x| < 2^22.
float nearest(float x) {
  constexpr float kShift = 0x1.8p23f;  // where the last place is 1
  return (x + kShift) - kShift;
}

// A number in codes of int4, before and after it is rounded.
struct Int4Code {
  float place, code;
  Int4Code(float x, float inverse, float zero) : place(x * inverse + zero), code(nearest(place)) {
    code = code < 0.0f ? 0.0f : code;
    code = code > 15.0f ? 15.0f : code;
  }
  float error() const { return (code - place) * (code - place); }
};

// The squared error of x in codes of this scale and zero.
float int4_error(std::span<const float> x, float scale, float zero) {
  const float inverse = 1.0f / scale;
  float errors[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) errors[j] += Int4Code(x[i + j], inverse, zero).error();
  }
  for (; i < x.size(); ++i) errors[0] += Int4Code(x[i], inverse, zero).error();
  float error = 0.0f;
  for (const float e : errors) error += e;
  return error * scale * scale;
}

// A group's outliers cost the others their resolution: narrower ranges cut them off.
GroupScale quantize_int4(std::span<const float> x, uint8_t* codes) {
  constexpr float kRanges[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f};
  const Extremes e = extremes_of(x);
  if (e.high - e.low < kSmallest) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return make_group_scale(0.0f, 0);
  }
  float scale = 1.0f, zero = 0.0f, least = INFINITY;
  for (const float range : kRanges) {
    const float tried = scale_of(make_group_scale((e.high - e.low) / 15.0f * range, 0));
    const float tried_zero = std::clamp(nearest(-e.low * range / tried), 0.0f, 15.0f);
    const float error = int4_error(x, tried, tried_zero);
    if (error >= least) continue;
    least = error;
    scale = tried;
    zero = tried_zero;
  }
  const float inverse = 1.0f / scale;
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(Int4Code(x[i], inverse, zero).code));
  return make_group_scale(scale, static_cast<int>(zero));
}

// f32_to_f8() without branches, for |x| a little above 448 at most.
uint8_t nearest_f8(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) & 0xffu;
  const uint32_t code = magnitude < 0x3c800000u ? small : normal;
  return static_cast<uint8_t>((bits >> 24 & 0x80u) | (code < 0x7eu ? code : 0x7eu));
}

uint8_t nearest_int8(float x) {
  float code = nearest(x);
  code = code < -127.0f ? -127.0f : code;
  code = code > 127.0f ? 127.0f : code;
  return static_cast<uint8_t>(static_cast<int32_t>(code));
}

GroupScale quantize_symmetric(WeightType type, std::span<const float> x, uint8_t* codes) {
  const Extremes e = extremes_of(x);
  const float largest = std::max(e.high, -e.low);
  if (largest < kSmallest) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return make_group_scale(0.0f, 0);
  }
  const bool fp8 = type == WeightType::kFp8;
  const GroupScale word = make_group_scale(largest / (fp8 ? 448.0f : 127.0f), 0);
  const float inverse = 1.0f / scale_of(word);
  if (fp8) {
    for (size_t i = 0; i < x.size(); ++i) codes[i] = nearest_f8(x[i] * inverse);
  } else {
    for (size_t i = 0; i < x.size(); ++i) codes[i] = nearest_int8(x[i] * inverse);
  }
  return word;
}

// Where the first number of the row that is not finite stands; `count` where all are.
int64_t first_not_finite(const float* row, int64_t count) {
  float sums[kLanes] = {};  // of zeros, and NaN from the first infinity or NaN on
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= count; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) sums[j] += row[i + static_cast<int64_t>(j)] * 0.0f;
  }
  for (; i < count; ++i) sums[0] += row[i] * 0.0f;
  if (std::all_of(sums, sums + kLanes, [](float s) { return s == 0.0f; })) return count;
  return std::find_if(row, row + count, [](float x) { return !std::isfinite(x); }) - row;
}

}  // namespace

QuantizedView QuantizedView::row_range(int64_t first, int64_t count) const {
  CHECK(first >= 0 && count >= 0 && first + count <= rows);
  QuantizedView v = *this;
  v.codes += first * code_stride;
  v.scales += first * scale_stride;
  v.rows = count;
  return v;
}

QuantizedView QuantizedView::col_range(int64_t first, int64_t count) const {
  CHECK(first >= 0 && count >= 0 && first + count <= cols);
  QuantizedView v = *this;
  v.codes += first;
  if (format.group != 0) {
    CHECK(first % format.group == 0) << "column " << first << " is inside a group";
    v.scales += first / format.group;
  }
  v.cols = count;
  return v;
}

QuantizedRows QuantizedRows::make(int64_t rows, int64_t cols, WeightFormat format) {
  CHECK(format.quantized() && rows >= 0 && cols >= 0);
  QuantizedRows made;
  made.codes.resize(static_cast<size_t>(rows * cols));
  made.scales.resize(static_cast<size_t>(rows * format.groups(cols)));
  made.rows = rows;
  made.cols = cols;
  made.format = format;
  return made;
}

QuantizedView QuantizedRows::view() const {
  return {codes.data(), cols, scales.data(), format.groups(cols), rows, cols, format};
}

Result<QuantizedRows> quantize(ConstTensorView source, WeightFormat format) {
  QuantizedRows made = QuantizedRows::make(source.rows, source.cols, format);
  const int64_t group = format.group == 0 ? source.cols : format.group;
  const int64_t groups = format.groups(source.cols);
  std::vector<float> row(static_cast<size_t>(source.cols));
  for (int64_t r = 0; r < source.rows; ++r) {
    convert_floats(source.row_range(r, 1).data, source.dtype, row.data(), DType::kF32, row.size());
    if (const int64_t at = first_not_finite(row.data(), source.cols); at < source.cols) {
      return invalid_argument(fmt::format("the number at row {}, column {} is {}: it has no code",
                                          r, at, row[static_cast<size_t>(at)]));
    }
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = g * group;
      const auto count = static_cast<size_t>(std::min(group, source.cols - first));
      const std::span<const float> x(row.data() + first, count);
      uint8_t* codes = made.codes.data() + r * source.cols + first;
      made.scales[static_cast<size_t>(r * groups + g)] =
          format.type == WeightType::kInt4 ? quantize_int4(x, codes)
                                           : quantize_symmetric(format.type, x, codes);
    }
  }
  return made;
}

QuantizedRows with_smaller_groups(const QuantizedView& from, int32_t group) {
  CHECK(group > 0 && from.format.group % group == 0);
  QuantizedRows made = QuantizedRows::make(from.rows, from.cols, {from.format.type, group});
  const int64_t groups = made.format.groups(from.cols);
  for (int64_t r = 0; r < from.rows; ++r) {
    std::copy_n(from.codes_of(r), from.cols, made.codes.data() + r * from.cols);
    for (int64_t g = 0; g < groups; ++g)
      made.scales[static_cast<size_t>(r * groups + g)] = from.scale_at(r, g * group);
  }
  return made;
}

void dequantize_row(const QuantizedView& from, int64_t row, float* to) {
  const uint8_t* codes = from.codes_of(row);
  for (int64_t c = 0; c < from.cols; ++c)
    to[c] = decode_weight(from.format.type, codes[c], from.scale_at(row, c));
}

}  // namespace trireme
