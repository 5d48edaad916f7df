#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/emulator/tensor_core.h"

namespace trireme::emulator {
namespace {

constexpr int kRows = 16, kDepth = 16;  // of a warp
constexpr unsigned kSwizzle128 = 1;

// "Matrix-descriptor": where an operand lies in shared memory, rows of 128 bytes by eights, in
// which pieces of 16 bytes are exchanged by the three lowest bits of the row's number.
struct Described {
  unsigned start, leading, stride;

  explicit Described(uint64_t bits)
      : start(static_cast<unsigned>(bits & 0x3fff) << 4),
        leading(static_cast<unsigned>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<unsigned>(bits >> 32 & 0x3fff) << 4) {
    CHECK(bits >> 62 == kSwizzle128) << "operands of other layouts are not emulated";
    CHECK((bits >> 49 & 7) == 0) << "a pattern that begins inside of 1024 bytes is not emulated";
  }

  // Depth along rows: row m or n has its depth side by side.
  unsigned along(int row, int k) const {
    return swizzled(start + static_cast<unsigned>(row / 8) * stride +
                    static_cast<unsigned>(row % 8) * 128 + static_cast<unsigned>(k) * 2);
  }
  // Depth down rows: a row of 64 columns for each k.
  unsigned down(int column, int k) const {
    return swizzled(start + static_cast<unsigned>(column / 64) * leading +
                    static_cast<unsigned>(k / 8) * stride + static_cast<unsigned>(k % 8) * 128 +
                    static_cast<unsigned>(column % 64) * 2);
  }
  static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }
};

struct Brought {
  GroupProduct product;
  AsyncProducts* products;
  const std::byte* shared;
  size_t shared_bytes;
};

float number(const Brought& from, unsigned address) {
  const size_t at = size_t{address} - kSharedBegin;
  CHECK(address >= kSharedBegin && at + 2 <= from.shared_bytes)
      << "an operand lies outside of shared memory";
  uint16_t bits = 0;
  std::memcpy(&bits, from.shared + at, sizeof bits);
  return from.product.value(bits);
}

std::vector<float> left_of(const std::vector<Brought>& lanes, int warp) {
  std::vector<float> a(size_t{kRows} * kDepth);
  const auto at = [&](int row, int k) -> float& {
    return a[static_cast<size_t>(row * kDepth + k)];
  };
  const Brought& first = lanes.front();
  if (first.product.a == nullptr) {
    const Described operand(first.product.a_described);
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < kDepth; ++k)
        at(row, k) = number(first, operand.along(warp % 4 * kRows + row, k));
    }
    return a;
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const GroupProduct& p = lanes[static_cast<size_t>(lane)].product;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int half = 0; half < 2; ++half) {
        at(g + i % 2 * 8, 2 * t + i / 2 * 8 + half) =
            p.value(static_cast<uint16_t>(p.a[i] >> (16 * half) & 0xffffu));
      }
    }
  }
  return a;
}

std::vector<float> right_of(const Brought& first) {
  const GroupProduct& p = first.product;
  const Described operand(p.b_described);
  std::vector<float> b(static_cast<size_t>(kDepth * p.columns));
  for (int k = 0; k < kDepth; ++k) {
    for (int n = 0; n < p.columns; ++n) {
      b[static_cast<size_t>(k * p.columns + n)] =
          number(first, p.b_in_rows ? operand.down(n, k) : operand.along(n, k));
    }
  }
  return b;
}

bool same(const std::vector<float>& x, const std::vector<float>& y) {
  return std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

void begin(void* const* brought) {
  std::vector<Brought> lanes;
  for (int lane = 0; lane < kWarp; ++lane) {
    CHECK(brought[lane] != nullptr) << "a product of a warp group without lane " << lane;
    lanes.push_back(*static_cast<const Brought*>(brought[lane]));
  }
  const Brought& first = lanes.front();
  AsyncProducts::Product product{};
  product.columns = first.product.columns;
  product.adds = first.product.adds;
  const int warp = first.products->warp;
  product.a = left_of(lanes, warp);
  product.b = right_of(first);
  for (const Brought& lane : lanes) product.sums.push_back(lane.product.c);
  product.operands_are_the_same = [lanes, warp, a = product.a, b = product.b] {
    CHECK(same(a, left_of(lanes, warp)) && same(b, right_of(lanes.front())))
        << "an operand of a product changed before the product was waited for";
  };

  const auto of_these_sums = [&](const AsyncProducts::Product& other) {
    return other.sums.front() == product.sums.front();
  };
  AsyncProducts& pending = *first.products;
  bool follows = std::ranges::any_of(pending.open, of_these_sums);
  for (const auto& group : pending.groups)
    follows = follows || std::ranges::any_of(group, of_these_sums);
  if (!follows) {
    const auto each = static_cast<size_t>(product.columns / 2);
    for (float* sums : product.sums) {
      product.before.insert(product.before.end(), sums, sums + each);
      std::memset(sums, 0xff, each * sizeof(float));
    }
  }
  pending.open.push_back(std::move(product));
}

void carry_out(const AsyncProducts::Product& p) {
  p.operands_are_the_same();
  const auto each = static_cast<size_t>(p.columns / 2);
  for (size_t lane = 0; lane < p.sums.size(); ++lane) {
    float* sums = p.sums[lane];
    if (!p.before.empty()) std::copy_n(&p.before[lane * each], each, sums);
    if (!p.adds) std::fill_n(sums, each, 0.0f);
    const size_t g = lane / 4, t = lane % 4;
    for (size_t i = 0; i < each; ++i) {
      const size_t row = g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
      float sum = sums[i];
      for (size_t k = 0; k < kDepth; ++k)
        sum += p.a[row * kDepth + k] * p.b[k * static_cast<size_t>(p.columns) + column];
      sums[i] = sum;
    }
  }
}

struct Waiting {
  AsyncProducts* products;
  int pending;
};

void end(void* const* brought) {
  const Waiting& mine = *static_cast<const Waiting*>(brought[0]);
  auto& groups = mine.products->groups;
  while (groups.size() > static_cast<size_t>(mine.pending)) {
    for (const AsyncProducts::Product& product : groups.front()) carry_out(product);
    groups.pop_front();
  }
}

}  // namespace

void group_product(const GroupProduct& product) {
  CHECK(gpu_capability() == kHopper) << "products of warp groups on a GPU that has none";
  Brought mine{product, &async_products(), static_cast<const std::byte*>(dynamic_shared()),
               dynamic_shared_bytes()};
  warp_collective(0xffffffffu, begin, &mine);
}

void group_commit() {
  AsyncProducts* products = &async_products();
  warp_collective(
      0xffffffffu,
      [](void* const* brought) {
        auto* all = static_cast<AsyncProducts*>(brought[0]);
        all->groups.push_back(std::move(all->open));
        all->open.clear();
      },
      products);
}

void group_wait(int pending) {
  wait_for_stillness();
  Waiting mine{&async_products(), pending};
  warp_collective(0xffffffffu, end, &mine);
}

}  // namespace trireme::emulator
