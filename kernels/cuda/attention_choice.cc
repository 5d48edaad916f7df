#include "kernels/cuda/attention_choice.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace trireme::cuda {
namespace {

constexpr int32_t kDecodeLines = 16;  // of a product of tensor cores
constexpr int32_t kFmaLines = 16;
constexpr int32_t kPartsReadAtOnce = 16;  // by the block that joins them

int32_t prefill_lines(int32_t head_dim) { return head_dim <= 128 ? 128 : 64; }

bool has_tensor_kernel(const AttentionShape& s) {
  if (s.dtype != DType::kBF16 && s.dtype != DType::kF16) return false;
  switch (s.head_dim) {
    case 64:
    case 80:
    case 96:
    case 128:
    case 256:
      return s.aligned;
    default:
      return false;
  }
}

// For prefill.
bool has_hopper_kernel(const AttentionShape& s) {
  return s.warp_groups && has_tensor_kernel(s) && (s.head_dim == 64 || s.head_dim == 128);
}

bool has_fma_kernel(const AttentionShape& s) {
  return s.dtype == DType::kF32 && s.aligned && s.head_dim % 4 == 0 && s.head_dim <= 256;
}

// Blocks that a multiprocessor of Hopper holds at a time, by their shared memory.
int64_t blocks_of_hopper(AttentionKernel kernel, int32_t head_dim) {
  switch (kernel) {
    case AttentionKernel::kDecode:
      return head_dim <= 64 ? 3 : head_dim <= 128 ? 2 : 1;
    case AttentionKernel::kPrefill:
      return 2;
    case AttentionKernel::kHopper:
      return 1;
    default:
      return head_dim <= 128 ? 4 : 2;
  }
}

// Others have less of it.
int64_t resident_blocks(const AttentionShape& s, AttentionKernel kernel) {
  const int64_t on_hopper = blocks_of_hopper(kernel, s.head_dim);
  return std::max<int64_t>(on_hopper * s.shared_bytes_max / kHopperSharedBytes, 1);
}

// At most so many lines has a tile that has room for `lines`.
int32_t lines_of_tile(const AttentionShape& s, Tiles order, int32_t lines) {
  const int32_t group = s.heads / s.kv_heads;
  return std::min(lines, order == Tiles::kOfRows ? group : s.rows * group);
}

// Of the smallest part.
int32_t part_grains(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::kDecode:
      return 2;  // which fill its rings before its first product
    case AttentionKernel::kPrefill:
    case AttentionKernel::kHopper:
      return 16;
    default:
      return 4;
  }
}

AttentionLaunch launch_of(const AttentionShape& s, AttentionKernel kernel, Tiles order,
                          int32_t lines) {
  AttentionLaunch launch{kernel, {}, false};
  Tiling& t = launch.tiling;
  t.order = order;
  t.lines = lines;
  t.tiles = count_tiles(s.rows, s.sequences, s.heads / s.kv_heads, order, lines);
  // Of short runs most are one tile: decode in company of a prompt.
  const int64_t blocks = int64_t{order == Tiles::kOfShortRuns ? s.sequences : t.tiles} * s.kv_heads;
  const int64_t slots = s.multiprocessors * resident_blocks(s, kernel);
  // A part costs the writing and reading of a partial result, as much as 4 positions for each line:
  // nothing to 16 lines and hundreds of positions, but to a prompt's thousands of lines time and
  // memory, where there are two waves of blocks anyway.
  const bool prefill = kernel == AttentionKernel::kPrefill || kernel == AttentionKernel::kHopper;
  t.part_positions_min = part_grains(kernel) * kPartGrain;
  t.parts = choose_parts(blocks, slots, !prefill ? 256 : blocks < 2 * slots ? 4 : 1);
  // Short contexts wait for products that wait for each other: as many multiprocessors take part as
  // there are.
  if (kernel == AttentionKernel::kDecode)
    t.grains_apart =
        static_cast<int32_t>(std::min<int64_t>(kPartsReadAtOnce, s.multiprocessors / blocks));
  launch.at_once = blocks * t.parts <= slots;
  // Tiles of prefill have too many lines for one block, and f32 caches are not worth the code.
  t.joins = kernel == AttentionKernel::kDecode && t.parts > 1 &&
            int64_t{lines_of_tile(s, order, lines)} * t.parts * s.head_dim <= kJoinedMax;
  return launch;
}

}  // namespace

int32_t count_tiles(int32_t rows, int32_t sequences, int32_t group, Tiles order, int32_t lines) {
  switch (order) {
    case Tiles::kOfRows:
      return rows * ((group + lines - 1) / lines);
    case Tiles::kOfShortRuns:
      return sequences * (kShortRunLines / lines);
    case Tiles::kOfLongRuns:
    case Tiles::kOfAllRuns:
      // Run s has the tiles from offsets[s] * group / lines + s on.
      return static_cast<int32_t>(int64_t{rows} * group / lines) + sequences;
  }
  return 0;
}

int32_t choose_parts(int64_t blocks, int64_t slots, int32_t parts_max) {
  const auto time = [&](int32_t parts) {
    return static_cast<double>((blocks * parts + slots - 1) / slots) / parts;
  };
  double best = time(1);
  for (int32_t parts = 2; parts <= parts_max; ++parts) best = std::min(best, time(parts));
  if (time(1) <= 1.1 * best) return 1;
  int32_t parts = 2;
  while (time(parts) > 1.05 * best) ++parts;
  return parts;
}

AttentionChoice choose_attention(const AttentionShape& s) {
  CHECK(s.rows > 0 && s.sequences > 0 && s.kv_heads > 0 && s.multiprocessors > 0);
  AttentionChoice choice;
  const auto add = [&](AttentionKernel kernel, Tiles order, int32_t lines) {
    choice.launches[choice.count++] = launch_of(s, kernel, order, lines);
  };
  const bool decode_step = s.rows <= s.sequences;  // a row of each sequence
  if (!has_tensor_kernel(s)) {
    if (has_fma_kernel(s)) {
      add(AttentionKernel::kFma, decode_step ? Tiles::kOfRows : Tiles::kOfAllRuns, kFmaLines);
    } else {
      choice.launches[choice.count++].kernel = AttentionKernel::kPlain;
    }
    return choice;
  }
  const int64_t lines = int64_t{s.rows} * (s.heads / s.kv_heads);
  const AttentionKernel prefill =
      has_hopper_kernel(s) ? AttentionKernel::kHopper : AttentionKernel::kPrefill;
  // Whatever is not plain decode may hold runs of both kinds: a launch for each, whose blocks end
  // at once where there are none.
  if (decode_step) {
    add(AttentionKernel::kDecode, Tiles::kOfRows, kDecodeLines);
  } else if (lines <= kShortRunLines) {
    add(AttentionKernel::kDecode, Tiles::kOfShortRuns, kDecodeLines);
  } else if (s.sequences == 1) {
    add(prefill, Tiles::kOfAllRuns, prefill_lines(s.head_dim));
  } else {
    add(prefill, Tiles::kOfLongRuns, prefill_lines(s.head_dim));
    add(AttentionKernel::kDecode, Tiles::kOfShortRuns, kDecodeLines);
  }
  return choice;
}

}  // namespace trireme::cuda
