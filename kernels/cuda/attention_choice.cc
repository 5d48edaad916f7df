#include "kernels/cuda/attention_choice.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace trireme::cuda {
namespace {

constexpr int32_t kDecodeLines = 16;  // of a product of tensor cores
constexpr int32_t kFmaLines = 16;

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

bool has_fma_kernel(const AttentionShape& s) {
  return s.dtype == DType::kF32 && s.aligned && s.head_dim % 4 == 0 && s.head_dim <= 256;
}

// Blocks that a multiprocessor of Hopper holds at a time, by their shared memory.
int64_t resident_blocks(AttentionKernel kernel, int32_t head_dim) {
  switch (kernel) {
    case AttentionKernel::kDecode:
      return head_dim <= 64 ? 3 : head_dim <= 128 ? 2 : 1;
    case AttentionKernel::kPrefill:
      return 2;
    default:
      return head_dim <= 128 ? 4 : 2;
  }
}

// Runs and rows of a launch are known to the device alone, so tiles are counted from above: run s
// has those from offsets[s] * group / lines + s on (find_tile of device/tiles.cuh). Where no run
// has a second row, each row has its own, and the count is exact.
AttentionLaunch launch_of(const AttentionShape& s, AttentionKernel kernel, Runs runs,
                          int32_t lines) {
  const int32_t group = s.heads / s.kv_heads;
  AttentionLaunch launch{kernel, {}};
  Tiling& t = launch.tiling;
  t.lines = lines;
  t.runs = runs;
  t.rows_apart = s.rows <= s.sequences;
  t.tiles = t.rows_apart ? s.rows * ((group + lines - 1) / lines)
                         : static_cast<int32_t>(int64_t{s.rows} * group / lines) + s.sequences;
  const bool decode = kernel != AttentionKernel::kPrefill;
  // A part costs the writing and reading of a partial result, as much as 4 positions for each line.
  t.part_positions_min = decode ? 4 * kPartGrain : 16 * kPartGrain;
  t.parts =
      choose_parts(int64_t{t.tiles} * s.kv_heads,
                   s.multiprocessors * resident_blocks(kernel, s.head_dim), decode ? 256 : 16);
  return launch;
}

}  // namespace

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
  const auto add = [&](AttentionKernel kernel, Runs runs, int32_t lines) {
    choice.launches[choice.count++] = launch_of(s, kernel, runs, lines);
  };
  if (!has_tensor_kernel(s)) {
    if (has_fma_kernel(s)) {
      add(AttentionKernel::kFma, Runs::kAll, kFmaLines);
    } else {
      choice.launches[choice.count++].kernel = AttentionKernel::kPlain;
    }
    return choice;
  }
  const int64_t lines = int64_t{s.rows} * (s.heads / s.kv_heads);
  const bool one_run = s.sequences == 1;
  const bool decode_step = s.rows <= s.sequences;  // a row of each sequence
  // Whatever is not plain decode may hold runs of both kinds: a launch for each, whose blocks end
  // at once where there are none.
  if (decode_step || lines <= kShortRunLines) {
    add(AttentionKernel::kDecode, Runs::kAll, kDecodeLines);
  } else if (one_run) {
    add(AttentionKernel::kPrefill, Runs::kAll, prefill_lines(s.head_dim));
  } else {
    add(AttentionKernel::kPrefill, Runs::kLong, prefill_lines(s.head_dim));
    add(AttentionKernel::kDecode, Runs::kShort, kDecodeLines);
  }
  return choice;
}

}  // namespace trireme::cuda
