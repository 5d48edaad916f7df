#include "kernels/cpu/packed_quantized.h"

#include <algorithm>
#include <type_traits>

#include "kernels/base/check.h"
#include "kernels/cpu/packed_matrix.h"

namespace trireme {
namespace {

constexpr int64_t kWordInputs = 8;  // int4 codes in a word

// The bit at which the code of input i of a word begins.
constexpr int shift_of(int64_t i) { return static_cast<int>(i / 2 * 4 + i % 2 * 16); }

// One output's part of a panel's k-block: neighbours in `scales` and `codes` are kPanelRows apart.
template <class Byte>
struct OutputBlock {
  Byte* block;
  WeightFormat format;
  int64_t lane;
  int64_t k;  // inputs of the block

  auto* scales() const {
    using Scale = std::conditional_t<std::is_const_v<Byte>, const GroupScale, GroupScale>;
    return reinterpret_cast<Scale*>(block) + lane;
  }
  Byte* code_bytes() const {
    return block + format.groups(k) * kPanelRows * static_cast<int64_t>(sizeof(GroupScale));
  }
  auto* words() const {
    using Word = std::conditional_t<std::is_const_v<Byte>, const uint32_t, uint32_t>;
    return reinterpret_cast<Word*>(code_bytes()) + lane;
  }
};

template <class Byte>
OutputBlock<Byte> output_block(Byte* data, int64_t rows, int64_t cols, WeightFormat format,
                               int64_t row, int64_t k_begin) {
  return {data + panel_block_offset(rows, cols, format, row / kPanelRows, k_begin), format,
          row % kPanelRows, std::min(kBlockK, cols - k_begin)};
}

void write_codes(const OutputBlock<uint8_t>& to, const uint8_t* codes) {
  if (to.format.type != WeightType::kInt4) {
    uint8_t* bytes = to.code_bytes() + to.lane;
    for (int64_t i = 0; i < to.k; ++i) bytes[i * kPanelRows] = codes[i];
    return;
  }
  for (int64_t begin = 0; begin < to.k; begin += kWordInputs) {
    uint32_t word = 0;
    for (int64_t i = 0; i < std::min(kWordInputs, to.k - begin); ++i)
      word |= static_cast<uint32_t>(codes[begin + i] & 0xfu) << shift_of(i);
    to.words()[begin / kWordInputs * kPanelRows] = word;
  }
}

uint8_t code_at(const OutputBlock<const uint8_t>& from, int64_t i) {
  if (from.format.type != WeightType::kInt4) return from.code_bytes()[i * kPanelRows + from.lane];
  const uint32_t word = from.words()[i / kWordInputs * kPanelRows];
  return static_cast<uint8_t>(word >> shift_of(i % kWordInputs) & 0xfu);
}

}  // namespace

void write_packed_quantized_rows(void* data, int64_t rows, int64_t cols, int64_t first_row,
                                 const QuantizedView& source) {
  const WeightFormat format = source.format;
  CHECK(format.quantized() &&
        (format.group == 0 || format.group == 32 || format.group == 64 || format.group == 128))
      << weight_format_name(format);
  CHECK(source.cols == cols && first_row >= 0 && first_row + source.rows <= rows)
      << "rows " << first_row << " + " << source.rows << " x " << source.cols << " of " << rows
      << " x " << cols;
  // Output by output within a k-block: the writes of 32 neighbours meet in cache.
  for (int64_t panel_row = 0; panel_row < source.rows; panel_row += kPanelRows) {
    const int64_t panel_end = std::min(panel_row + kPanelRows, source.rows);
    for (int64_t col = 0; col < cols; col += kBlockK) {
      for (int64_t row = panel_row; row < panel_end; ++row) {
        const auto to =
            output_block(static_cast<uint8_t*>(data), rows, cols, format, first_row + row, col);
        for (int64_t g = 0; g < format.groups(to.k); ++g) {
          const GroupScale word = source.scale_at(row, col + g * format.group);
          CHECK(format.type != WeightType::kFp8 || zero_of(word) == 0) << "fp8 has no zeros";
          to.scales()[g * kPanelRows] = word;
        }
        write_codes(to, source.codes_of(row) + col);
      }
    }
  }
}

void read_packed_quantized_row(const void* data, int64_t rows, int64_t cols, WeightFormat format,
                               int64_t row, float* to) {
  CHECK(row >= 0 && row < rows);
  for (int64_t col = 0; col < cols; col += kBlockK) {
    const auto from = output_block(static_cast<const uint8_t*>(data), rows, cols, format, row, col);
    const int64_t group = format.group == 0 ? kBlockK : format.group;
    for (int64_t i = 0; i < from.k; ++i) {
      to[col + i] =
          decode_weight(format.type, code_at(from, i), from.scales()[i / group * kPanelRows]);
    }
  }
}

}  // namespace trireme
