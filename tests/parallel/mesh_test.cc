// Ranges cover what they cut exactly once; coordinates and ranks are each other's inverse.
#include "parallel/mesh.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

// How often each of [0, extent) is in one of the ranges; the ranges must ascend.
std::vector<int> cover(int64_t extent, const std::vector<Range>& ranges) {
  std::vector<int> times(static_cast<size_t>(extent), 0);
  int64_t next = 0;
  for (const Range& r : ranges) {
    EXPECT_EQ(r.first, next);
    next = r.end();
    for (int64_t i = r.first; i < r.end(); ++i) ++times[static_cast<size_t>(i)];
  }
  return times;
}

TEST(Mesh, RanksAndCoordinates) {
  for (int stages = 1; stages <= 4; ++stages) {
    for (int shards = 1; shards <= 4; ++shards) {
      const Mesh mesh{stages, shards};
      for (int rank = 0; rank < mesh.size(); ++rank) {
        const Coordinate c = mesh.coordinate(rank);
        EXPECT_EQ(mesh.rank(c), rank);
        EXPECT_TRUE(c.stage < stages && c.shard < shards);
      }
      if (shards > 1) {
        EXPECT_EQ(mesh.coordinate(1).stage, 0) << "shards are neighbours";
      }
    }
  }
}

TEST(ShardRange, CoversOnceAndEvenly) {
  for (int64_t extent = 0; extent < 40; ++extent) {
    for (int count = 1; count <= 12; ++count) {
      std::vector<Range> parts;
      for (int i = 0; i < count; ++i) parts.push_back(shard_range(extent, i, count));
      EXPECT_EQ(cover(extent, parts), std::vector<int>(static_cast<size_t>(extent), 1));
      for (const Range& part : parts) {
        EXPECT_GE(part.count, extent / count);
        EXPECT_LE(part.count, (extent + count - 1) / count);
      }
    }
  }
}

// Of a width that may be cut anywhere: all of it, in order, at multiples of 32 wherever each shard
// gets some.
TEST(Shard, WidthsAreCutAtMultiplesOf32) {
  for (int64_t width : {1, 31, 64, 65, 100, 352, 4864, 11008, 29568}) {
    for (int count : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int i = 0; i < count; ++i) {
        const Range part = shard_width(width, i, count);
        EXPECT_EQ(part.first, next) << width << " in " << count;
        if (width >= 32 * count) {
          EXPECT_EQ(part.first % 32, 0);
          EXPECT_GT(part.count, 0);
          EXPECT_LE(part.count, (width + 31) / 32 / count * 32 + 32);
        }
        next = part.end();
      }
      EXPECT_EQ(next, width);
    }
  }
}

TEST(ShardUnits, NeverCutsAUnit) {
  for (int64_t unit : {1, 3, 8}) {
    for (int count = 1; count <= 7; ++count) {
      std::vector<Range> parts;
      for (int i = 0; i < count; ++i) parts.push_back(shard_units(14 * unit, unit, i, count));
      EXPECT_EQ(cover(14 * unit, parts), std::vector<int>(static_cast<size_t>(14 * unit), 1));
      for (const Range& part : parts) EXPECT_EQ(part.first % unit, 0);
    }
  }
  EXPECT_DEATH((void)shard_units(10, 3, 0, 2), "extent % unit");
  EXPECT_DEATH((void)shard_range(10, 2, 2), "index < count");
}

TEST(VocabRange, CoversOnceWithEqualParts) {
  for (int64_t vocab = 1; vocab < 60; ++vocab) {
    for (int count = 1; count <= 9; ++count) {
      const int64_t part = vocab_range(vocab, 0, count).count;
      std::vector<Range> real;
      for (int i = 0; i < count; ++i) {
        Range r = vocab_range(vocab, i, count);
        EXPECT_EQ(r.count, part) << "an all-gather needs equal parts";
        r.first = std::min(r.first, vocab);
        r.count = std::min(r.count, vocab - r.first);  // without the padding
        real.push_back(r);
      }
      EXPECT_EQ(cover(vocab, real), std::vector<int>(static_cast<size_t>(vocab), 1));
      EXPECT_LT(part * count - vocab, count) << "no more padding than needed";
    }
  }
}

}  // namespace
}  // namespace trireme
