#include "kernels/cuda/quantized_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace trireme::cuda {
namespace {

constexpr int kUnitWords = kUnitInputs / 4;

// 64 inputs, four a word, in the order of a chunk: words change places as in a transposed 4 x 4,
// and the two middle bytes of each.
void order(const uint8_t* codes, uint32_t* to) {
  uint32_t words[kUnitWords];
  std::memcpy(words, codes, sizeof words);
  for (int j = 0; j < 4; ++j) {
    for (int t = 0; t < 4; ++t) {
      const uint32_t w = words[4 * j + t];
      to[4 * t + j] = (w & 0xff0000ffu) | (w & 0xff00u) << 8 | (w >> 8 & 0xff00u);
    }
  }
}

}  // namespace

void pack_codes(const QuantizedLayout& layout, const uint8_t* codes, uint8_t* to) {
  static_assert(std::endian::native == std::endian::little);
  const WeightType type = layout.format.type;
  const int64_t units = layout.chunk_inputs() / kUnitInputs;
  for (int64_t first = 0; first < layout.cols; first += layout.chunk_inputs(), to += kChunkBytes) {
    uint32_t words[2][kUnitWords] = {};
    for (int64_t u = 0; u < units; ++u) {
      const int64_t at = first + u * kUnitInputs;
      if (at + kUnitInputs <= layout.cols) {
        order(codes + at, words[u]);
      } else if (at < layout.cols) {
        uint8_t rest[kUnitInputs] = {};
        std::memcpy(rest, codes + at, static_cast<size_t>(layout.cols - at));
        order(rest, words[u]);
      }
    }
    for (int i = 0; i < kUnitWords; ++i) {
      if (type == WeightType::kInt4) words[0][i] |= words[1][i] << 4;
      if (type == WeightType::kInt8) words[0][i] ^= 0x80808080u;
    }
    std::memcpy(to, words[0], kChunkBytes);
  }
}

float row_factor(const QuantizedLayout& layout, const GroupScale* scales) {
  const float unit = layout.format.type == WeightType::kFp8 ? 256.0f : 1.0f;
  if (layout.format.group == 0 && layout.cols > 0) return scale_of(scales[0]) * unit;
  float largest = 0.0f;
  for (int64_t g = 0; g < layout.groups(); ++g) largest = std::max(largest, scale_of(scales[g]));
  if (largest == 0.0f) return 1.0f;
  return std::ldexp(unit, std::max(std::ilogb(largest) + 1, -126 + 6) - 6);
}

}  // namespace trireme::cuda
