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

struct Extremes {
  float low = 0.0f, high = 0.0f;  // with 0 among them
};
Extremes extremes_of(std::span<const float> x) {
  Extremes e;
  for (const float v : x) {
    e.low = std::min(e.low, v);
    e.high = std::max(e.high, v);
  }
  return e;
}

// Codes of x for this scale and zero. Returns the squared error, in units of the scale.
float round_int4(std::span<const float> x, float scale, int zero, uint8_t* codes) {
  const float inverse = 1.0f / scale;
  float error = 0.0f;
  for (size_t i = 0; i < x.size(); ++i) {
    const float place = x[i] * inverse + static_cast<float>(zero);
    const float code = std::clamp(std::nearbyintf(place), 0.0f, 15.0f);
    error += (code - place) * (code - place);
    codes[i] = static_cast<uint8_t>(code);
  }
  return error;
}

// A group's outliers cost the others their resolution: narrower ranges cut them off.
GroupScale quantize_int4(std::span<const float> x, uint8_t* codes) {
  constexpr float kRanges[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f};
  const Extremes e = extremes_of(x);
  if (e.high - e.low < kSmallest) {
    std::fill_n(codes, x.size(), uint8_t{0});
    return make_group_scale(0.0f, 0);
  }
  GroupScale best = 0;
  float least = INFINITY;
  std::vector<uint8_t> tried(x.size());  // a group may be a whole row
  for (const float range : kRanges) {
    const float wanted = (e.high - e.low) / 15.0f * range;
    const float scale = scale_of(make_group_scale(wanted, 0));
    const int zero =
        static_cast<int>(std::clamp(std::nearbyintf(-e.low * range / scale), 0.0f, 15.0f));
    const float error = round_int4(x, scale, zero, tried.data()) * scale * scale;
    if (error >= least) continue;
    least = error;
    best = make_group_scale(scale, zero);
    std::copy(tried.begin(), tried.end(), codes);
  }
  return best;
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
  for (size_t i = 0; i < x.size(); ++i) {
    const float place = x[i] * inverse;
    codes[i] = fp8 ? f32_to_f8(place)
                   : static_cast<uint8_t>(
                         static_cast<int8_t>(std::clamp(std::nearbyintf(place), -127.0f, 127.0f)));
  }
  return word;
}

// Where the first number of the row that is not finite stands; `count` where all are.
int64_t first_not_finite(const float* row, int64_t count) {
  float sum = 0.0f;  // of zeros, and NaN from the first infinity or NaN on
  for (int64_t i = 0; i < count; ++i) sum += row[i] * 0.0f;
  if (sum == 0.0f) return count;
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
