// Equal shares: every step is some block's, once; parts of a tile meet; and products whose tiles
// are cut in any way are right, with the same bits whichever block comes last.
#include "kernels/cuda/device/shares.cuh"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

using cuda::CallTiles;
using cuda::equal_shares;
using cuda::ShareLimits;
using cuda::Shares;
using cuda::StepPlace;
using cuda::TileBlocks;

// How many parts tiles have at most; the blocks' walk is checked on the way.
int most_parts(const std::vector<CallTiles>& calls, const Shares& shares) {
  // Where the walk must be next: steps ascend within tiles, tiles within calls.
  StepPlace want{0, 0, 0};
  std::vector<std::vector<int>> blocks_of;  // of each tile
  std::set<int> slots, counters;
  for (int block = 0; block < shares.blocks; ++block) {
    const int first = first_step(shares, block);
    const int count = first_step(shares, block + 1) - first;
    EXPECT_GT(count, 0);
    StepPlace place = place_of_step(shares, first);
    for (int i = 0; i < count; ++i, next_step(shares, place)) {
      EXPECT_EQ(place.call, want.call);
      EXPECT_EQ(place.tile, want.tile);
      EXPECT_EQ(place.step, want.step);
      if (place.step == 0) blocks_of.emplace_back();
      if (i == 0 || place.step == 0) {  // a part begins
        const TileBlocks of = blocks_of_tile(shares, place);
        blocks_of.back().push_back(block);
        EXPECT_EQ(of.first, blocks_of.back().front());
        EXPECT_LE(block, of.last);
        if (of.parts() > 1) {
          EXPECT_TRUE(slots.insert(of.slot(block)).second) << "two parts have a slot";
          EXPECT_EQ(of.slot(block) - of.slot(of.first), block - of.first);
          EXPECT_LT(of.slot(block), slots_of(shares));
          if (block == of.first) {
            EXPECT_TRUE(counters.insert(of.first).second) << "two tiles have a counter";
          }
        }
      }
      if (++want.step == calls[static_cast<size_t>(want.call)].steps) {
        EXPECT_EQ(blocks_of_tile(shares, place).last, block);
        want.step = 0;
        if (++want.tile == calls[static_cast<size_t>(want.call)].tiles) {
          want.tile = 0;
          ++want.call;
        }
      }
    }
  }
  EXPECT_EQ(want.call, static_cast<int>(calls.size())) << "steps are left";
  size_t most = 0;
  for (const std::vector<int>& of : blocks_of) most = std::max(most, of.size());
  return static_cast<int>(most);
}

TEST(CudaShares, EveryStepIsDoneOnce) {
  const std::vector<std::vector<CallTiles>> launches = {
      {{1, 1}},
      {{32, 64}, {32, 64}, {32, 64}},
      {{3, 18}, {1, 1}, {2, 7}},
      {{7, 5}},
      {{1, 400}},
      {{1, 3}, {1, 3}, {1, 3}, {1, 3}, {1, 3}, {1, 3}, {1, 3}, {1, 3}}};
  for (const std::vector<CallTiles>& calls : launches) {
    int64_t all = 0;
    for (const CallTiles& c : calls) all += c.tiles * c.steps;
    for (const int64_t blocks : {1, 2, 3, 5, 8, 64, 264, 1000}) {
      for (const int64_t least : {1, 4, 8}) {
        for (const int64_t more : {0, 5}) {
          SCOPED_TRACE(testing::Message() << calls[0].tiles << " x " << calls[0].steps << ", "
                                          << blocks << " blocks, " << least << " steps");
          const Shares shares = equal_shares(calls, {blocks, least, 1000, more});
          EXPECT_LE(shares.blocks, blocks);
          EXPECT_LE(most_parts(calls, shares), shares.blocks);
          // Nobody does more than an even share, unless that were less than the least.
          EXPECT_LE(first_step(shares, 1), std::max((all + blocks - 1) / blocks + more, 2 * least));
        }
      }
    }
  }
}

TEST(CudaShares, Limits) {
  const auto shares = [](std::vector<CallTiles> calls, const ShareLimits& limits) {
    const Shares s = equal_shares(calls, limits);
    most_parts(calls, s);
    return s;
  };
  // RWKV-7's r, k and v on 132 multiprocessors: of 4 parts where 3 do not fit.
  const std::vector<CallTiles> rkv{{32, 64}, {32, 64}, {32, 64}};
  EXPECT_EQ(shares(rkv, {264, 8, 16, 8}).blocks, 264);
  EXPECT_EQ(first_step(shares(rkv, {264, 8, 16, 8}), 1), 24);
  EXPECT_EQ(most_parts(rkv, shares(rkv, {264, 8, 16, 8})), 4);
  // Few steps: shares of the least, but whole tiles stay with a block each.
  EXPECT_EQ(shares({{2, 64}}, {264, 8, 16, 0}).blocks, 16);
  EXPECT_EQ(shares({{100, 2}}, {264, 8, 16, 0}).blocks, 100);
  // A long tile: not more parts than one block can add up.
  EXPECT_EQ(shares({{1, 448}}, {264, 8, 16, 0}).each, 28);
  // 256 tiles on 264 places: no cut for two steps of 64.
  EXPECT_EQ(most_parts({{256, 64}}, shares({{256, 64}}, {264, 8, 16, 0})), 2);
  EXPECT_EQ(most_parts({{256, 64}}, shares({{256, 64}}, {264, 8, 16, 8})), 1);
  // Short tiles go out whole, three or four to a block.
  const Shares short_tiles = shares({{896, 4}}, {264, 2, 16, 4});
  EXPECT_EQ(short_tiles.blocks, 264);
  EXPECT_EQ(first_step(short_tiles, 1), 16);
  EXPECT_EQ(short_tiles.longer, 896 - 3 * 264);
  EXPECT_EQ(most_parts({{896, 4}}, short_tiles), 1);
}

struct Shape {
  int64_t inputs, outputs;
};

// A matrix on the device, and its numbers.
struct Numbers {
  Matrix matrix;
  std::vector<float> values;
};
Numbers numbers_of(Device& device, Random& random, const Shape& s, WeightFormat format) {
  if (!format.quantized()) {
    Weight w(device, random, s.outputs, s.inputs, format.dtype());
    return {std::move(w.matrix), std::move(w.rounded)};
  }
  const std::vector<float> values = random.normals(s.outputs * s.inputs);
  const QuantizedRows q =
      quantize(ConstTensorView(values.data(), s.outputs, s.inputs, DType::kF32), format).take();
  Matrix matrix = device.make_matrix(q.rows, q.cols, format).take();
  device.write_quantized_rows(matrix, 0, q.view());
  return {std::move(matrix), dequantized(q)};
}

// A launch of products of `rows` rows, in several orders of blocks: first one that is not
// ascending, while all memory of the device is new, so that no part is there before its block has
// run. The second call has the first columns of the first one's rows, where they are enough.
void expect_launch(int multiprocessors, int64_t rows, WeightFormat format,
                   const std::vector<Shape>& shapes, const CudaOptions& options = {}) {
  SCOPED_TRACE(testing::Message() << weight_format_name(format) << ", " << shapes[0].inputs
                                  << " inputs, " << multiprocessors << " multiprocessors, " << rows
                                  << " rows");
  emulator::set_multiprocessors(multiprocessors);
  const std::unique_ptr<Device> device = make_cuda_device(options).take();
  emulator::set_multiprocessors(4);
  Random random(6100);
  std::vector<Numbers> weights;
  std::vector<Mat> x, bias;
  for (const Shape& s : shapes) {
    weights.push_back(numbers_of(*device, random, s, format));
    x.push_back(Mat::random(*device, random, rows, s.inputs, 3, 0.1f));
    bias.push_back(Mat::parameter(*device, random, 1, s.outputs));
  }
  const bool shared = shapes[1].inputs <= shapes[0].inputs;
  const auto x_of = [&](size_t i) -> ConstTensorView {
    return i == 1 && shared ? x[0].view().col_range(0, shapes[1].inputs) : x[i].view();
  };
  for (int64_t row = 0; shared && row < rows; ++row) {
    for (int64_t col = 0; col < shapes[1].inputs; ++col) x[1].at(row, col) = x[0].at(row, col);
  }
  std::vector<std::vector<float>> first;
  for (const uint64_t seed : {1, 2, 0}) {
    std::vector<Mat> y;
    std::vector<LinearCall> calls;
    for (const Shape& s : shapes) y.emplace_back(*device, rows, s.outputs, 2);
    for (size_t i = 0; i < shapes.size(); ++i) {
      WeightView w = weights[i].matrix.view();
      if (i % 2 == 0) w.bias = bias[i].view();
      calls.push_back({x_of(i), w, y[i].view(), std::nullopt});
    }
    emulator::set_schedule(seed);
    device->ops().linears(calls);
    emulator::set_schedule(0);
    std::vector<std::vector<float>> all;
    for (Mat& each : y) {
      each.fetch();
      all.push_back(each.values());
    }
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << "seed " << seed;
  }
  const DType rows_dtype = format.quantized() ? DType::kF16 : format.dtype();
  for (size_t i = 0; i < shapes.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "call " << i);
    expect_products(
        first[i],
        products(rounded_to(rows_dtype, x[i].values()), weights[i].values, shapes[i].inputs,
                 i % 2 == 0 ? bias[i].values() : std::vector<float>{}),
        2e-6);
  }
}

// Tiles of 128 outputs, steps of 64 inputs; two blocks for each multiprocessor.
TEST(CudaShares, ProductsOfFewRows) {
  const std::vector<std::vector<Shape>> launches = {
      {{1100, 300}, {1100, 9}, {1100, 129}},         // 18 steps a tile, a short last tile and step
      {{640, 128}, {64, 700}, {8, 5}, {1000, 200}},  // few and many steps
      {{256, 40}, {256, 40}},                        // less than the least share for each block
      {{3000, 20}, {2999, 130}}};                    // tiles of many parts
  for (const std::vector<Shape>& shapes : launches) {
    expect_launch(1, 17, DType::kF16, shapes);
    expect_launch(3, 2, DType::kBF16, shapes);
    expect_launch(3, 64, DType::kBF16, shapes);
    expect_launch(40, 40, DType::kBF16, shapes);
  }
}

// Tiles of 128 or 256 outputs, one block for each multiprocessor.
TEST(CudaShares, ProductsOfFewRowsByWarpGroups) {
  CudaOptions groups;
  groups.skinny_groups = true;
  const std::vector<std::vector<Shape>> launches = {
      {{1100, 300}, {1100, 9}, {1100, 129}},         // 18 steps a tile, a short last tile and step
      {{640, 128}, {64, 1400}, {8, 5}, {1000, 70}},  // few and many steps
      {{200, 40}, {200, 600}},                       // less than the least share for each block
      {{3000, 20}, {2999, 130}}};                    // tiles of many parts
  for (const std::vector<Shape>& shapes : launches) {
    expect_launch(1, 17, DType::kF16, shapes, groups);
    expect_launch(3, 2, DType::kBF16, shapes, groups);
    expect_launch(3, 64, DType::kBF16, shapes, groups);
    expect_launch(40, 40, DType::kBF16, shapes, groups);
  }
}

// Tiles of 32 outputs and steps of 512 or 1024 inputs for one row and two; of 64 to 256 outputs for
// more.
TEST(CudaShares, QuantizedProductsOfFewRows) {
  const WeightFormat int4{WeightType::kInt4, 64}, int8{WeightType::kInt8, 0},
      fp8{WeightType::kFp8, 128};
  const std::vector<std::vector<Shape>> launches = {
      {{8000, 100}, {8000, 41}, {8000, 33}},           // cut, in the middle of calls too
      {{700, 300}, {40, 9}, {4100, 70}, {4101, 20}}};  // few and many steps
  for (const std::vector<Shape>& shapes : launches) {
    expect_launch(1, 1, int4, shapes);
    expect_launch(3, 2, {WeightType::kInt4, 32}, shapes);
    expect_launch(3, 1, int8, shapes);
    expect_launch(40, 2, fp8, shapes);
    expect_launch(3, 5, int4, shapes);
    expect_launch(40, 12, int8, shapes);
  }
  expect_launch(2, 30, fp8, launches[1]);
  expect_launch(5, 64, int4, launches[1]);
  expect_launch(1, 1, int8, {{512, 1200}, {512, 50}});  // many tiles to a block
}

}  // namespace
}  // namespace trireme::contract
