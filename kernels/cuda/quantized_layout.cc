#include "kernels/cuda/quantized_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace trireme::cuda {
namespace {

constexpr int kUnitWords = kUnitInputs / 4;

// 64 inputs, four a word, in the order of a chunk: words change places as in a transposed 4 x 4,
// and the two middle bytes of each. to[i] = (its word ^ flip) << shift, beside what is there.
void order(const uint8_t* codes, uint32_t flip, int shift, uint32_t* to) {
  uint32_t words[kUnitWords];
  std::memcpy(words, codes, sizeof words);
  for (uint32_t& w : words)
    w = ((w & 0xff0000ffu) | (w & 0xff00u) << 8 | (w >> 8 & 0xff00u)) ^ flip;
  for (int t = 0; t < 4; ++t) {
    for (int j = 0; j < 4; ++j) to[4 * t + j] |= words[4 * j + t] << shift;
  }
}

}  // namespace

void pack_codes(const QuantizedLayout& layout, const uint8_t* codes, uint8_t* to) {
  static_assert(std::endian::native == std::endian::little);
  const uint32_t flip = layout.format.type == WeightType::kInt8 ? 0x80808080u : 0;
  const int64_t units = layout.chunk_inputs() / kUnitInputs;
  for (int64_t first = 0; first < layout.cols; first += layout.chunk_inputs(), to += kChunkBytes) {
    uint32_t words[kUnitWords] = {};
    for (int64_t u = 0; u < units; ++u) {
      const int64_t at = first + u * kUnitInputs;
      if (at + kUnitInputs <= layout.cols) {
        order(codes + at, flip, static_cast<int>(4 * u), words);
      } else if (at < layout.cols) {
        uint8_t rest[kUnitInputs] = {};
        std::memcpy(rest, codes + at, static_cast<size_t>(layout.cols - at));
        order(rest, flip, static_cast<int>(4 * u), words);
      }
    }
    std::memcpy(to, words, kChunkBytes);
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
