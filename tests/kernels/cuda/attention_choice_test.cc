// Which kernels an attend() gets, and into how many blocks its work is cut: from counts alone.
#include "kernels/cuda/attention_choice.h"

#include <gtest/gtest.h>

namespace trireme::cuda {
namespace {

// An 8B model with grouped queries on a Hopper.
AttentionShape shape_of(int32_t rows, int32_t sequences) {
  AttentionShape shape;
  shape.rows = rows;
  shape.sequences = sequences;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_dim = 128;
  shape.dtype = DType::kBF16;
  shape.multiprocessors = 132;
  return shape;
}

AttentionLaunch only(const AttentionShape& shape) {
  const AttentionChoice choice = choose_attention(shape);
  EXPECT_EQ(choice.count, 1);
  return choice.launches[0];
}

// One sequence, whatever its length: as many parts as fill the multiprocessors once.
TEST(AttentionChoice, DecodeOfOneSequenceFillsTheDevice) {
  const AttentionLaunch launch = only(shape_of(1, 1));
  EXPECT_EQ(launch.kernel, AttentionKernel::kDecode);
  EXPECT_EQ(launch.tiling.tiles, 1);
  EXPECT_EQ(launch.tiling.parts, 32);  // 8 kv heads, two blocks on each of 132 multiprocessors
  // Up to 2048 positions they are at most 16, one block on each; up to 1024 they have 64 each.
  EXPECT_EQ(launch.tiling.part_positions_min, 128);
  EXPECT_EQ(launch.tiling.grains_apart, 16);
}

// A multiprocessor with less shared memory holds fewer blocks at a time, one at least.
TEST(AttentionChoice, PartsAreAsManyAsSharedMemoryHasRoomFor) {
  AttentionShape shape = shape_of(1, 1);
  shape.multiprocessors = 108;
  shape.shared_bytes_max = 163 << 10;
  EXPECT_EQ(only(shape).tiling.parts, 13) << "8 kv heads, a block on each of 108";
  shape.multiprocessors = 128;
  shape.shared_bytes_max = 99 << 10;
  EXPECT_EQ(only(shape).tiling.parts, 16);
}

// A tile's last block joins what it can read in a few microseconds.
TEST(AttentionChoice, FewPartialResultsAreJoinedByTheLastBlock) {
  EXPECT_TRUE(only(shape_of(1, 1)).tiling.joins) << "4 lines, 32 parts";
  EXPECT_TRUE(only(shape_of(4, 1)).tiling.joins) << "16 lines, 32 parts";
  EXPECT_TRUE(only(shape_of(16, 16)).tiling.joins);
  EXPECT_FALSE(only(shape_of(64, 64)).tiling.joins) << "one part";
  AttentionShape shape = shape_of(1, 1);
  shape.kv_heads = 2;
  EXPECT_FALSE(only(shape).tiling.joins) << "16 lines, 128 parts";
  shape = shape_of(128, 1);
  EXPECT_GT(only(shape).tiling.parts, 1);
  EXPECT_FALSE(only(shape).tiling.joins) << "prefill";
  shape = shape_of(1, 1);
  shape.dtype = DType::kF32;
  EXPECT_FALSE(only(shape).tiling.joins);
}

// A row of each sequence: a tile for each row, and no more.
TEST(AttentionChoice, DecodeOfManySequencesHasATilePerRow) {
  for (const int32_t rows : {2, 31, 64, 500}) {
    const AttentionLaunch launch = only(shape_of(rows, rows));
    EXPECT_EQ(launch.kernel, AttentionKernel::kDecode) << rows;
    EXPECT_EQ(launch.tiling.order, Tiles::kOfRows) << rows;
    EXPECT_EQ(launch.tiling.tiles, rows);
  }
  EXPECT_EQ(only(shape_of(500, 500)).tiling.parts, 1);
}

// Heads of a group beyond 16 take several tiles of a row.
TEST(AttentionChoice, LargeGroupsTakeSeveralTiles) {
  AttentionShape shape = shape_of(3, 3);
  shape.heads = 71;
  shape.kv_heads = 1;
  EXPECT_EQ(only(shape).tiling.tiles, 15);
}

// A prompt alone: tiles of 128 lines, four heads share a row's.
TEST(AttentionChoice, OnePromptIsPrefilled) {
  const AttentionLaunch launch = only(shape_of(8192, 1));
  EXPECT_EQ(launch.kernel, AttentionKernel::kPrefill);
  EXPECT_EQ(launch.tiling.lines, 128);
  EXPECT_EQ(launch.tiling.tiles, 8192 * 4 / 128 + 1);
  EXPECT_EQ(launch.tiling.parts, 1);
  EXPECT_EQ(only(shape_of(8, 1)).kernel, AttentionKernel::kDecode) << "32 lines are short";
  EXPECT_EQ(only(shape_of(9, 1)).kernel, AttentionKernel::kPrefill);
  AttentionShape wide = shape_of(512, 1);
  wide.head_dim = 256;
  EXPECT_EQ(only(wide).tiling.lines, 64);
}

// The host does not know which run is a prompt's and which a single token's.
TEST(AttentionChoice, AMixedStepIsTwoLaunches) {
  const AttentionChoice choice = choose_attention(shape_of(600, 40));
  ASSERT_EQ(choice.count, 2);
  EXPECT_EQ(choice.launches[0].kernel, AttentionKernel::kPrefill);
  EXPECT_EQ(choice.launches[0].tiling.order, Tiles::kOfLongRuns);
  EXPECT_EQ(choice.launches[0].tiling.tiles, 600 * 4 / 128 + 40);
  EXPECT_EQ(choice.launches[1].kernel, AttentionKernel::kDecode);
  EXPECT_EQ(choice.launches[1].tiling.order, Tiles::kOfShortRuns);
  EXPECT_EQ(choice.launches[1].tiling.tiles, 80);
  EXPECT_EQ(choice.launches[1].tiling.parts, 4) << "as 40 sequences that decode";
}

TEST(AttentionChoice, OtherShapesTakeOtherKernels) {
  AttentionShape shape = shape_of(8192, 1);
  shape.dtype = DType::kF32;
  EXPECT_EQ(only(shape).kernel, AttentionKernel::kFma);
  shape.head_dim = 18;
  EXPECT_EQ(only(shape).kernel, AttentionKernel::kPlain);
  shape = shape_of(1, 1);
  shape.head_dim = 48;
  EXPECT_EQ(only(shape).kernel, AttentionKernel::kPlain);
  shape = shape_of(1, 1);
  shape.aligned = false;
  EXPECT_EQ(only(shape).kernel, AttentionKernel::kPlain);
}

// The last blocks of a launch should not wait for a few that began late.
TEST(AttentionChoice, PartsEvenOutTheLastWave) {
  EXPECT_EQ(choose_parts(264, 264, 64), 1);
  EXPECT_EQ(choose_parts(320, 264, 64), 4);  // five waves of quarters, not two of wholes
  EXPECT_EQ(choose_parts(8, 264, 64), 32);
  EXPECT_EQ(choose_parts(8, 264, 16), 16);
  EXPECT_EQ(choose_parts(10000, 264, 64), 1);
}

}  // namespace
}  // namespace trireme::cuda
