// A token from each row of logits, as runtime/sample/sampler.h says. A block has 4096 tokens of a
// row; the last block of a row, whichever that is, draws what follows from all parts.
//
// Weights are exp((l - max) / temperature) from f64, kept as integers of 2^-46: their sums are the
// same in any order, so that a row gives the same token at every run. The rounding moves a sum by
// less than 1e-9 of it in the worst case, and with it the token in less than one draw of 10^9.
//
// One kernel after the other, as far as any row wants them:
//   best     applies edits and mask, finds the largest logit: the token of a greedy row
//   weigh    weights: their sums by parts, from which a row without limits is drawn; or a histogram
//            of the row in bins that are linear in the logit, in which top_k or top_p ends
//            somewhere
//   limit    lists the tokens of that bin; the last block sorts them, finds the end of top_k or
//            top_p among them and draws, or looks up the bin in which top_p ends after top_k
//   limit    once more, where a row has both
#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/sampling.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kEach = kSamplePart / kThreads;
constexpr int kBinsEach = kSampleBins / kThreads;
constexpr float kMax = 3.402823466e38f;

__device__ __forceinline__ const SampleRow& row_of(const SampleCall& c, const SampleRows& few) {
  return c.rows == nullptr ? few.row[blockIdx.y] : c.rows[blockIdx.y];
}
__device__ __forceinline__ bool is_edited(const SampleRow& how) {
  return how.edits > 0 || how.mask >= 0;
}
__device__ __forceinline__ bool is_limited(const SampleRow& how) {
  return how.top_k >= 1 || how.top_p < 1.0f;
}
__device__ __forceinline__ const float* logits_of(const SampleCall& c, const SampleRow& how) {
  return is_edited(how) ? c.edited + int64_t{blockIdx.y} * c.vocab
                        : c.logits + int64_t{how.row} * c.stride;
}

// This thread's tokens of the block's part: token(0), token(1), ..., and their logits.
struct OfThread {
  int32_t first =
      static_cast<int32_t>(blockIdx.x) * kSamplePart + static_cast<int32_t>(threadIdx.x);
  __device__ int32_t token(int i) const { return first + i * kThreads; }
  // All under way at once.
  __device__ void load(const float* row, int32_t vocab, float (&logits)[kEach]) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) logits[i] = token(i) < vocab ? row[token(i)] : 0.0f;
  }
};

// f(token, its logit) for them.
template <class F>
__device__ __forceinline__ void each_of_part(const float* row, int32_t vocab, F f) {
  const OfThread mine;
  float logits[kEach];
  mine.load(row, vocab, logits);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (mine.token(i) < vocab) f(mine.token(i), logits[i]);
  }
}
// The same by way of shared memory, kSamplePart numbers, where f's code is too long to be there
// kEach times.
template <class F>
__device__ __forceinline__ void each_of_part(const float* row, int32_t vocab, float* staged, F f) {
  const OfThread mine;
  {
    float logits[kEach];
    mine.load(row, vocab, logits);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      staged[i * kThreads + static_cast<int>(threadIdx.x)] = logits[i];
  }
#pragma unroll 2
  for (int i = 0; i < kEach; ++i) {
    if (mine.token(i) < vocab)
      f(mine.token(i), staged[i * kThreads + static_cast<int>(threadIdx.x)]);
  }
}

// ---- the largest ----

struct Best {
  float max = -INFINITY, min = INFINITY;
  int32_t token = -1;
  int32_t broken = 0;

  __device__ void add(int32_t at, float l) {
    if (!(l < INFINITY)) broken = 1;
    if (!(l > -INFINITY)) return;
    if (l > max) {
      max = l;
      token = at;
    }
    min = fminf(min, l);
  }
  __device__ void add(const Best& b) {
    const bool better =
        b.token >= 0 && (token < 0 || b.max > max || (b.max == max && b.token < token));
    if (better) {
      max = b.max;
      token = b.token;
    }
    min = fminf(min, b.min);
    broken |= b.broken;
  }
};

// That of all threads, in the first.
__device__ Best best_of_all(Best mine, Best* of_warps) {
  const auto reduce = [&] {
#pragma unroll
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
      Best other;
      other.max = __shfl_xor_sync(kWholeWarp, mine.max, step);
      other.min = __shfl_xor_sync(kWholeWarp, mine.min, step);
      other.token = __shfl_xor_sync(kWholeWarp, mine.token, step);
      other.broken = __shfl_xor_sync(kWholeWarp, mine.broken, step);
      mine.add(other);
    }
  };
  reduce();
  if (lane_of_warp() == 0) of_warps[warp_of_block()] = mine;
  __syncthreads();
  if (warp_of_block() == 0) {
    mine = lane_of_warp() < kWarps ? of_warps[lane_of_warp()] : Best();
    reduce();
  }
  __syncthreads();
  return mine;
}

// Mask and edits of the block's part. True: one of the numbers is broken.
__device__ bool edit_part(const SampleCall& c, const SampleRow& how) {
  const float* raw = c.logits + int64_t{how.row} * c.stride;
  float* edited = c.edited + int64_t{blockIdx.y} * c.vocab;
  const uint32_t* mask =
      how.mask < 0 ? nullptr : c.masks + int64_t{how.mask} * ((c.vocab + 31) / 32);
  bool broken = false;
  each_of_part(raw, c.vocab, [&](int32_t token, float l) {
    broken = broken || !(l < INFINITY);
    edited[token] = mask == nullptr || (mask[token / 32] >> (token % 32) & 1u) != 0 ? l : -INFINITY;
  });
  __syncthreads();
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < how.edits; e += kThreads) {
    const LogitEdit& x = c.edits[how.first_edit + e];
    if (x.token / kSamplePart != static_cast<int32_t>(blockIdx.x)) continue;
    float l = x.forbidden ? -INFINITY : edited[x.token] + x.bias;
    l = l > 0.0f ? fminf(l / x.repetition, kMax) : l * x.repetition;
    edited[x.token] = (l - x.frequency) - x.presence;
  }
  __syncthreads();
  return broken;
}

struct BestShared {
  Best of_warps[kWarps];
  int flag;
};

__global__ void __launch_bounds__(kThreads)
    best_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                unsigned* counters) {
  next_may_start();
  previous_done();
  BestShared& shared_area = *shared<BestShared>();
  const SampleRow& how = row_of(c, few);
  Best mine;
  if (is_edited(how) && edit_part(c, how)) mine.broken = 1;
  each_of_part(logits_of(c, how), c.vocab, [&](int32_t token, float l) { mine.add(token, l); });
  mine = best_of_all(mine, shared_area.of_warps);
  SamplePart* parts = c.part + int64_t{blockIdx.y} * c.parts;
  if (threadIdx.x == 0) parts[blockIdx.x] = {mine.max, mine.min, mine.token, mine.broken, 0};
  if (!last_block(counters + blockIdx.y, c.parts, &shared_area.flag)) return;
  Best all;
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < c.parts; p += kThreads) {
    Best part;
    part.max = parts[p].max;
    part.min = parts[p].min;
    part.token = parts[p].best;
    part.broken = parts[p].broken;
    all.add(part);
  }
  all = best_of_all(all, shared_area.of_warps);
  if (threadIdx.x != 0) return;
  SampleState state{};
  state.best = all.broken != 0 ? -1 : all.token;
  state.chosen = state.best < 0 || !(how.temperature > 0.0f) ? 1 : 0;
  state.max = all.max;
  set_bins(state, all.min, how.temperature);
  state.bin = kNoBin;
  c.state[blockIdx.y] = state;
  if (state.chosen != 0) c.tokens[blockIdx.y] = state.best;
}

// ---- weights ----

// A histogram of one part. Shared memory adds 32 bits at once, so weights, of 47 bits, are added in
// pieces of 16, of which 4096 stay below 2^28.
struct Bins {
  unsigned pieces[3][kSampleBins];
  unsigned counts[kSampleBins];

  __device__ void clear(int bin) {
    for (auto& piece : pieces) piece[bin] = 0;
    counts[bin] = 0;
  }
  __device__ void add(int bin, uint64_t weight) {
    for (int i = 0; i < 3; ++i)
      atomicAdd(&pieces[i][bin], static_cast<unsigned>(weight >> 16 * i & 0xffffu));
    atomicAdd(&counts[bin], 1u);
  }
  __device__ unsigned long long weight(int bin) const {
    unsigned long long sum = 0;
    for (int i = 0; i < 3; ++i) sum += static_cast<unsigned long long>(pieces[i][bin]) << 16 * i;
    return sum;
  }
};

struct Shared {
  unsigned long long sums[kWarps];
  int flag;
  int32_t found;
  unsigned long long place;  // or what is left of a goal
  union {
    struct {  // while parts are read
      float staged[kSamplePart];
      Bins bins;
    } by_part;
    uint64_t listed[kSampleListMax];
  };
  // And one number more for each part of a row.
  __device__ unsigned long long* of_parts() {
    return reinterpret_cast<unsigned long long*>(this + 1);
  }
};
size_t shared_bytes(int32_t parts) {
  return sizeof(Shared) + static_cast<size_t>(parts) * sizeof(unsigned long long);
}

// A row in its last block.
struct Last {
  const SampleCall& c;
  const SampleRow& how;
  SampleState& state;
  Shared& s;
  RowOfLogits row;

  __device__ unsigned long long* weights() const {
    return c.weights + int64_t{blockIdx.y} * kSampleBins;
  }
  __device__ unsigned* counts() const { return c.counts + int64_t{blockIdx.y} * kSampleBins; }
  __device__ const SamplePart* parts() const { return c.part + int64_t{blockIdx.y} * c.parts; }
};

// The bin in which the sum over bins of `value(bin)` reaches `goal`, and what of the goal is left
// there; kNoBin where it is not reached. All threads.
template <class F>
__device__ int32_t find_bin(Shared& s, F value, unsigned long long& goal) {
  const int first = static_cast<int>(threadIdx.x) * kBinsEach;
  unsigned long long mine = 0, total = 0;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) mine += value(first + i);
  const unsigned long long before = scan(s.sums, mine, total);
  if (threadIdx.x == 0) s.found = kNoBin;
  __syncthreads();
  if (before < goal && before + mine >= goal) {
    unsigned long long left = goal - before;
    int i = 0;
    for (; i < kBinsEach - 1 && value(first + i) < left; ++i) left -= value(first + i);
    s.found = first + i;
    s.place = left;
  }
  __syncthreads();
  if (s.found != kNoBin) goal = s.place;
  const int32_t found = s.found;
  __syncthreads();
  return found;
}

__device__ __forceinline__ unsigned long long nucleus(float top_p, unsigned long long total) {
  const double goal = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return goal < 1.0 ? 1ull : static_cast<unsigned long long>(goal);
}

// Where top_k or else top_p ends, by the row's histogram.
__device__ void first_limit(Last& w) {
  unsigned long long count = 0;
  const int first = static_cast<int>(threadIdx.x) * kBinsEach;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) count += w.counts()[first + i];
  count = sum_of_all(w.s.sums, count);
  unsigned long long goal = 0;
  int32_t bin = kNoBin;
  bool by_weight = false;
  if (w.how.top_k >= 1 && static_cast<unsigned long long>(w.how.top_k) < count) {
    goal = static_cast<unsigned long long>(w.how.top_k);
    bin = find_bin(
        w.s, [&](int b) -> unsigned long long { return w.counts()[b]; }, goal);
  } else if (w.how.top_p < 1.0f) {
    unsigned long long weight = 0;
#pragma unroll
    for (int i = 0; i < kBinsEach; ++i) weight += w.weights()[first + i];
    goal = nucleus(w.how.top_p, sum_of_all(w.s.sums, weight));
    bin = find_bin(
        w.s, [&](int b) { return w.weights()[b]; }, goal);
    by_weight = true;
  }
  if (threadIdx.x != 0) return;
  w.state.bin = bin;
  w.state.by_weight = by_weight ? 1 : 0;
  w.state.goal = goal;
}

// f(token, logit) for the row's candidates in the bin of the limit, each once.
template <class F>
__device__ __forceinline__ void each_of_bin(const Last& w, F f) {
  if (w.state.listed <= kSampleListMax) {
    const int32_t* list = w.c.lists + int64_t{blockIdx.y} * kSampleListMax;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.state.listed; i += kThreads)
      f(list[i], w.row.logits[list[i]]);
    return;
  }
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.row.vocab; i += kThreads) {
    const float l = w.row.logits[i];
    if (w.row.holds(i, l) && w.row.bin(l) == w.state.bin) f(i, l);
  }
}

// The place of the token of that bin with which the goal is reached: from a list in order.
__device__ uint64_t end_by_list(Last& w) {
  Shared& s = w.s;
  const int32_t listed = w.state.listed;
  int32_t room = kWarpSize;
  while (room < listed) room *= 2;
  const int32_t* list = w.c.lists + int64_t{blockIdx.y} * kSampleListMax;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < room; i += kThreads)
    s.listed[i] = i < listed ? place_of(w.row.logits[list[i]], list[i]) : ~uint64_t{0};
  sort_shared(s.listed, room);
  // A thread has a few that follow one another.
  const int32_t each = room <= kThreads ? 1 : room / kThreads;
  const int32_t first = static_cast<int32_t>(threadIdx.x) * each;
  const auto value = [&](int32_t i) -> unsigned long long {
    if (i >= listed) return 0;
    return w.state.by_weight != 0 ? w.row.weight(logit_of(static_cast<uint32_t>(s.listed[i] >> 32)))
                                  : 1;
  };
  unsigned long long mine = 0, total = 0;
  for (int32_t i = first; i < first + each; ++i) mine += value(i);
  const unsigned long long before = scan(s.sums, mine, total);
  if (threadIdx.x == 0) s.place = s.listed[listed - 1];
  __syncthreads();
  if (before < w.state.goal && before + mine >= w.state.goal) {
    unsigned long long sum = before;
    int32_t i = first;
    while ((sum += value(i)) < w.state.goal) ++i;
    s.place = s.listed[i];
  }
  __syncthreads();
  return s.place;
}

// The same where the bin holds more than a list: by halving what may be the place.
__device__ uint64_t end_by_halves(Last& w) {
  uint64_t low = 0, high = w.row.limit;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    unsigned long long sum = 0;
    each_of_bin(w, [&](int32_t token, float l) {
      if (place_of(l, token) <= middle) sum += w.state.by_weight != 0 ? w.row.weight(l) : 1;
    });
    if (sum_of_all(w.s.sums, sum) >= w.state.goal) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// The weight of all candidates: what lies before the bin, by parts, and the bin's. Leaves in
// shared memory how it is shared out to the parts.
__device__ unsigned long long weigh_all(Last& w) {
  unsigned long long* of_parts = w.s.of_parts();
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kThreads)
    of_parts[p] = w.parts()[p].weight;
  __syncthreads();
  if (w.state.bin != kNoBin) {
    each_of_bin(w, [&](int32_t token, float l) {
      if (place_of(l, token) <= w.row.limit)
        atomicAdd(&of_parts[token / kSamplePart], static_cast<unsigned long long>(w.row.weight(l)));
    });
    __syncthreads();
  }
  unsigned long long mine = 0;
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kThreads)
    mine += of_parts[p];
  return sum_of_all(w.s.sums, mine);
}

// By the inverse of the cumulative sum in the order of the ids. REQUIRES: what weigh_all() leaves.
__device__ void draw(Last& w, unsigned long long total) {
  Shared& s = w.s;
  const auto goal = static_cast<unsigned long long>(w.how.u * static_cast<double>(total));
  if (threadIdx.x == 0) {
    // Where it goes too far, which rounding may make it, the likeliest token stands in.
    unsigned long long before = 0;
    int32_t part = 0;
    while (part < w.c.parts && before + s.of_parts()[part] <= goal) before += s.of_parts()[part++];
    s.found = part;
    s.place = before;
  }
  __syncthreads();
  const int32_t part = s.found;
  const unsigned long long before_part = s.place;
  __syncthreads();
  if (threadIdx.x == 0) s.found = w.state.best;
  if (part < w.c.parts) {
    const int32_t first = part * kSamplePart + static_cast<int32_t>(threadIdx.x) * kEach;
    const auto weight = [&](int32_t token) -> unsigned long long {
      if (token >= w.row.vocab) return 0;
      const float l = w.row.logits[token];
      return w.row.holds(token, l) ? w.row.weight(l) : 0;
    };
    unsigned long long mine = 0, of_part = 0;
    for (int32_t i = 0; i < kEach; ++i) mine += weight(first + i);
    const unsigned long long before = before_part + scan(s.sums, mine, of_part);
    if (before <= goal && goal < before + mine) {
      unsigned long long sum = before;
      int32_t i = 0;
      while ((sum += weight(first + i)) <= goal) ++i;
      s.found = first + i;
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  w.c.tokens[blockIdx.y] = s.found;
  w.state.chosen = 1;
}

// The weight of the block's part, from that of each thread, for the last block.
__device__ __forceinline__ void leave_weight(const SampleCall& c, Shared& s,
                                             unsigned long long mine) {
  const unsigned long long sum = sum_of_all(s.sums, mine);
  if (threadIdx.x == 0) c.part[int64_t{blockIdx.y} * c.parts + blockIdx.x].weight = sum;
}

__global__ void __launch_bounds__(kThreads)
    weigh_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                 unsigned* counters) {
  next_may_start();
  previous_done();
  const SampleRow& how = row_of(c, few);
  SampleState& state = c.state[blockIdx.y];
  if (state.chosen != 0) return;
  Shared& s = *shared<Shared>();
  const RowOfLogits row(logits_of(c, how), c.vocab, how, state);
  Last last{c, how, state, s, row};
  if (is_limited(how)) {
    for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kThreads)
      s.by_part.bins.clear(b);
    __syncthreads();
    each_of_part(row.logits, c.vocab, s.by_part.staged, [&](int32_t token, float l) {
      if (row.holds(token, l)) s.by_part.bins.add(row.bin(l), row.weight(l));
    });
    __syncthreads();
    for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kThreads) {
      if (s.by_part.bins.counts[b] == 0) continue;
      atomicAdd(&last.weights()[b], s.by_part.bins.weight(b));
      atomicAdd(&last.counts()[b], s.by_part.bins.counts[b]);
    }
    if (last_block(counters + blockIdx.y, c.parts, &s.flag)) first_limit(last);
    return;
  }
  unsigned long long sum = 0;
  each_of_part(row.logits, c.vocab, s.by_part.staged, [&](int32_t token, float l) {
    if (row.holds(token, l)) sum += row.weight(l);
  });
  leave_weight(c, s, sum);
  if (last_block(counters + blockIdx.y, c.parts, &s.flag)) draw(last, weigh_all(last));
}

__global__ void __launch_bounds__(kThreads)
    limit_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                 unsigned* counters) {
  next_may_start();
  previous_done();
  const SampleRow& how = row_of(c, few);
  SampleState& state = c.state[blockIdx.y];
  if (state.chosen != 0) return;
  Shared& s = *shared<Shared>();
  const RowOfLogits row(logits_of(c, how), c.vocab, how, state);
  const int32_t limit_bin = state.bin;
  int32_t* list = c.lists + int64_t{blockIdx.y} * kSampleListMax;
  unsigned long long sum = 0;
  each_of_part(row.logits, c.vocab, s.by_part.staged, [&](int32_t token, float l) {
    if (!row.holds(token, l)) return;
    const int32_t bin = row.bin(l);
    if (limit_bin == kNoBin || bin < limit_bin) {
      sum += row.weight(l);
    } else if (bin == limit_bin) {
      const int32_t at = atomicAdd(&state.listed, 1);
      if (at < kSampleListMax) list[at] = token;
    }
  });
  leave_weight(c, s, sum);
  if (!last_block(counters + blockIdx.y, c.parts, &s.flag)) return;

  Last last{c, how, state, s, row};
  if (limit_bin != kNoBin)
    last.row.limit = state.listed <= kSampleListMax ? end_by_list(last) : end_by_halves(last);
  const unsigned long long total = weigh_all(last);
  const bool nucleus_next = limit_bin != kNoBin && state.by_weight == 0 && how.top_p < 1.0f;
  if (!nucleus_next) {
    draw(last, total);
    for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kThreads) {
      last.weights()[b] = 0;
      last.counts()[b] = 0;
    }
    return;
  }
  // Of what top_k leaves; so it is reached within that, and the histogram of all tokens shows
  // where.
  unsigned long long goal = nucleus(how.top_p, total);
  const int32_t bin = find_bin(
      s, [&](int b) { return last.weights()[b]; }, goal);
  if (threadIdx.x != 0) return;
  state.bin = bin;
  state.by_weight = 1;
  state.goal = goal;
  state.listed = 0;
}

}  // namespace

void queue_sample(Context& context, SampleCall call, std::span<const SampleRow> rows) {
  bool drawn = false, limited = false, twice = false;
  for (const SampleRow& r : rows) {
    if (!(r.temperature > 0.0f)) continue;
    const bool by_count = r.top_k >= 1, by_weight = r.top_p < 1.0f;
    drawn = true;
    limited = limited || by_count || by_weight;
    twice = twice || (by_count && by_weight);
  }
  unsigned* counters = context.counters(rows.size());
  if (counters == nullptr) return;  // the context holds the error
  SampleRows few{};
  if (call.rows == nullptr) std::copy(rows.begin(), rows.end(), few.row);
  const dim3 blocks(static_cast<unsigned>(call.parts), static_cast<unsigned>(call.count));
  const Grid best{blocks, dim3(kThreads), sizeof(BestShared), true};
  const Grid more{blocks, dim3(kThreads), shared_bytes(call.parts), true};
  launch(context, "sample", best, best_kernel, call, few, counters);
  if (drawn) launch(context, "sample", more, weigh_kernel, call, few, counters);
  if (limited) launch(context, "sample", more, limit_kernel, call, few, counters);
  if (twice) launch(context, "sample", more, limit_kernel, call, few, counters);
}

}  // namespace trireme::cuda
