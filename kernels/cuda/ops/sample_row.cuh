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

// All of it at once: what stands behind branches would be waited for by itself.
__device__ __forceinline__ SampleRow row_of(const SampleCall& c, const SampleRows& few) {
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

// Adds to a sum in shared memory by halves: 32 bits are what it adds at once, and it says what was
// there, so that who makes the lower half overflow carries. Many weights have no upper half.
__device__ __forceinline__ void add_halves(unsigned& low, unsigned& high, uint64_t value) {
  const auto lower = static_cast<unsigned>(value);
  const unsigned before = atomicAdd(&low, lower);
  const unsigned carry = before + lower < before ? 1u : 0u;
  const unsigned upper = static_cast<unsigned>(value >> 32) + carry;
  if (upper != 0) atomicAdd(&high, upper);
}
__device__ __forceinline__ unsigned long long whole_of(unsigned low, unsigned high) {
  return static_cast<unsigned long long>(high) << 32 | low;
}

// A histogram of one part. Counts are for rows with top_k.
struct SampleHistogram {
  unsigned low[kSampleBins], high[kSampleBins];
  unsigned counts[kSampleBins];

  __device__ void clear(int bin) { low[bin] = high[bin] = counts[bin] = 0; }
  __device__ void add(int bin, uint64_t weight, bool counted) {
    add_halves(low[bin], high[bin], weight);
    if (counted) atomicAdd(&counts[bin], 1u);
  }
  __device__ unsigned long long weight(int bin) const { return whole_of(low[bin], high[bin]); }
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
  // And one number more for each part of a row, by halves.
  __device__ unsigned* of_parts() { return reinterpret_cast<unsigned*>(this + 1); }
  __device__ unsigned long long of_part(int32_t part) {
    return whole_of(of_parts()[2 * part], of_parts()[2 * part + 1]);
  }
};
inline size_t sample_shared_bytes(int32_t parts) {
  return sizeof(SampleShared) + static_cast<size_t>(parts) * sizeof(unsigned long long);
}

// The block's row, if its token is not known yet.
struct OpenRow {
  const SampleCall& c;
  const SampleRow how;
  SampleState state;  // as the kernel found it; with `listed` once the block is the last one
  SampleShared& s;
  RowOfLogits row;

  __device__ OpenRow(const SampleCall& call, const SampleRows& few)
      : c(call),
        how(row_of(call, few)),
        state(call.state[blockIdx.y]),
        s(*shared<SampleShared>()),
        row(logits_of(call, how), call.vocab, how, state) {}

  __device__ SampleState& kept() const { return c.state[blockIdx.y]; }

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
    if (!last_block(counters + blockIdx.y, c.parts, &s.flag)) return false;
    state.listed = kept().listed;
    return true;
  }
};

// A bin, and what of the goal is left there.
struct FoundBin {
  int32_t bin;
  unsigned long long goal;
};

// The bin in which the sum over bins of `values` reaches goal_of(their sum), at least 1; kNoBin
// where it is not reached. All threads.
template <class T, class F>
__device__ __forceinline__ FoundBin find_bin(SampleShared& s, const T* values, F goal_of) {
  const int first = static_cast<int>(threadIdx.x) * kBinsEach;
  unsigned long long own[kBinsEach], mine = 0, total = 0;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) own[i] = values[first + i];
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) mine += own[i];
  const unsigned long long before = scan(s.sums, mine, total);
  const unsigned long long goal = goal_of(total);
  if (threadIdx.x == 0) s.found = kNoBin;
  __syncthreads();
  if (before < goal && before + mine >= goal) {
    unsigned long long sum = before;
    bool found = false;
#pragma unroll
    for (int i = 0; i < kBinsEach; ++i) {
      if (!found && sum + own[i] >= goal) {
        found = true;
        s.found = first + i;
        s.place = goal - sum;
      }
      sum += own[i];
    }
  }
  __syncthreads();
  const FoundBin found{s.found, s.place};
  __syncthreads();
  return found;
}

__device__ __forceinline__ unsigned long long nucleus(float top_p, unsigned long long total) {
  const double goal = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return goal < 1.0 ? 1ull : static_cast<unsigned long long>(goal);
}

// Where top_k or else top_p ends, by the row's histogram. A top_k that all candidates fit into is
// no end.
__device__ inline void first_limit(OpenRow& w) {
  FoundBin found{kNoBin, 0};
  bool by_weight = false;
  if (has_top_k(w.how)) {
    const auto top_k = static_cast<unsigned long long>(w.how.top_k);
    found = find_bin(w.s, w.counts(),
                     [&](unsigned long long count) { return top_k < count ? top_k : ~0ull; });
  }
  if (found.bin == kNoBin && has_top_p(w.how)) {
    found = find_bin(w.s, w.weights(),
                     [&](unsigned long long total) { return nucleus(w.how.top_p, total); });
    by_weight = true;
  }
  if (threadIdx.x != 0) return;
  SampleState& kept = w.kept();
  kept.bin = found.bin;
  kept.by_weight = by_weight ? 1 : 0;
  kept.goal = found.goal;
}

// f(token, logit) for the row's candidates in the bin of the limit, each once, where they are too
// many for a list.
template <class F>
__device__ __forceinline__ void each_of_bin(const OpenRow& w, F f) {
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.row.vocab; i += kSampleThreads) {
    const float l = w.row.logits[i];
    if (w.row.holds(i, l) && w.row.bin(l) == w.state.bin) f(i, l);
  }
}

__device__ __forceinline__ bool has_list(const OpenRow& w) {
  return w.state.listed <= kSampleListMax;
}

// The place of the token of that bin with which the goal is reached: from a list, which is in order
// in shared memory afterwards.
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
// shared memory how it is shared out to the parts. Of a list: as end_by_list() leaves it.
__device__ inline unsigned long long weigh_all(OpenRow& w) {
  unsigned* of_parts = w.s.of_parts();
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kSampleThreads) {
    const unsigned long long weight = w.parts()[p].weight;
    of_parts[2 * p] = static_cast<unsigned>(weight);
    of_parts[2 * p + 1] = static_cast<unsigned>(weight >> 32);
  }
  __syncthreads();
  if (w.state.bin != kNoBin) {
    const auto add = [&](int32_t token, float l) {
      if (place_of(l, token) > w.row.limit) return;
      const int32_t part = token / kSamplePart;
      add_halves(of_parts[2 * part], of_parts[2 * part + 1], w.row.weight(l));
    };
    if (has_list(w)) {
      for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.state.listed; i += kSampleThreads)
        add(static_cast<int32_t>(w.s.listed[i]),
            logit_of(static_cast<uint32_t>(w.s.listed[i] >> 32)));
    } else {
      each_of_bin(w, add);
    }
    __syncthreads();
  }
  unsigned long long mine = 0;
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < w.c.parts; p += kSampleThreads)
    mine += w.s.of_part(p);
  return sum_of_all(w.s.sums, mine);
}

// By the inverse of the cumulative sum in the order of the ids. REQUIRES: what weigh_all() leaves.
__device__ inline void draw(OpenRow& w, unsigned long long total) {
  SampleShared& s = w.s;
  const auto goal = static_cast<unsigned long long>(w.how.u * static_cast<double>(total));
  // The part, by the sums before each: a thread has one of them, or a few that follow one another.
  const int32_t parts_each = (w.c.parts + kSampleThreads - 1) / kSampleThreads;
  const int32_t first_part = static_cast<int32_t>(threadIdx.x) * parts_each;
  const int32_t end_part = min(first_part + parts_each, w.c.parts);
  unsigned long long mine = 0, all = 0;
  for (int32_t p = first_part; p < end_part; ++p) mine += s.of_part(p);
  const unsigned long long before_parts = scan(s.sums, mine, all);
  if (threadIdx.x == 0) s.found = w.c.parts;
  __syncthreads();
  if (before_parts <= goal && goal < before_parts + mine) {
    unsigned long long before = before_parts;
    int32_t part = first_part;
    while (before + s.of_part(part) <= goal) before += s.of_part(part++);
    s.found = part;
    s.place = before;
  }
  __syncthreads();
  const int32_t part = s.found;
  const unsigned long long before_part = s.place;
  __syncthreads();
  // Where the goal goes too far, which rounding may make it, the likeliest token stands in.
  if (threadIdx.x == 0) s.found = w.state.best;
  if (part < w.c.parts) {
    const int32_t first = part * kSamplePart + static_cast<int32_t>(threadIdx.x) * kSampleEach;
    float logits[kSampleEach];
#pragma unroll
    for (int32_t i = 0; i < kSampleEach; ++i)
      logits[i] = w.row.logits[min(first + i, w.row.vocab - 1)];
    unsigned long long weights[kSampleEach], of_part = 0;
    mine = 0;
#pragma unroll
    for (int32_t i = 0; i < kSampleEach; ++i) {
      const bool held = first + i < w.row.vocab && w.row.holds(first + i, logits[i]);
      weights[i] = held ? w.row.weight(logits[i]) : 0;
      mine += weights[i];
    }
    const unsigned long long before = before_part + scan(s.sums, mine, of_part);
    if (before <= goal && goal < before + mine) {
      unsigned long long sum = before;
      int32_t found = first;
#pragma unroll
      for (int32_t i = 0; i < kSampleEach; ++i) {
        sum += weights[i];
        if (sum <= goal) found = first + i + 1;
      }
      s.found = found;
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  w.c.tokens[blockIdx.y] = s.found;
  w.kept().chosen = 1;
}

}  // namespace trireme::cuda
