// Which lines and positions a block of an attention kernel takes (see attention_choice.h for lines
// and tiles): found on the device, from offsets and positions, so that a recorded step finds others
// when it is replayed.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/cache.cuh"
#include "kernels/cuda/ops/attention.h"

namespace trireme::cuda {

// Scores and weights are powers of two: q is multiplied by this too.
inline constexpr float kLogTwoE = 1.4426950408889634f;
// Before any score. Finite, so that a line that sees nothing of a tile makes no NaN.
inline constexpr float kNoScore = -1e30f;

struct LineTile {
  int32_t sequence;
  int32_t run_row;     // the first row of the run
  int32_t first_line;  // of the run
  int32_t lines;
  int32_t first_row, last_row;            // that hold its lines
  int32_t first_position, last_position;  // of these rows
  int32_t begin, end;                     // the positions that any of its lines sees lie inside

  __device__ int32_t row(int32_t line, int32_t group) const {
    return run_row + quotient(first_line + line, group);
  }
  __device__ int32_t head(int32_t line, int32_t group, int32_t kv_head) const {
    const int32_t l = first_line + line;
    return kv_head * group + l - quotient(l, group) * group;
  }
};

// The rest of a tile whose sequence and lines are known.
__device__ __forceinline__ void see_positions(const AttendArgs& args, LineTile& tile) {
  tile.first_row = tile.row(0, args.group);
  tile.last_row = tile.row(tile.lines - 1, args.group);
  tile.first_position = args.rows.positions[tile.first_row];
  tile.last_position = args.rows.positions[tile.last_row];
  const int32_t window = args.cache.window_tokens;
  tile.begin = window > 0 ? max(0, tile.first_position - window + 1) : 0;
  tile.end = tile.last_position + 1;
}

__device__ __forceinline__ bool in_launch(Tiles order, int32_t lines_of_run) {
  if (order == Tiles::kOfShortRuns) return lines_of_run <= kShortRunLines;
  if (order == Tiles::kOfLongRuns) return lines_of_run > kShortRunLines;
  return true;
}

// Tile number `index` of the run of `sequence`; false where there is none in this launch.
__device__ __forceinline__ bool tile_of_run(const AttendArgs& args, const Tiling& tiling,
                                            int sequence, int32_t index, LineTile& tile) {
  tile.sequence = sequence;
  tile.run_row = args.rows.offsets[sequence];
  const int32_t all = (args.rows.offsets[sequence + 1] - tile.run_row) * args.group;
  tile.first_line = index * tiling.lines;
  if (tile.first_line >= all || !in_launch(tiling.order, all)) return false;
  tile.lines = min(tiling.lines, all - tile.first_line);
  see_positions(args, tile);
  return true;
}

// Tile number `index` of a row; false for a row of no sequence.
__device__ __forceinline__ bool tile_of_row(const AttendArgs& args, const Tiling& tiling,
                                            int32_t row, int32_t index, LineTile& tile) {
  tile.sequence = sequence_of(args.rows, row);
  if (tile.sequence < 0) return false;
  tile.run_row = args.rows.offsets[tile.sequence];
  const int32_t before = index * tiling.lines;
  tile.first_line = (row - tile.run_row) * args.group + before;
  tile.lines = min(tiling.lines, args.group - before);
  see_positions(args, tile);
  return true;
}

// By offsets: the tiles of a run are numbered from here to where those of the next run begin, at
// least n / tiling.lines + 1 later for a run of n lines: enough for all of them.
__device__ __forceinline__ int32_t first_tile_of_run(const AttendArgs& args, const Tiling& tiling,
                                                     int sequence) {
  return quotient(args.rows.offsets[sequence] * args.group, tiling.lines) + sequence;
}

// The tile of a number below tiling.tiles; false where there is none.
__device__ __forceinline__ bool find_tile(const AttendArgs& args, const Tiling& tiling,
                                          int32_t number, LineTile& tile) {
  if (tiling.order == Tiles::kOfRows) {
    const int32_t each = quotient(args.group + tiling.lines - 1, tiling.lines);
    const int32_t row = quotient(number, each);
    return tile_of_row(args, tiling, row, number - row * each, tile);
  }
  if (tiling.order == Tiles::kOfShortRuns) {
    const int32_t each = quotient(kShortRunLines, tiling.lines);
    const int32_t sequence = quotient(number, each);
    return tile_of_run(args, tiling, sequence, number - sequence * each, tile);
  }
  int low = 0, high = args.rows.sequences;  // first_tile(low) <= number < first_tile(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (first_tile_of_run(args, tiling, middle) <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return tile_of_run(args, tiling, low, number - first_tile_of_run(args, tiling, low), tile);
}

// The lines of a launch as attend_merge and the partials number them: [rows, heads], or, of short
// runs, [sequences * kShortRunLines, kv heads], for which no row of a prompt beside them needs
// room.
struct LineOfTile {
  LineTile tile;
  int32_t line, kv_head;
};
__device__ __forceinline__ bool find_line(const AttendArgs& args, const Tiling& tiling, int32_t x,
                                          int32_t y, LineOfTile& found) {
  bool there = false;
  int32_t line = 0;  // of the run
  if (tiling.order == Tiles::kOfShortRuns) {
    const int32_t sequence = x / kShortRunLines;
    line = x % kShortRunLines;
    found.kv_head = y;
    there = tile_of_run(args, tiling, sequence, quotient(line, tiling.lines), found.tile);
  } else {
    const int sequence = sequence_of(args.rows, x);
    if (sequence < 0) return false;
    found.kv_head = quotient(y, args.group);
    const int32_t head = y - found.kv_head * args.group;
    line = (x - args.rows.offsets[sequence]) * args.group + head;
    there = tiling.order == Tiles::kOfRows
                ? tile_of_row(args, tiling, x, quotient(head, tiling.lines), found.tile)
                : tile_of_run(args, tiling, sequence, quotient(line, tiling.lines), found.tile);
  }
  found.line = line - found.tile.first_line;
  return there && found.line < found.tile.lines;
}
__device__ __forceinline__ int64_t partial_index(const AttendArgs& args, const Tiling& tiling,
                                                 const LineTile& tile, int32_t line,
                                                 int32_t kv_head, int part) {
  const int64_t index =
      tiling.order == Tiles::kOfShortRuns
          ? (int64_t{tile.sequence} * kShortRunLines + tile.first_line + line) *
                    args.cache.kv_heads +
                kv_head
          : int64_t{tile.row(line, args.group)} * args.heads + tile.head(line, args.group, kv_head);
  return index * tiling.parts + part;
}

// The positions of one part of a tile: equal shares, of whole grains. `used` parts have any; where
// it is one, there is nothing to merge.
struct Share {
  int32_t begin, end, used;
};
__device__ __forceinline__ Share share_of(const LineTile& tile, const Tiling& tiling, int part) {
  const int32_t grains = (tile.end - tile.begin + kPartGrain - 1) / kPartGrain;
  const int32_t least = grains <= tiling.grains_apart ? 1 : tiling.part_positions_min / kPartGrain;
  const int32_t each = max(least, (grains + tiling.parts - 1) / tiling.parts);
  Share share;
  share.used = (grains + each - 1) / each;
  share.begin = tile.begin + min(part * each, grains) * kPartGrain;
  share.end = min(tile.end, share.begin + each * kPartGrain);
  return share;
}

// The tile of that number and the share of part blockIdx.z; false where there is nothing to do.
__device__ __forceinline__ bool find_work(const AttendArgs& args, const Tiling& tiling,
                                          int32_t number, LineTile& tile, Share& share) {
  if (!find_tile(args, tiling, number, tile)) return false;
  share = share_of(tile, tiling, static_cast<int>(blockIdx.z));
  return share.begin < share.end;
}

// Where the keys of a tile's positions lie.
template <class T>
struct TileKeys {
  SequenceCache cache;
  const int32_t* positions;  // of rows first_row to last_row
  int32_t rows;
  int32_t window;
  int32_t head;
  int32_t end;
  bool gaps;  // between the windows of its rows there may be positions that none of them sees

  __device__ TileKeys(const AttendArgs& args, const LineTile& tile, int kv_head, int32_t share_end)
      : cache(sequence_cache(args.cache, tile.sequence)),
        positions(args.rows.positions + tile.first_row),
        rows(tile.last_row - tile.first_row + 1),
        window(args.cache.window_tokens),
        head(kv_head),
        end(share_end),
        gaps(window > 0 && tile.last_position - tile.first_position >= rows) {}

  // Null where no line sees the position: what lies there may never have been written, or be NaN.
  __device__ const T* key(int32_t position) const {
    if (position >= end || (gaps && !seen(position))) return nullptr;
    return cache.key<T>(position, head);
  }

 private:
  // The first row at or after the position sees it, or none does.
  __device__ bool seen(int32_t position) const {
    int low = 0, high = rows - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (positions[middle] < position) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return positions[low] - window < position;
  }
};

}  // namespace trireme::cuda
