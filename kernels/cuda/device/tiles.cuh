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

__device__ __forceinline__ bool in_launch(Runs runs, int32_t lines_of_run) {
  return runs == Runs::kAll || (runs == Runs::kShort) == (lines_of_run <= kShortRunLines);
}

// Tile number `index` of the run of `sequence`; false where there is none in this launch.
__device__ __forceinline__ bool tile_of_run(const AttendArgs& args, const Tiling& tiling,
                                            int sequence, int32_t index, LineTile& tile) {
  tile.sequence = sequence;
  tile.run_row = args.rows.offsets[sequence];
  const int32_t all = (args.rows.offsets[sequence + 1] - tile.run_row) * args.group;
  tile.first_line = index * tiling.lines;
  if (tile.first_line >= all || !in_launch(tiling.runs, all)) return false;
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

// The tile of slot `slot` of the grid; false where there is none. The slots of a run begin at
// slot_of_run() and end where those of the next one begin, at least n / tiling.lines + 1 later for
// a run of n lines: enough for all its tiles.
__device__ __forceinline__ int32_t slot_of_run(const AttendArgs& args, const Tiling& tiling,
                                               int sequence) {
  return quotient(args.rows.offsets[sequence] * args.group, tiling.lines) + sequence;
}
__device__ __forceinline__ bool find_tile(const AttendArgs& args, const Tiling& tiling,
                                          int32_t slot, LineTile& tile) {
  if (tiling.rows_apart) {
    const int32_t each = (args.group + tiling.lines - 1) / tiling.lines;
    return tile_of_row(args, tiling, slot / each, slot % each, tile);
  }
  int low = 0, high = args.rows.sequences;  // slot_of_run(low) <= slot < slot_of_run(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (slot_of_run(args, tiling, middle) <= slot) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return tile_of_run(args, tiling, low, slot - slot_of_run(args, tiling, low), tile);
}

// The tile that holds the line of `row` and head `head_of_group`: what find_tile found for it.
__device__ __forceinline__ bool tile_with(const AttendArgs& args, const Tiling& tiling, int32_t row,
                                          int32_t head_of_group, LineTile& tile) {
  if (tiling.rows_apart) return tile_of_row(args, tiling, row, head_of_group / tiling.lines, tile);
  const int sequence = sequence_of(args.rows, row);
  if (sequence < 0) return false;
  const int32_t line = (row - args.rows.offsets[sequence]) * args.group + head_of_group;
  return tile_of_run(args, tiling, sequence, line / tiling.lines, tile);
}

// The positions of one part of a tile: equal shares, of whole grains. `used` parts have any; where
// it is one, there is nothing to merge.
struct Share {
  int32_t begin, end, used;
};
__device__ __forceinline__ Share share_of(const LineTile& tile, const Tiling& tiling, int part) {
  const int32_t grains = (tile.end - tile.begin + kPartGrain - 1) / kPartGrain;
  const int32_t each =
      max(tiling.part_positions_min / kPartGrain, (grains + tiling.parts - 1) / tiling.parts);
  Share share;
  share.used = (grains + each - 1) / each;
  share.begin = tile.begin + min(part * each, grains) * kPartGrain;
  share.end = min(tile.end, share.begin + each * kPartGrain);
  return share;
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

// Where the result of a line goes: the output, or a part's place among the partials.
__device__ __forceinline__ int64_t partial_index(const AttendArgs& args, const Tiling& tiling,
                                                 int32_t row, int32_t head, int part) {
  return (int64_t{row} * args.heads + head) * tiling.parts + part;
}

}  // namespace trireme::cuda
