// Equal shares of a launch's work, whatever its shapes ("stream-K": Osama et al. 2023, arXiv
// 2301.03598).
//
// A tile, some outputs of a call, takes steps along the inputs. The steps of all tiles of all calls
// stand in one row, and each block does the same number of them, one after the other: it may begin
// and end in the middle of a tile, and go on from one call to the next.
//
//   tiles   |     0     |     1     |     2     |     of 6 steps
//   blocks  |   0   |   1   |   2   |   3   | 4 |     of 4 steps
//
// What a block does of a tile is a part. A tile of one part is finished where it is computed; the
// sums of others go to slots in memory, and the last of their blocks to be ready adds them up in
// the order of their steps (last_block.cuh), so that bits do not depend on which it is.
//
// Tiles that can be handed out whole, without making a block do many steps more than its even
// share, are not cut.
//
// INVARIANT: shares depend on shapes and on how many blocks there may be, on nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cuda/context.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/product.h"

namespace trireme::cuda {

struct Shares {
  int32_t first[kCallsMax + 1];   // step of each call, and the number of all steps
  int32_t tile_steps[kCallsMax];  // of a tile of each call
  int32_t blocks;
  int32_t each;          // steps of a block;
  int32_t longer, more;  // the first `longer` blocks have so many more
};

// Where a step is.
struct StepPlace {
  int call;
  int32_t tile;  // of the call
  int32_t step;  // of the tile
};

// Block b does steps [first_step(b), first_step(b + 1)).
__device__ __forceinline__ int32_t first_step(const Shares& s, int32_t block) {
  return block * s.each + min(block, s.longer) * s.more;
}
__device__ __forceinline__ int32_t block_of_step(const Shares& s, int32_t at) {
  const int32_t of_longer = s.longer * (s.each + s.more);
  return at < of_longer ? quotient(at, s.each + s.more)
                        : s.longer + quotient(at - of_longer, s.each);
}

__device__ __forceinline__ StepPlace place_of_step(const Shares& s, int32_t at) {
  StepPlace place{0, 0, 0};
  while (at >= s.first[place.call + 1]) ++place.call;
  at -= s.first[place.call];
  place.tile = quotient(at, s.tile_steps[place.call]);
  place.step = at - place.tile * s.tile_steps[place.call];
  return place;
}

// To the first step of the next tile. What comes after the last is the end: it is not looked at.
__device__ __forceinline__ void next_tile(const Shares& s, StepPlace& place) {
  const int32_t end = s.first[place.call] + ++place.tile * s.tile_steps[place.call];
  place.step = 0;
  if (end < s.first[place.call + 1]) return;
  ++place.call;
  place.tile = 0;
}

// To the next step, maybe of the next tile.
__device__ __forceinline__ void next_step(const Shares& s, StepPlace& place) {
  if (++place.step == s.tile_steps[place.call]) next_tile(s, place);
}

// The blocks that have a part of a tile: [first, last], one each. Only one tile can begin in a
// block and end in another, so its first block stands for a tile that is cut.
struct TileBlocks {
  int32_t first, last;

  __device__ __forceinline__ int32_t parts() const { return last - first + 1; }
  // Where the part of `block` lies: parts of a tile side by side, in their order. The slots of
  // the next tile that is cut begin with 2 last or more, which is beyond first + last.
  __device__ __forceinline__ int32_t slot(int32_t block) const { return first + block; }
};
__device__ __forceinline__ TileBlocks blocks_of_tile(const Shares& s, const StepPlace& place) {
  const int32_t steps = s.tile_steps[place.call];
  const int32_t begin = s.first[place.call] + place.tile * steps;
  return {block_of_step(s, begin), block_of_step(s, begin + steps - 1)};
}

// The tiles of a call, and the steps of each; at least one of both.
struct CallTiles {
  int64_t tiles, steps;
};

// How steps are shared out.
struct ShareLimits {
  int64_t blocks;      // at most so many
  int64_t steps;       // tiles are not cut for shares of fewer steps
  int64_t parts;       // a tile is at most so many shares long: one block adds them up
  int64_t steps_more;  // tiles are not cut where a block that has them whole has no more than this
};                     // beyond an even share

// REQUIRES: at most kCallsMax calls; fewer than 2^30 steps.
inline Shares equal_shares(std::span<const CallTiles> calls, const ShareLimits& limits) {
  Shares s{};
  int64_t all = 0, tiles = 0, longest = 1;
  bool alike = true;
  for (size_t i = 0; i < kCallsMax + size_t{1}; ++i) {
    s.first[i] = static_cast<int32_t>(all);
    if (i >= calls.size()) continue;
    s.tile_steps[i] = static_cast<int32_t>(calls[i].steps);
    all += calls[i].tiles * calls[i].steps;
    tiles += calls[i].tiles;
    longest = std::max(longest, calls[i].steps);
    alike = alike && calls[i].steps == calls[0].steps;
  }
  const int64_t even = ceil_div(all, limits.blocks);
  const bool whole = alike && ceil_div(tiles, limits.blocks) * longest <= even + limits.steps_more;
  const int64_t unit = whole ? longest : 1;
  const int64_t least = std::max(std::min(limits.steps, longest), ceil_div(longest, limits.parts));
  const int64_t blocks =
      whole ? std::min(tiles, limits.blocks) : std::clamp(all / least, int64_t{1}, limits.blocks);
  s.blocks = static_cast<int32_t>(blocks);
  s.each = static_cast<int32_t>(all / unit / blocks * unit);
  s.longer = static_cast<int32_t>(all / unit % blocks);
  s.more = static_cast<int32_t>(unit);
  return s;
}

// So many slots are enough.
inline int64_t slots_of(const Shares& s) { return 2 * int64_t{s.blocks}; }

// How many blocks run at once that need so much shared memory, of which a multiprocessor keeps 1 KB
// for each: one or two on each, where registers allow two.
inline int64_t blocks_at_once(const Context& context, bool two, size_t shared_bytes) {
  constexpr size_t kKept = 1024;
  two = two && 2 * (shared_bytes + kKept) <= context.shared_bytes_max() + kKept;
  return int64_t{context.multiprocessors()} * (two ? 2 : 1);
}

}  // namespace trireme::cuda
