#include "kernels/cpu/packed_quantized.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/packed_matrix.h"

namespace trireme {
namespace {

// The bit at which the code of input i of an int4 word begins.
constexpr int shift_of(int64_t i) { return static_cast<int>(i / 2 * 4 + i % 2 * 16); }

// One output's part of a panel's k-block.
template <class Byte>
struct OutputBlock {
  Byte* block;
  WeightFormat format;
  int64_t lane;
  int64_t k;  // inputs of the block

  Byte* scale(int64_t group) const {
    return block + (group * kPanelRows + lane) * static_cast<int64_t>(sizeof(GroupScale));
  }
  // The word that holds input i.
  Byte* word(int64_t i) const {
    const int64_t inputs = inputs_per_word(format.type);
    const int64_t bytes = inputs * weight_bits(format.type) / 8;
    return scale(format.groups(k)) - lane * static_cast<int64_t>(sizeof(GroupScale)) +
           (i / inputs * kPanelRows + lane) * bytes;
  }
};

template <class Byte>
OutputBlock<Byte> output_block(Byte* data, int64_t rows, int64_t cols, WeightFormat format,
                               int64_t row, int64_t k_begin) {
  return {data + panel_block_offset(rows, cols, format, row / kPanelRows, k_begin), format,
          row % kPanelRows, std::min(kBlockK, cols - k_begin)};
}

void write_codes(const OutputBlock<std::byte>& to, const uint8_t* codes) {
  const WeightType type = to.format.type;
  const int64_t inputs = inputs_per_word(type);
  for (int64_t begin = 0; begin < to.k; begin += inputs) {
    const int64_t count = std::min(inputs, to.k - begin);
    uint32_t word = 0;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t code = codes[begin + i];
      if (type == WeightType::kInt4) {
        word |= (code & 0xfu) << shift_of(i);
      } else {
        word |= (type == WeightType::kInt8 ? code ^ 0x80u : code) << 8 * i;
      }
    }
    std::memcpy(to.word(begin), &word, type == WeightType::kFp8 ? 2 : 4);
  }
}

uint8_t code_at(const OutputBlock<const std::byte>& from, int64_t i) {
  const WeightType type = from.format.type;
  const int64_t place = i % inputs_per_word(type);
  if (type == WeightType::kInt4) {
    uint32_t word;
    std::memcpy(&word, from.word(i), 4);
    return static_cast<uint8_t>(word >> shift_of(place) & 0xfu);
  }
  const auto byte = std::to_integer<uint8_t>(from.word(i)[place]);
  return type == WeightType::kInt8 ? byte ^ 0x80u : byte;
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
            output_block(static_cast<std::byte*>(data), rows, cols, format, first_row + row, col);
        for (int64_t g = 0; g < format.groups(to.k); ++g) {
          const GroupScale word = source.scale_at(row, col + g * format.group);
          CHECK(format.type != WeightType::kFp8 || zero_of(word) == 0) << "fp8 has no zeros";
          std::memcpy(to.scale(g), &word, sizeof word);
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
    const auto from =
        output_block(static_cast<const std::byte*>(data), rows, cols, format, row, col);
    const int64_t group = format.group == 0 ? kBlockK : format.group;
    for (int64_t i = 0; i < from.k; ++i) {
      GroupScale word;
      std::memcpy(&word, from.scale(i / group), sizeof word);
      to[col + i] = decode_weight(format.type, code_at(from, i), word);
    }
  }
}

}  // namespace trireme
