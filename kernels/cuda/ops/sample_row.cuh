// A row of logits shared out to blocks, as the kernels of sample.cu see it: the tokens of a thread,
// a block's histogram, and what a row's last block does, which limits and draws.
#pragma once

#include "kernels/cuda/device/last_block.cuh"
#include "kernels/cuda/device/sampling.cuh"

namespace trireme::cuda {

inline constexpr int kSampleThreads = 512;
inline constexpr int kSampleWarps = kSampleThreads / kWarpSize;
inline constexpr int kSampleEach = kSamplePart / kSampleThreads;
inline constexpr int kBinsEach = kSampleBins / kSampleThreads;

__device__ __forceinline__ const SampleRow& row_of(const SampleCall& c, const SampleRows& few) {
  return c.rows == nullptr ? few.row[blockIdx.y] : c.rows[blockIdx.y];
}
__device__ __forceinline__ const float* logits_of(const SampleCall& c, const SampleRow& how) {
  return is_edited(how) ? c.edited + int64_t{blockIdx.y} * c.vocab
                        : c.logits + int64_t{how.row} * c.stride;
}

// This thread's tokens of the block's part: token(0), token(1), ..., and their logits.
struct OfThread {
  int32_t first =
      static_cast<int32_t>(blockIdx.x) * kSamplePart + static_cast<int32_t>(threadIdx.x);
  __device__ int32_t token(int i) const { return first + i * kSampleThreads; }
  // All under way at once.
  __device__ void load(const float* row, int32_t vocab, float (&logits)[kSampleEach]) const {
#pragma unroll
    for (int i = 0; i < kSampleEach; ++i) logits[i] = token(i) < vocab ? row[token(i)] : 0.0f;
  }
};

// f(token, its logit) for them.
template <class F>
__device__ __forceinline__ void each_of_part(const float* row, int32_t vocab, F f) {
  const OfThread mine;
  float logits[kSampleEach];
  mine.load(row, vocab, logits);
#pragma unroll
  for (int i = 0; i < kSampleEach; ++i) {
    if (mine.token(i) < vocab) f(mine.token(i), logits[i]);
  }
}
// The same by way of shared memory, kSamplePart numbers, where f's code is too long to be there
// kSampleEach times.
template <class F>
__device__ __forceinline__ void each_of_part(const float* row, int32_t vocab, float* staged, F f) {
  const OfThread mine;
  {
    float logits[kSampleEach];
    mine.load(row, vocab, logits);
#pragma unroll
    for (int i = 0; i < kSampleEach; ++i)
      staged[i * kSampleThreads + static_cast<int>(threadIdx.x)] = logits[i];
  }
#pragma unroll 2
  for (int i = 0; i < kSampleEach; ++i) {
    if (mine.token(i) < vocab)
      f(mine.token(i), staged[i * kSampleThreads + static_cast<int>(threadIdx.x)]);
  }
}

// A histogram of one part. Shared memory adds 32 bits at once, so weights, of 47 bits, are
// added in pieces of 16, of which 4096 stay below 2^28.
struct SampleHistogram {
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

struct SampleShared {
  unsigned long long sums[kSampleWarps];
  int flag;
  int32_t found;
  unsigned long long place;  // or what is left of a goal
  union {
    struct {  // while parts are read
      float staged[kSamplePart];
      SampleHistogram bins;
    } by_part;
    uint64_t listed[kSampleListMax];
  };
  // And one number more for each part of a row.
  __device__ unsigned long long* of_parts() {
    return reinterpret_cast<unsigned long long*>(this + 1);
  }
};
inline size_t sample_shared_bytes(int32_t parts) {
  return sizeof(SampleShared) + static_cast<size_t>(parts) * sizeof(unsigned long long);
}

// The block's row, whose token is not known yet.
struct OpenRow {
  const SampleCall& c;
  const SampleRow& how;
  SampleState& state;
  SampleShared& s;
  RowOfLogits row;

  __device__ OpenRow(const SampleCall& call, const SampleRows& few)
      : c(call),
        how(row_of(call, few)),
        state(call.state[blockIdx.y]),
        s(*shared<SampleShared>()),
        row(logits_of(call, how), call.vocab, how, state) {}

  __device__ unsigned long long* weights() const {
    return c.weights + int64_t{blockIdx.y} * kSampleBins;
  }
  __device__ unsigned* counts() const { return c.counts + int64_t{blockIdx.y} * kSampleBins; }
  __device__ SamplePart* parts() const { return c.part + int64_t{blockIdx.y} * c.parts; }
  __device__ int32_t* list() const { return c.lists + int64_t{blockIdx.y} * kSampleListMax; }

  // f(token, its logit) for this thread's candidates of the block's part.
  template <class F>
  __device__ void each_candidate(F f) {
    each_of_part(row.logits, c.vocab, s.by_part.staged, [&](int32_t token, float l) {
      if (row.holds(token, l)) f(token, l);
    });
  }
  // The weight of the block's part, from that of each thread, for the last block.
  __device__ void leave_weight(unsigned long long mine) {
    const unsigned long long sum = sum_of_all(s.sums, mine);
    if (threadIdx.x == 0) parts()[blockIdx.x].weight = sum;
  }
  __device__ bool is_last(unsigned* counters) {
    return last_block(counters + blockIdx.y, c.parts, &s.flag);
  }
};

// The bin in which the sum over bins of `value(bin)` reaches `goal`, and what of the goal is left
// there; kNoBin where it is not reached. All threads.
template <class F>
__device__ __forceinline__ int32_t find_bin(SampleShared& s, F value, unsigned long long& goal) {
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
__device__ inline void first_limit(OpenRow& w) {
  unsigned long long count = 0;
  const int first = static_cast<int>(threadIdx.x) * kBinsEach;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) count += w.counts()[first + i];
  count = sum_of_all(w.s.sums, count);
  unsigned long long goal = 0;
  int32_t bin = kNoBin;
  bool by_weight = false;
  if (has_top_k(w.how) && static_cast<unsigned long long>(w.how.top_k) < count) {
    goal = static_cast<unsigned long long>(w.how.top_k);
    bin = find_bin(
        w.s, [&](int b) -> unsigned long long { return w.counts()[b]; }, goal);
  } else if (has_top_p(w.how)) {
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
__device__ __forceinline__ void each_of_bin(const OpenRow& w, F f) {
  if (w.state.listed <= kSampleListMax) {
    const int32_t* list = w.list();
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.state.listed; i += kSampleThreads)
      f(list[i], w.row.logits[list[i]]);
    return;
  }
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.row.vocab; i += kSampleThreads) {
    const float l = w.row.logits[i];
    if (w.row.holds(i, l) && w.row.bin(l) == w.state.bin) f(i, l);
  }
}

// The place of the token of that bin with which the goal is reached: from a list in order.
__device__ inline uint64_t end_by_list(OpenRow& w) {
  SampleShared& s = w.s;
  const int32_t listed = w.state.listed;
  int32_t room = kWarpSize;
  while (room < listed) room *= 2;
  const int32_t* list = w.list();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < room; i += kSampleThreads)
    s.listed[i] = i < listed ? place_of(w.row.logits[list[i]], list[i]) : ~uint64_t{0};
  sort_shared(s.listed, room);
  // A thread has a few that follow one another.
  const int32_t each = room <= kSampleThreads ? 1 : room / kSampleThreads;
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
__device__ inline uint64_t end_by_halves(OpenRow& w) {
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
__device__ inline unsigned long long weigh_all(OpenRow& w) {
  unsigned long long* of_parts = w.s.of_parts();
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kSampleThreads)
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
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kSampleThreads)
    mine += of_parts[p];
  return sum_of_all(w.s.sums, mine);
}

// By the inverse of the cumulative sum in the order of the ids. REQUIRES: what weigh_all() leaves.
__device__ inline void draw(OpenRow& w, unsigned long long total) {
  SampleShared& s = w.s;
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
    const int32_t first = part * kSamplePart + static_cast<int32_t>(threadIdx.x) * kSampleEach;
    const auto weight = [&](int32_t token) -> unsigned long long {
      if (token >= w.row.vocab) return 0;
      const float l = w.row.logits[token];
      return w.row.holds(token, l) ? w.row.weight(l) : 0;
    };
    unsigned long long mine = 0, of_part = 0;
    for (int32_t i = 0; i < kSampleEach; ++i) mine += weight(first + i);
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

}  // namespace trireme::cuda
