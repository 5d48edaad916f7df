// Attention over the paged cache.
//
// In a block: keys [kv_heads][head_dim][block_tokens], then values [kv_heads][block_tokens]
// [head_dim], so that a vector holds 16 tokens of one element of the keys, or 16 elements of one
// token's values, and neither product sums across lanes.
//
// A thread takes a few rows of one sequence and all query heads of one kv head (an AttentionTask),
// expands a tile of 64 positions to f32 in its cache, and lets all its queries read it there. The
// flow of sums is fixed by absolute positions alone (isa/ops_loops.h):
//
//   position  0        64       128      ...      512                1024
//             | tile   | tile   | ...             | tile ...         |
//             |<------- one partial softmax ----->|<--- the next --->|
//   a row's result = its partial softmaxes, merged in order
//
// A row joins in at the tile where its window begins; lanes outside its window are exact zeros. So
// the result of a row is the same alone or inside a chunk, and the partial softmaxes of one row may
// be computed by different threads (a long context with few sequences) or one after the other.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

constexpr int64_t kTaskQueries = 64;  // rows * query heads per kv head that share a tile

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// The positions [first, last) that a row sees.
struct Sight {
  int64_t first, last;
};
Sight sight_of(const KvView& cache, int64_t position) {
  const int64_t window = cache.window_tokens;
  return {window == 0 ? 0 : std::max<int64_t>(0, position - window + 1), position + 1};
}

// What a call of attend() is about.
struct Call {
  const ConstTensorView& q;
  const Ragged& rows;
  const KvView& cache;
  float scale;
  const TensorView& out;
  const OpLoops& loops;
  int64_t group;       // query heads per kv head
  int64_t padded_dim;  // head_dim rounded up to 16
};

// Softmaxes in progress, one per query of a task; query = row of the task * group + head.
struct Softmaxes {
  float* largest;  // [queries]
  float* total;    // [queries]
  float* sums;     // [queries][padded_dim]

  static int64_t floats(int64_t queries, int64_t padded_dim) {
    return round_up(queries * (padded_dim + 2), 16);
  }
  static Softmaxes at(float* place, int64_t queries, int64_t padded_dim) {
    return {place + queries * padded_dim, place + queries * (padded_dim + 1), place};
  }
  void clear(int64_t queries, int64_t padded_dim) const {
    std::fill(largest, largest + queries, -INFINITY);
    std::fill(total, total + queries, 0.0f);
    std::fill(sums, sums + queries * padded_dim, 0.0f);
  }
};

// A tile's cache lines, at most: values of f32, keys with a line for each 16 tokens of an element.
int64_t tile_lines_max(int64_t padded_dim) {
  return kTileTokens * padded_dim * 4 / 64 + kTileTokens / kGroupTokens * (padded_dim + 1);
}
constexpr int64_t kPointerFloats = sizeof(void*) / 4;

// One worker's memory during a task.
struct Workspace {
  float* q;       // [queries][padded_dim], times the scale
  float* keys;    // [head_dim][kTileTokens]
  float* values;  // [kTileTokens][padded_dim]
  float* scores;  // [queries][kTileTokens]
  Softmaxes partial, joined;
  const void** lines;  // [tile_lines_max]

  Workspace(Scratch& scratch, int64_t queries, int64_t padded_dim) {
    const int64_t softmax_floats = Softmaxes::floats(queries, padded_dim);
    float* place =
        scratch.floats(2 * kTileTokens * padded_dim + queries * (kTileTokens + padded_dim) +
                       2 * softmax_floats + kPointerFloats * tile_lines_max(padded_dim));
    keys = place;
    values = keys + kTileTokens * padded_dim;
    scores = values + kTileTokens * padded_dim;
    partial = Softmaxes::at(scores + queries * kTileTokens, queries, padded_dim);
    joined = Softmaxes::at(partial.sums + softmax_floats, queries, padded_dim);
    q = joined.sums + softmax_floats;
    lines = reinterpret_cast<const void**>(q + queries * padded_dim);
  }
};

// The part of `sight` inside the tile that begins at `tile`, counted from there.
Sight within(const Sight& sight, int64_t tile) {
  return {std::clamp<int64_t>(sight.first - tile, 0, kTileTokens),
          std::clamp<int64_t>(sight.last - tile, 0, kTileTokens)};
}

// Expands group `index` of a tile, which begins at `position`, token by token: for blocks that are
// no multiple of a vector. Tokens outside [first, last) may have no block and are left alone.
void gather_group(const KvView& cache, const CpuOps::AttentionTask& task, int64_t position,
                  int64_t index, const Sight& wanted, int64_t padded_dim, float* keys,
                  float* values) {
  const int64_t dim = cache.head_dim, block_tokens = cache.block_tokens;
  const int32_t* table = cache.block_table + int64_t{task.sequence} * cache.table_stride;
  for (int64_t i = 0; i < kGroupTokens; ++i) {
    const int64_t p = position + i, lane = index * kGroupTokens + i;
    if (p < wanted.first || p >= wanted.last) continue;
    const int64_t entry = p / block_tokens - cache.first_block[task.sequence];
    const std::byte* block = cache.blocks + table[entry] * cache.block_stride;
    const int64_t key = task.kv_head * dim * block_tokens + p % block_tokens;
    const int64_t value =
        (int64_t{cache.kv_heads} * block_tokens + task.kv_head * block_tokens + p % block_tokens) *
        dim;
    for (int64_t d = 0; d < dim; ++d) {
      keys[d * kTileTokens + lane] =
          load_f32(block, cache.dtype, static_cast<size_t>(key + d * block_tokens));
      values[lane * padded_dim + d] = load_f32(block, cache.dtype, static_cast<size_t>(value + d));
    }
    std::fill(values + lane * padded_dim + dim, values + (lane + 1) * padded_dim, 0.0f);
  }
}

// Where the tokens from `position` on lie: a group that is whole in one block.
KvGroup group_at(const KvView& cache, const CpuOps::AttentionTask& task, int64_t position) {
  const int64_t dim = cache.head_dim, block_tokens = cache.block_tokens;
  const auto bytes = static_cast<int64_t>(dtype_bytes(cache.dtype));
  const int32_t* table = cache.block_table + int64_t{task.sequence} * cache.table_stride;
  const int64_t entry = position / block_tokens - cache.first_block[task.sequence];
  const int64_t offset = position % block_tokens;
  const std::byte* block = cache.blocks + table[entry] * cache.block_stride;
  const int64_t keys = task.kv_head * dim * block_tokens + offset;
  const int64_t values =
      (int64_t{cache.kv_heads} * block_tokens + task.kv_head * block_tokens + offset) * dim;
  return {
      .keys = block + keys * bytes, .values = block + values * bytes, .key_stride = block_tokens};
}

// Expands the groups [first_group, last_group) of the tile that begins at `tile`.
void expand_tile(const Call& call, const CpuOps::AttentionTask& task, int64_t tile,
                 int64_t first_group, int64_t last_group, const Workspace& work) {
  const auto expand = call.loops.expand_group[static_cast<int>(call.cache.dtype)];
  static_assert(static_cast<int>(DType::kF32) == 0 && static_cast<int>(DType::kBF16) == 1 &&
                static_cast<int>(DType::kF16) == 2);
  const Sight wanted = {
      sight_of(call.cache, call.rows.positions[task.first_row]).first,
      sight_of(call.cache, call.rows.positions[task.first_row + task.rows - 1]).last};
  for (int64_t g = first_group; g < last_group; ++g) {
    const int64_t position = tile + g * kGroupTokens;
    if (call.cache.block_tokens % kGroupTokens != 0) {
      gather_group(call.cache, task, position, g, wanted, call.padded_dim, work.keys, work.values);
    } else {
      expand(group_at(call.cache, task, position), call.cache.head_dim, call.padded_dim, g,
             work.keys, work.values);
    }
  }
}

// The cache lines of the tile that begins at `tile`, up to position `end`: to be asked for while
// the tile before is worked on. In decode a tile takes as long to arrive as to compute, and the
// hardware does not see across blocks; in a prefill it comes from L2.
LineQueue lines_of_tile(const Call& call, const CpuOps::AttentionTask& task, int64_t tile,
                        int64_t end, const Workspace& work) {
  LineQueue queue{work.lines, work.lines};
  constexpr int64_t kLine = 64;
  const int64_t dim = call.cache.head_dim;
  const auto bytes = static_cast<int64_t>(dtype_bytes(call.cache.dtype));
  if (call.cache.block_tokens % kGroupTokens != 0 || task.rows > 1) return queue;
  const void** line = work.lines;
  for (int64_t p = tile; p < std::min(end, tile + kTileTokens); p += kGroupTokens) {
    const KvGroup group = group_at(call.cache, task, p);
    const auto* keys = static_cast<const std::byte*>(group.keys);
    const int64_t step = group.key_stride * bytes;
    // Two groups may share lines: 32 bytes each.
    if (p == tile || reinterpret_cast<uintptr_t>(keys) % kLine == 0) {
      for (int64_t d = 0; d < dim; ++d) *line++ = keys + d * step;
    }
    const auto* values = static_cast<const std::byte*>(group.values);
    for (int64_t i = 0; i < kGroupTokens * dim * bytes; i += kLine) *line++ = values + i;
  }
  queue.end = line;
  return queue;
}

// Adds one tile to the partial softmaxes of the task's rows that see some of it.
// `next_end`: where the positions end that the caller will come to after this tile.
void attend_tile(const Call& call, const CpuOps::AttentionTask& task, int64_t tile,
                 int64_t next_end, const Workspace& work, const Softmaxes& partial) {
  const int32_t* positions = call.rows.positions + task.first_row;
  const auto part_of_row = [&](int64_t r) {
    return within(sight_of(call.cache, positions[r]), tile);
  };
  const auto sees = [&](int64_t r) { return part_of_row(r).first < part_of_row(r).last; };
  int64_t first_row = 0, last_row = task.rows;  // both ends of a sight ascend with the row
  while (first_row < last_row && !sees(first_row)) ++first_row;
  while (first_row < last_row && !sees(last_row - 1)) --last_row;
  if (first_row == last_row) return;

  const int64_t first = part_of_row(first_row).first, last = part_of_row(last_row - 1).last;
  const int64_t first_group = first / kGroupTokens;
  const int64_t last_group = (last + kGroupTokens - 1) / kGroupTokens;
  expand_tile(call, task, tile, first_group, last_group, work);
  LineQueue lines = lines_of_tile(call, task, tile + kTileTokens, next_end, work);
  const int64_t group = call.group;
  call.loops.score(work.q + first_row * group * call.padded_dim, (last_row - first_row) * group,
                   work.keys, call.cache.head_dim, call.padded_dim, first_group, last_group,
                   work.scores, lines);
  const auto weigh = [&](int64_t row, int64_t rows, const Sight& part) {
    call.loops.weigh(work.scores + (row - first_row) * group * kTileTokens, rows * group,
                     work.values, call.padded_dim, part.first, part.last,
                     partial.sums + row * group * call.padded_dim, lines);
  };
  bool whole = true;
  for (int64_t r = first_row; r < last_row; ++r) {
    const Sight part = part_of_row(r);
    whole = whole && part.first == 0 && part.last == kTileTokens;
    for (int64_t i = r * group; i < (r + 1) * group; ++i) {
      call.loops.soften(work.scores + (i - first_row * group) * kTileTokens, part.first, part.last,
                        call.padded_dim, &partial.largest[i], &partial.total[i],
                        partial.sums + i * call.padded_dim);
    }
  }
  if (whole) {
    weigh(first_row, last_row - first_row, {0, kTileTokens});
  } else {
    for (int64_t r = first_row; r < last_row; ++r) weigh(r, 1, part_of_row(r));
  }
}

// The partial softmaxes of a task over the positions of one split.
void attend_split(const Call& call, const CpuOps::AttentionTask& task, int64_t split,
                  const Workspace& work, const Softmaxes& partial) {
  const int32_t* positions = call.rows.positions + task.first_row;
  const int64_t queries = task.rows * call.group, dim = call.cache.head_dim;
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t head = task.kv_head * call.group + i % call.group;
    const float* q = call.q.f32_row(task.first_row + i / call.group) + head * dim;
    for (int64_t d = 0; d < dim; ++d) work.q[i * call.padded_dim + d] = q[d] * call.scale;
  }
  partial.clear(queries, call.padded_dim);
  const int64_t first = sight_of(call.cache, positions[0]).first / kTileTokens * kTileTokens;
  const int64_t last = positions[task.rows - 1] + 1;
  const int64_t begin = std::max(first, split * kSplitTokens);
  const int64_t end = std::min(last, (split + 1) * kSplitTokens);
  for (int64_t tile = begin; tile < end; tile += kTileTokens) {
    attend_tile(call, task, tile, end, work, partial);
  }
}

// Joins the partial softmaxes of one split to those before it, for the rows that see some of it.
void join_split(const Call& call, const CpuOps::AttentionTask& task, int64_t split,
                const Softmaxes& partial, const Softmaxes& joined) {
  for (int64_t r = 0; r < task.rows; ++r) {
    const Sight sight = sight_of(call.cache, call.rows.positions[task.first_row + r]);
    if (sight.first >= (split + 1) * kSplitTokens || sight.last <= split * kSplitTokens) continue;
    for (int64_t i = r * call.group; i < (r + 1) * call.group; ++i) {
      call.loops.merge(partial.largest[i], partial.total[i], partial.sums + i * call.padded_dim,
                       call.padded_dim, &joined.largest[i], &joined.total[i],
                       joined.sums + i * call.padded_dim);
    }
  }
}

void finish_task(const Call& call, const CpuOps::AttentionTask& task, const Softmaxes& joined) {
  const int64_t dim = call.cache.head_dim;
  for (int64_t i = 0; i < task.rows * call.group; ++i) {
    const int64_t head = task.kv_head * call.group + i % call.group;
    call.loops.finish(joined.total[i], joined.sums + i * call.padded_dim, dim,
                      call.out.f32_row(task.first_row + i / call.group) + head * dim);
  }
}

}  // namespace

void CpuOps::attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                    TensorView out) {
  const int64_t group = q.cols / cache.head_dim / cache.kv_heads;
  const Call call{q, rows, cache, scale, out, loops_, group, round_up(cache.head_dim, 16)};
  const auto rows_max = static_cast<int32_t>(std::max<int64_t>(1, kTaskQueries / group));
  const int64_t queries_max = rows_max * group;

  tasks_.clear();
  int64_t floats = 0, units = 0, partial_floats = 0;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t row = rows.offsets[s]; row < rows.offsets[s + 1]; row += rows_max) {
      const int32_t n = std::min(rows_max, rows.offsets[s + 1] - row);
      const int64_t first = sight_of(cache, rows.positions[row]).first;
      const int64_t last = rows.positions[row + n - 1] + 1;
      const int64_t first_split = first / kSplitTokens;
      const int64_t splits = (last - 1) / kSplitTokens - first_split + 1;
      for (int32_t h = 0; h < cache.kv_heads; ++h) {
        tasks_.push_back({s, h, row, n, static_cast<int32_t>(first_split),
                          static_cast<int32_t>(splits), partial_floats});
        floats += (last - first) * call.padded_dim * (2 + n * group / 4);
        units += splits;
        partial_floats += splits * Softmaxes::floats(n * group, call.padded_dim);
      }
    }
  }
  const auto count = static_cast<int64_t>(tasks_.size());
  const int threads = floats < kForkFloats ? 1 : pool_->size();
  const auto workspace = [&](int worker) {
    return Workspace(worker_scratch_[static_cast<size_t>(worker)], queries_max, call.padded_dim);
  };

  // Each worker takes the next of n things to do, from the last (the longest, in a prefill) to the
  // first.
  const auto take_turns = [&](int64_t n, auto&& work_on) {
    std::atomic<int64_t> left{n};
    const auto work = [&](int worker) {
      const Workspace mine = workspace(worker);
      int64_t i;
      while ((i = left.fetch_sub(1, std::memory_order_relaxed) - 1) >= 0) work_on(i, mine);
    };
    if (threads == 1) {
      work(0);
    } else {
      pool_->run(work);
    }
  };
  const auto partial_of = [&](const AttentionTask& task, int64_t split, float* partials) {
    const int64_t queries = task.rows * group;
    const int64_t index = split - task.first_split;
    return Softmaxes::at(
        partials + task.partials + index * Softmaxes::floats(queries, call.padded_dim), queries,
        call.padded_dim);
  };

  if (threads == 1 || count >= 2 * threads || units == count) {
    take_turns(count, [&](int64_t i, const Workspace& work) {
      const AttentionTask& task = tasks_[static_cast<size_t>(i)];
      work.joined.clear(task.rows * group, call.padded_dim);
      for (int64_t p = task.first_split; p < task.first_split + task.splits; ++p) {
        attend_split(call, task, p, work, work.partial);
        join_split(call, task, p, work.partial, work.joined);
      }
      finish_task(call, task, work.joined);
    });
    return;
  }
  // Few tasks with long contexts: the threads share their splits; the merge is the same.
  float* partials = partials_.floats(partial_floats);
  take_turns(units, [&](int64_t i, const Workspace& work) {
    const AttentionTask* task = tasks_.data();
    for (; i >= task->splits; ++task) i -= task->splits;
    const int64_t p = task->first_split + i;
    attend_split(call, *task, p, work, partial_of(*task, p, partials));
  });
  const Workspace work = workspace(0);
  for (const AttentionTask& task : tasks_) {
    work.joined.clear(task.rows * group, call.padded_dim);
    for (int64_t p = task.first_split; p < task.first_split + task.splits; ++p) {
      join_split(call, task, p, partial_of(task, p, partials), work.joined);
    }
    finish_task(call, task, work.joined);
  }
}

}  // namespace trireme
