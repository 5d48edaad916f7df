// Which lines and positions blocks of attention take: each line of a launch's runs once, each
// position of a tile once. The functions are plain C++ here; no kernel runs.
#include "kernels/cuda/device/tiles.cuh"

#include <map>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"

namespace trireme::cuda {
namespace {

struct Step {
  std::vector<int32_t> offsets = {0}, positions;
  AttendArgs args{};
};

// Runs of up to `rows_max` rows, some of them empty, and rows of no sequence behind them.
Step random_step(uint64_t seed, int32_t sequences, int32_t rows_max, int32_t group,
                 int32_t window) {
  Step step;
  uint32_t draws = 0;
  const auto integer = [&](int32_t end) {
    return static_cast<int32_t>(uniform(seed, 1, draws++) * end);
  };
  for (int32_t s = 0; s < sequences; ++s) {
    int32_t position = integer(900);
    for (int32_t t = integer(rows_max + 1); t > 0; --t) {
      step.positions.push_back(position);
      position += 1 + (integer(4) == 0 ? integer(70) : 0);
    }
    step.offsets.push_back(static_cast<int32_t>(step.positions.size()));
  }
  step.positions.resize(step.positions.size() + 3, -1);
  step.args.rows = {step.offsets.data(), step.positions.data(), sequences,
                    static_cast<int32_t>(step.positions.size())};
  step.args.group = group;
  step.args.heads = 2 * group;
  step.args.cache.kv_heads = 2;
  step.args.cache.window_tokens = window;
  return step;
}

void expect_lines_once(const Step& step, const Tiling& tiling) {
  const AttendArgs& args = step.args;
  std::map<std::pair<int32_t, int32_t>, int> seen;  // (row, head of the first group): tiles
  std::set<int64_t> partials;
  for (int32_t number = 0; number < tiling.tiles; ++number) {
    LineTile tile;
    if (!find_tile(args, tiling, number, tile)) continue;
    ASSERT_GT(tile.lines, 0);
    ASSERT_LE(tile.lines, tiling.lines);
    for (int32_t line = 0; line < tile.lines; ++line) {
      const int32_t row = tile.row(line, args.group), head = tile.head(line, args.group, 0);
      ASSERT_GE(row, step.offsets[static_cast<size_t>(tile.sequence)]);
      ASSERT_LT(row, step.offsets[static_cast<size_t>(tile.sequence) + 1]);
      ++seen[{row, head}];
      for (int32_t kv_head : {0, 1}) {
        for (int part = 0; part < tiling.parts; ++part)
          EXPECT_TRUE(
              partials.insert(partial_index(args, tiling, tile, line, kv_head, part)).second);
      }
    }
  }
  const dim3 grid = line_grid(args, tiling);
  EXPECT_TRUE(partials.empty() || *partials.rbegin() < int64_t{grid.x} * grid.y * tiling.parts);
  for (int32_t s = 0; s < args.rows.sequences; ++s) {
    const int32_t first = step.offsets[static_cast<size_t>(s)];
    const int32_t end = step.offsets[static_cast<size_t>(s) + 1];
    for (int32_t row = first; row < end; ++row) {
      for (int32_t head = 0; head < args.group; ++head) {
        EXPECT_EQ((seen[{row, head}]), in_launch(tiling.order, (end - first) * args.group) ? 1 : 0)
            << "row " << row << " head " << head;
      }
    }
  }
  // The merge finds the same lines in the same tiles.
  size_t merged = 0;
  for (unsigned x = 0; x < grid.x; ++x) {
    for (unsigned y = 0; y < grid.y; ++y) {
      LineOfTile found;
      if (!find_line(args, tiling, static_cast<int32_t>(x), static_cast<int32_t>(y), found))
        continue;
      ++merged;
      EXPECT_EQ(partial_index(args, tiling, found.tile, found.line, found.kv_head, 0),
                (int64_t{x} * grid.y + y) * tiling.parts);
    }
  }
  EXPECT_EQ(merged * static_cast<size_t>(tiling.parts), partials.size());
}

TEST(AttentionTiles, HoldEachLineOnce) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    for (const int32_t group : {1, 4, 7, 16, 71}) {
      const auto sequences = static_cast<int32_t>(1 + seed % 6);
      const int32_t rows_max = seed % 3 == 0 ? 60 : 5;
      const Step step = random_step(seed, sequences, rows_max, group, 0);
      SCOPED_TRACE(testing::Message() << "seed " << seed << " group " << group);
      for (const Tiles order :
           {Tiles::kOfRows, Tiles::kOfShortRuns, Tiles::kOfLongRuns, Tiles::kOfAllRuns}) {
        for (const int32_t lines : {16, 64, 128}) {
          if (order == Tiles::kOfShortRuns && lines != 16) continue;
          Tiling tiling;
          tiling.order = order;
          tiling.lines = lines;
          tiling.parts = 3;
          tiling.tiles = count_tiles(step.args.rows.rows, sequences, group, order, lines);
          expect_lines_once(step, tiling);
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

// Parts follow one another without a gap, and all that are in use hold something.
TEST(AttentionTiles, SharesHoldEachPositionOnce) {
  for (int32_t begin : {0, 37}) {
    for (int32_t positions = 1; positions < 3000; positions += 1 + positions / 7) {
      for (int32_t parts : {1, 2, 7, 33}) {
        const int32_t grains = (positions + kPartGrain - 1) / kPartGrain;
        LineTile tile{};
        tile.begin = begin;
        tile.end = begin + positions;
        Tiling tiling;
        tiling.parts = parts;
        tiling.part_positions_min = 256;
        tiling.grains_apart = 16;
        if (parts == 33 && grains <= 16) {
          EXPECT_EQ(share_of(tile, tiling, 0).used, grains);
        }
        int32_t next = begin;
        for (int part = 0; part < parts; ++part) {
          const Share share = share_of(tile, tiling, part);
          if (part >= share.used) {
            EXPECT_GE(share.begin, share.end);
            continue;
          }
          EXPECT_EQ(share.begin, next);
          EXPECT_GT(share.end, share.begin);
          next = share.end;
        }
        EXPECT_EQ(next, tile.end) << positions << " positions in " << parts;
      }
    }
  }
}

// Where no other row is near, a position is read if and only if its row's window holds it.
TEST(AttentionTiles, PositionsThatNoRowSeesAreNotRead) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const int32_t window = 1 + static_cast<int32_t>(seed) * 3;
    Step step = random_step(seed, 1, 20, 2, window);
    if (step.offsets[1] == 0) continue;
    std::byte block{};
    const std::vector<int32_t> table(4000, 0);
    const int32_t first_block = 0;
    step.args.cache.blocks = &block;
    step.args.cache.block_table = table.data();
    step.args.cache.first_block = &first_block;
    step.args.cache.block_tokens = 1;
    Tiling tiling;
    tiling.order = Tiles::kOfAllRuns;
    tiling.lines = 128;
    LineTile tile;
    ASSERT_TRUE(find_tile(step.args, tiling, 0, tile));
    const TileKeys<float> keys(step.args, tile, 0, tile.end);
    for (int32_t position = tile.begin; position < tile.end + 5; ++position) {
      bool seen = false;
      for (int32_t t = 0; t < step.offsets[1]; ++t) {
        const int32_t row = step.positions[static_cast<size_t>(t)];
        seen = seen || (position <= row && position > row - window);
      }
      EXPECT_EQ(keys.key(position) != nullptr, seen) << "seed " << seed << " position " << position;
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
