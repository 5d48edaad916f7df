#include "kernels/cuda/emulator/tensor_core.h"

#include <cstring>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/block.h"

namespace trireme::emulator {
namespace {

struct Product {
  const unsigned* a;
  const unsigned* b;
  float* c;
  float (*value)(uint16_t);
};

constexpr int kRows = 16, kCols = 8, kDepth = 16;

// Puts the two numbers of a register at `to` and `to + step`.
void unpack(unsigned bits, float (*value)(uint16_t), float* to, int step) {
  to[0] = value(static_cast<uint16_t>(bits & 0xffffu));
  to[step] = value(static_cast<uint16_t>(bits >> 16));
}

void multiply(void* const* lanes) {
  float a[kRows][kDepth], b[kDepth][kCols];
  for (int lane = 0; lane < kWarp; ++lane) {
    CHECK(lanes[lane] != nullptr) << "a product of a warp without lane " << lane;
    const auto& p = *static_cast<const Product*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) unpack(p.a[i], p.value, &a[g + i % 2 * 8][2 * t + i / 2 * 8], 1);
    for (int i = 0; i < 2; ++i) unpack(p.b[i], p.value, &b[2 * t + i * 8][g], kCols);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& p = *static_cast<const Product*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const float* row = a[g + i / 2 * 8];
      float sum = p.c[i];
      for (int k = 0; k < kDepth; ++k) sum += row[k] * b[k][2 * t + i % 2];
      p.c[i] = sum;
    }
  }
}

constexpr int kDepthTf32 = 8;

float tf32(unsigned bits) {
  bits &= 0xffffe000u;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

void multiply_tf32(void* const* lanes) {
  float a[kRows][kDepthTf32], b[kDepthTf32][kCols];
  for (int lane = 0; lane < kWarp; ++lane) {
    CHECK(lanes[lane] != nullptr) << "a product of a warp without lane " << lane;
    const auto& p = *static_cast<const Product*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = tf32(p.a[i]);
    for (int i = 0; i < 2; ++i) b[t + i * 4][g] = tf32(p.b[i]);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& p = *static_cast<const Product*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int k = 0; k < kDepthTf32; ++k) p.c[i] += a[g + i / 2 * 8][k] * b[k][2 * t + i % 2];
    }
  }
}

struct Load {
  const void* row;
  unsigned* to;
  bool transposed;
};

void load(void* const* lanes) {
  uint16_t matrices[4][8][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    CHECK(lanes[lane] != nullptr) << "a load of matrices without lane " << lane;
    const void* row = static_cast<const Load*>(lanes[lane])->row;
    CHECK(reinterpret_cast<uintptr_t>(row) % 16 == 0) << "a row of a matrix is not aligned";
    std::memcpy(matrices[lane / 8][lane % 8], row, 16);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& mine = *static_cast<const Load*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const auto& m = matrices[i];
      const uint16_t low = mine.transposed ? m[2 * t][g] : m[g][2 * t];
      const uint16_t high = mine.transposed ? m[2 * t + 1][g] : m[g][2 * t + 1];
      mine.to[i] = low | static_cast<unsigned>(high) << 16;
    }
  }
}

}  // namespace

void warp_product(const unsigned* a, const unsigned* b, float* c, float (*value)(uint16_t)) {
  Product mine{a, b, c, value};
  warp_collective(0xffffffffu, multiply, &mine);
}

void warp_product_tf32(const unsigned* a, const unsigned* b, float* c) {
  Product mine{a, b, c, nullptr};
  warp_collective(0xffffffffu, multiply_tf32, &mine);
}

void warp_load_matrices(const void* row, unsigned* to, bool transposed) {
  Load mine{row, to, transposed};
  warp_collective(0xffffffffu, load, &mine);
}

void async_copy(void* to, const void* from, int bytes) {
  const auto size = static_cast<uintptr_t>(bytes);
  CHECK(reinterpret_cast<uintptr_t>(to) % size == 0 &&
        reinterpret_cast<uintptr_t>(from) % size == 0)
      << "a copy of " << bytes << " bytes is not aligned";
  std::memset(to, 0xff, size);
  AsyncCopies::Copy copy{to, from, bytes, {}};
  if (from != nullptr && ahead_of_previous()) std::memcpy(copy.read.emplace().data(), from, size);
  async_copies().open.push_back(copy);
}

void async_commit() {
  AsyncCopies& copies = async_copies();
  copies.groups.push_back(std::move(copies.open));
  copies.open.clear();
}

void async_wait(int pending) {
  AsyncCopies& copies = async_copies();
  while (copies.groups.size() > static_cast<size_t>(pending)) {
    carry_out(copies.groups.front());
    copies.groups.pop_front();
  }
}

void carry_out(const AsyncCopies::Group& copies) {
  for (const AsyncCopies::Copy& copy : copies) {
    const auto size = static_cast<size_t>(copy.bytes);
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, size);
    } else {
      std::memcpy(copy.to, copy.read ? copy.read->data() : copy.from, size);
    }
  }
}

}  // namespace trireme::emulator
