// Which kernels compute an attend(), and into how many blocks its work is cut.
//
// A pure function of what the host knows: counts of rows, sequences and heads, not lengths, which
// are on the device and change when a recorded step is replayed.
//
// A query head's row of q is a *line*. The lines of a run are numbered row by row, heads of one kv
// head's group within a row: line l is row l / group, head l % group of the group. They read the
// same keys and values, so kernels take them in tiles, whatever the group is.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace trireme::cuda {

enum class AttentionKernel : uint8_t {
  kPlain,    // any shape: a block for each line
  kFma,      // f32 caches
  kDecode,   // tensor cores, exact to some 2^-18; bound by memory
  kPrefill,  // tensor cores, q and weights rounded to the cache's format; bound by arithmetic
  kHopper,   // the same with products of warp groups
};

// A run of at most so many lines is short. With more, the prefill kernel reads the cache less
// often.
inline constexpr int32_t kShortRunLines = 32;

// Which runs a launch computes, and how their tiles are numbered.
enum class Tiles : uint8_t {
  kOfRows,       // all runs, each row's tiles apart: where no run has a second row
  kOfShortRuns,  // as many for each sequence as a short run may have
  kOfLongRuns,   // by offsets: find_tile of device/tiles.cuh
  kOfAllRuns,    // likewise
};

// The grid of a launch: [tiles, kv_heads, parts].
struct Tiling {
  Tiles order = Tiles::kOfAllRuns;
  int32_t lines = 0;               // of a tile
  int32_t tiles = 0;               // at most; those that do not exist end at once
  int32_t parts = 1;               // into which the positions of a tile are cut, at most
  int32_t part_positions_min = 0;  // of a part that is not the last; a multiple of kPartGrain
  int32_t grains_apart = 0;        // but tiles of up to so many grains are cut into single ones
  // The last block of a tile to end joins the parts of all its blocks; otherwise attend_merge does.
  bool joins = false;
};

// Parts begin at multiples of this after the first position that a tile sees.
inline constexpr int32_t kPartGrain = 64;

// A tile's last block joins partial results of at most so many numbers: one multiprocessor reads
// them, in 5 us, where attend_merge has all of them and costs 3.
inline constexpr int64_t kJoinedMax = int64_t{512} * 128;

struct AttentionLaunch {
  AttentionKernel kernel = AttentionKernel::kPlain;
  Tiling tiling;
  bool at_once = false;  // the GPU holds all its blocks at a time, by their shared memory
};

// What a block of a Hopper may have.
inline constexpr int64_t kHopperSharedBytes = int64_t{227} << 10;

struct AttentionShape {
  int32_t rows = 0;
  int32_t sequences = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  DType dtype = DType::kF32;
  bool aligned = true;  // blocks of the cache begin at multiples of 16 bytes
  int32_t multiprocessors = 0;
  bool warp_groups = false;                       // Context::warp_groups()
  int64_t shared_bytes_max = kHopperSharedBytes;  // Context::shared_bytes_max()
};

struct AttentionChoice {
  AttentionLaunch launches[2];
  int32_t count = 0;  // of launches
};

// REQUIRES: rows > 0.
AttentionChoice choose_attention(const AttentionShape& shape);

// At most so many tiles: runs are known to the device alone. Exact for rows.
int32_t count_tiles(int32_t rows, int32_t sequences, int32_t group, Tiles order, int32_t lines);

// Into how many parts each of `blocks` blocks is to be cut where `slots` run at a time: 1 unless
// cutting saves a tenth of the time, since parts must be merged; then the fewest that take at most
// 5 percent longer than the best number up to `parts_max`.
int32_t choose_parts(int64_t blocks, int64_t slots, int32_t parts_max);

}  // namespace trireme::cuda
