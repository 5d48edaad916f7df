#include "runtime/model/weights/quantized_matrix.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace trireme {
namespace {

// No weight has a larger scale, and below it no product of scale and code overflows f32.
constexpr float kScaleMax = 0x1p100f;

// Our format for groups of `group` inputs of `cols`: the largest group of ours that divides them.
std::optional<WeightFormat> quantized_format(const QuantizedMatrix& m) {
  if (!m.group_of.empty()) return std::nullopt;
  if (m.group >= m.cols) return WeightFormat(m.type, 0);
  for (const int32_t ours : {128, 64, 32})
    if (m.group % ours == 0) return WeightFormat(m.type, ours);
  return std::nullopt;
}

WeightFormat float_format(const ScaleGrid& scales) {
  const std::optional<DType> dtype = scales.part.info->dtype;
  return dtype ? WeightFormat(*dtype) : WeightFormat(DType::kBF16);  // F8_E8M0
}

// Codes, scales and zeros of some rows, as the checkpoint groups them. No scale is negative.
struct Decoded {
  std::vector<uint8_t> codes;  // [count, cols]
  std::vector<float> scales;   // [count, groups]
  std::vector<int32_t> zeros;  // [count, groups]
};

// The code and zero that with -scale give what these give with scale. In integers -(c - z) =
// (-1 - c) - (-1 - z), where -1 - c is ~c as a signed byte and 15 - c will do as well for four
// bits; fp8 has a sign of its own.
uint8_t negated_code(WeightType type, uint8_t code) {
  if (type == WeightType::kFp8) return code ^ 0x80;
  return type == WeightType::kInt4 ? 15 - code : static_cast<uint8_t>(~code);
}
int32_t negated_zero(WeightType type, int32_t zero) {
  if (type == WeightType::kFp8) return 0;
  return type == WeightType::kInt4 ? 15 - zero : -1 - zero;
}

// AutoRound chooses the sign of a scale so that the largest weight falls on the code -8, which has
// no positive mate (auto_round/data_type/int.py, quant_tensor_sym).
void fold_sign(const QuantizedMatrix& m, int64_t group, uint8_t* row_codes, int32_t* zero) {
  *zero = negated_zero(m.type, *zero);
  const bool in_order = m.group_of.empty();
  const int64_t begin = in_order ? group * m.group : 0;
  const int64_t end = in_order ? begin + std::min(m.group, m.cols - begin) : m.cols;
  for (int64_t i = begin; i < end; ++i) {
    if (in_order || m.group_of[static_cast<size_t>(i)] == group)
      row_codes[i] = negated_code(m.type, row_codes[i]);
  }
}

Status check_fp8(const QuantizedMatrix& m, int64_t first, int64_t count, const uint8_t* codes) {
  for (int64_t r = 0; r < count; ++r) {
    const uint8_t* row = codes + r * m.cols;
    unsigned nan = 0;
    for (int64_t i = 0; i < m.cols; ++i) nan |= (row[i] & 0x7f) == 0x7f;
    if (nan == 0) continue;
    const uint8_t* at =
        std::find_if(row, row + m.cols, [](uint8_t code) { return (code & 0x7f) == 0x7f; });
    return data_loss(
        fmt::format("{} is not a number at row {}, column {} (code 0x{:02x}); the quantizer failed "
                    "or the file is damaged",
                    m.where, first + r, at - row, *at));
  }
  return {};
}

Result<Decoded> decode(const Checkpoint& checkpoint, const QuantizedMatrix& m, int64_t first,
                       int64_t count) {
  const int64_t groups = m.groups();
  const int32_t zero_min = m.type == WeightType::kInt8 ? -128 : 0;
  const int32_t zero_max = m.type == WeightType::kInt8 ? 127 : m.type == WeightType::kInt4 ? 15 : 0;
  Decoded d;
  d.codes.resize(static_cast<size_t>(count * m.cols));
  d.scales.resize(static_cast<size_t>(count * groups));
  d.zeros.resize(d.scales.size());
  if (d.codes.empty()) return d;
  if (m.input_major.rows > 0) checkpoint.will_need(m.input_major);
  m.read_codes(first, count, d.codes.data());
  m.read_zeros(first, count, d.zeros.data());
  if (m.type == WeightType::kFp8) {
    if (Status s = check_fp8(m, first, count, d.codes.data()); !s.ok()) return s;
  }
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>(r * groups + g);
      float scale = m.scales.at(first + r, g);
      if (!(std::abs(scale) <= kScaleMax)) {
        return data_loss(
            fmt::format("{} has the scale {} for row {}, group {}; the quantizer failed or the "
                        "file is damaged",
                        m.scales.part.where, scale, first + r, g));
      }
      if (d.zeros[at] < zero_min || d.zeros[at] > zero_max) {
        return data_loss(
            fmt::format("{} has the zero point {} for row {}, group {}, expected {} to {}; the "
                        "file is damaged",
                        m.where, d.zeros[at], first + r, g, zero_min, zero_max));
      }
      if (scale < 0) {
        scale = -scale;
        fold_sign(m, g, d.codes.data() + r * m.cols, &d.zeros[at]);
      }
      d.scales[at] = scale;
    }
  }
  return d;
}

// scale * (code - zero) for codes of one group.
void dequantize(WeightType type, const uint8_t* codes, int64_t count, float scale, int32_t zero,
                float* to) {
  const auto z = static_cast<float>(zero);
  for (int64_t i = 0; i < count; ++i) to[i] = scale * (code_value(type, codes[i]) - z);
}

}  // namespace

float ScaleGrid::at(int64_t output, int64_t group) const {
  const auto index = static_cast<size_t>(output / outputs * output_stride + group * group_stride);
  if (part.info->dtype) return load_f32(part.data, *part.info->dtype, index);
  const auto exponent = static_cast<uint8_t>(part.data[index]);  // F8_E8M0; 255 is NaN
  return exponent == 255 ? NAN : std::ldexp(1.0f, exponent - 127);
}

Result<WeightFormat> QuantizedMatrices::format(const Checkpoint& checkpoint,
                                               std::string_view weight, int64_t rows,
                                               int64_t cols) const {
  const auto m = open(checkpoint, weight, rows, cols);
  if (!m.ok()) return m.status();
  return quantized_format(**m).value_or(float_format((*m)->scales));
}

Result<QuantizedRows> QuantizedMatrices::rows(const Checkpoint& checkpoint, std::string_view weight,
                                              int64_t rows, int64_t cols, int64_t first,
                                              int64_t count) const {
  CHECK(first >= 0 && count >= 0 && first + count <= rows);
  const auto opened = open(checkpoint, weight, rows, cols);
  if (!opened.ok()) return opened.status();
  const QuantizedMatrix& m = **opened;
  const std::optional<WeightFormat> format = quantized_format(m);
  CHECK(format) << weight << " has no quantized format of ours";
  Result<Decoded> decoded = decode(checkpoint, m, first, count);
  if (!decoded.ok()) return decoded.status();

  QuantizedRows made;
  made.rows = count;
  made.cols = cols;
  made.format = *format;
  made.codes = std::move(decoded->codes);
  const int64_t theirs = m.groups();
  const int64_t ours = format->groups(cols);
  made.scales.resize(static_cast<size_t>(count * ours));
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t g = 0; g < ours; ++g) {
      const auto from = static_cast<size_t>(r * theirs + g * format->group / m.group);
      made.scales[static_cast<size_t>(r * ours + g)] =
          make_group_scale(decoded->scales[from], decoded->zeros[from]);
    }
  }
  return made;
}

Result<std::vector<float>> QuantizedMatrices::floats(const Checkpoint& checkpoint,
                                                     std::string_view weight, int64_t rows,
                                                     int64_t cols, int64_t first,
                                                     int64_t count) const {
  CHECK(first >= 0 && count >= 0 && first + count <= rows);
  const auto opened = open(checkpoint, weight, rows, cols);
  if (!opened.ok()) return opened.status();
  const QuantizedMatrix& m = **opened;
  const Result<Decoded> decoded = decode(checkpoint, m, first, count);
  if (!decoded.ok()) return decoded.status();

  std::vector<float> numbers(decoded->codes.size());
  const int64_t groups = m.groups();
  for (int64_t r = 0; r < count; ++r) {
    const uint8_t* codes = decoded->codes.data() + r * cols;
    const float* scales = decoded->scales.data() + r * groups;
    const int32_t* zeros = decoded->zeros.data() + r * groups;
    float* to = numbers.data() + r * cols;
    if (m.group_of.empty()) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t i = g * m.group;
        dequantize(m.type, codes + i, std::min(m.group, cols - i), scales[g], zeros[g], to + i);
      }
    } else {
      for (int64_t i = 0; i < cols; ++i) {
        const int32_t g = m.group_of[static_cast<size_t>(i)];
        dequantize(m.type, codes + i, 1, scales[g], zeros[g], to + i);
      }
    }
  }
  return numbers;
}

}  // namespace trireme
