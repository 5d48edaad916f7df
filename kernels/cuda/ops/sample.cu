// A token from each row of logits, as runtime/sample/sampler.h says, a block of 1024 threads a row.
//
// Weights are exp((l - max) / temperature) from f64, kept as integers of 2^-46: their sums are the
// same in any order, so that a row gives the same token at every run. The rounding moves a sum by
// less than 1e-9 of it in the worst case, and with it the token in less than one draw of 10^9.
//
// The k-th largest and the end of the nucleus are found by their bits: logits as integers that
// descend as the logits do, eight bits a pass, with a histogram of counts or of weights. Of equal
// logits the lower ids come first: a thread has consecutive ids, so that a scan over the threads is
// a scan over the ids.
//
// Passes over the row, each 0.5 MB for 128K tokens, which one multiprocessor reads from L2 in about
// 7 us: one for greedy; six for plain sampling; five more each for top_k and top_p.
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/sample.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kDigits = 256;
constexpr double kOne = 70368744177664.0;  // 2^46
constexpr float kMax = 3.402823466e38f;

// The order in which tokens are preferred: ascending keys are descending logits.
__device__ __forceinline__ uint32_t key_of(float l) {
  const uint32_t bits = __float_as_uint(l == 0.0f ? 0.0f : l);  // -0 is 0
  return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

struct Shared {
  unsigned long long sums[kWarps + 1];
  unsigned long long histogram[kDigits];
  // Answers of one thread to all.
  unsigned long long answer, above;
  float best;
  int32_t best_token;
  int32_t found;
  float bests[kWarps];
  int32_t best_tokens[kWarps];
};

// The sum of the values of the threads before this one; `total` becomes that of all.
__device__ unsigned long long scan(Shared& s, unsigned long long value, unsigned long long& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  unsigned long long sum = value;
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const unsigned long long other = __shfl_up_sync(kWholeWarp, sum, static_cast<unsigned>(step));
    if (lane >= step) sum += other;
  }
  if (lane == kWarpSize - 1) s.sums[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    const unsigned long long mine = s.sums[lane];
    unsigned long long warps = mine;
#pragma unroll
    for (int step = 1; step < kWarpSize; step *= 2) {
      const unsigned long long other =
          __shfl_up_sync(kWholeWarp, warps, static_cast<unsigned>(step));
      if (lane >= step) warps += other;
    }
    s.sums[lane] = warps - mine;
    if (lane == kWarpSize - 1) s.sums[kWarps] = warps;
  }
  __syncthreads();
  const unsigned long long before = s.sums[warp] + sum - value;
  total = s.sums[kWarps];
  __syncthreads();
  return before;
}

// One block's work on one row.
struct Work {
  const SampleCall& call;
  const SampleRow& how;
  Shared& s;
  const float* row;    // after the edits
  uint64_t* weights;   // of the row
  int32_t first, end;  // this thread's ids
  // Candidates: those before (limit, last) in the order of preference, and not below min_p.
  uint32_t limit;
  int32_t last;

  __device__ bool is_candidate(int32_t i) const {
    const uint32_t key = key_of(row[i]);
    return weights[i] != kNone && (key < limit || (key == limit && i <= last));
  }
  // A weight that is no weight: min_p or an edit has left the token out. Weights are at most 2^46.
  static constexpr uint64_t kNone = ~uint64_t{0};
};

// ---- the row ----

// Applies mask and edits; null where the host has to look at the row.
__device__ const float* edit(const SampleCall& c, const SampleRow& how, Shared& s) {
  const float* raw = c.logits + int64_t{how.row} * c.stride;
  if (threadIdx.x == 0) s.found = 0;
  __syncthreads();
  int broken = 0;
  if (how.edits == 0 && how.mask < 0) {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < c.vocab; i += kThreads)
      broken |= !(raw[i] < INFINITY);
    if (broken != 0) s.found = 1;
    __syncthreads();
    return s.found != 0 ? nullptr : raw;
  }
  float* edited = c.edited + int64_t{blockIdx.x} * c.vocab;
  const uint32_t* mask =
      how.mask < 0 ? nullptr : c.masks + int64_t{how.mask} * ((c.vocab + 31) / 32);
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < c.vocab; i += kThreads) {
    broken |= !(raw[i] < INFINITY);
    edited[i] = mask == nullptr || (mask[i / 32] >> (i % 32) & 1u) != 0 ? raw[i] : -INFINITY;
  }
  if (broken != 0) s.found = 1;
  __syncthreads();
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < how.edits; e += kThreads) {
    const LogitEdit& x = c.edits[how.first_edit + e];
    float l = x.forbidden ? -INFINITY : edited[x.token] + x.bias;
    l = l > 0.0f ? fminf(l / x.repetition, kMax) : l * x.repetition;
    l = (l - x.frequency) - x.presence;
    if (!(l < INFINITY)) s.found = 1;
    edited[x.token] = l;
  }
  __syncthreads();
  return s.found != 0 ? nullptr : edited;
}

// The likeliest token, of equals the lowest id; -1 where all are -inf.
__device__ void find_best(const SampleCall& c, const float* row, Shared& s) {
  float best = -INFINITY;
  int32_t token = -1;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < c.vocab; i += kThreads) {
    if (row[i] > best) {
      best = row[i];
      token = i;
    }
  }
  const auto better = [](float a, int32_t at, float b, int32_t bt) {
    return at < 0 ? false : bt < 0 || a > b || (a == b && at < bt);
  };
  const auto reduce = [&] {
#pragma unroll
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(kWholeWarp, best, step);
      const int32_t other_token = __shfl_xor_sync(kWholeWarp, token, step);
      if (better(other, other_token, best, token)) {
        best = other;
        token = other_token;
      }
    }
  };
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  reduce();
  if (lane == 0) {
    s.bests[warp] = best;
    s.best_tokens[warp] = token;
  }
  __syncthreads();
  if (warp == 0) {
    best = s.bests[lane];
    token = s.best_tokens[lane];
    reduce();
    if (lane == 0) {
      s.best = best;
      s.best_token = token;
    }
  }
  __syncthreads();
}

__device__ void fill_weights(Work& w) {
  const double max = w.s.best, temperature = w.how.temperature;
  // min_p as a bound on logits: w >= min_p  <=>  l >= max + temperature ln(min_p).
  const double bound =
      w.how.min_p > 0.0f ? max + temperature * log(static_cast<double>(w.how.min_p)) : -INFINITY;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.call.vocab; i += kThreads) {
    const double l = w.row[i];
    w.weights[i] = l > -INFINITY && l >= bound
                       ? static_cast<uint64_t>(exp((l - max) / temperature) * kOne + 0.5)
                       : Work::kNone;
  }
  __syncthreads();
}

// ---- the order ----

// Moves (limit, last) to the token at which the sum over candidates, in the order of preference, of
// 1 (by_weight false) or of their weights reaches `goal`. REQUIRES: the sum of all does.
__device__ void cut(Work& w, bool by_weight, unsigned long long goal) {
  Shared& s = w.s;
  uint32_t prefix = 0, mask = 0;
  unsigned long long above = 0;  // the sum over keys before those of the prefix
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < kDigits) s.histogram[threadIdx.x] = 0;
    __syncthreads();
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < w.call.vocab; i += kThreads) {
      const uint32_t key = key_of(w.row[i]);
      if ((key & mask) != prefix || !w.is_candidate(i)) continue;
      atomicAdd(&s.histogram[key >> shift & (kDigits - 1)],
                by_weight ? static_cast<unsigned long long>(w.weights[i]) : 1ull);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long sum = above;
      int digit = 0;
      // The last digit that has anything ends the search, whatever rounding made of the goal.
      while (digit < kDigits - 1 && sum + s.histogram[digit] < goal) sum += s.histogram[digit++];
      s.answer = static_cast<unsigned long long>(digit);
      s.above = sum;
    }
    __syncthreads();
    prefix |= static_cast<uint32_t>(s.answer) << shift;
    mask |= 0xffu << shift;
    above = s.above;
    __syncthreads();
  }
  // Of the tokens of this very logit, which all weigh the same, the first by id.
  unsigned long long mine = 0, total = 0;
  for (int32_t i = w.first; i < w.end; ++i) {
    if (key_of(w.row[i]) == prefix && w.is_candidate(i)) mine += by_weight ? w.weights[i] : 1;
  }
  const unsigned long long before = above + scan(s, mine, total);
  if (threadIdx.x == 0) s.found = w.call.vocab - 1;
  __syncthreads();
  if (before < goal && before + mine >= goal) {
    unsigned long long sum = before;
    for (int32_t i = w.first; i < w.end; ++i) {
      if (key_of(w.row[i]) != prefix || !w.is_candidate(i)) continue;
      sum += by_weight ? w.weights[i] : 1;
      if (sum >= goal) {
        s.found = i;
        break;
      }
    }
  }
  __syncthreads();
  w.limit = prefix;
  w.last = s.found;
  __syncthreads();
}

// The sum over all candidates of 1 or of their weights, and of those of the threads before.
__device__ unsigned long long sum_up(Work& w, bool by_weight, unsigned long long& mine,
                                     unsigned long long& total) {
  mine = 0;
  for (int32_t i = w.first; i < w.end; ++i) {
    if (w.is_candidate(i)) mine += by_weight ? w.weights[i] : 1;
  }
  return scan(w.s, mine, total);
}

__device__ int32_t draw(Work& w) {
  unsigned long long mine = 0, total = 0;
  if (w.how.top_k >= 1) {
    sum_up(w, false, mine, total);
    if (static_cast<unsigned long long>(w.how.top_k) < total)
      cut(w, false, static_cast<unsigned long long>(w.how.top_k));
  }
  if (w.how.top_p < 1.0f) {
    sum_up(w, true, mine, total);
    const double goal = ceil(static_cast<double>(w.how.top_p) * static_cast<double>(total));
    cut(w, true, goal < 1.0 ? 1ull : static_cast<unsigned long long>(goal));
  }
  const unsigned long long before = sum_up(w, true, mine, total);
  const auto goal = static_cast<unsigned long long>(w.how.u * static_cast<double>(total));
  if (threadIdx.x == 0) w.s.found = w.s.best_token;
  __syncthreads();
  if (before <= goal && goal < before + mine) {
    unsigned long long sum = before;
    for (int32_t i = w.first; i < w.end; ++i) {
      if (!w.is_candidate(i)) continue;
      sum += w.weights[i];
      if (sum > goal) {
        w.s.found = i;
        break;
      }
    }
  }
  __syncthreads();
  return w.s.found;
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleCall c) {
  Shared& s = *shared<Shared>();
  const SampleRow& how = c.rows[blockIdx.x];
  const float* row = edit(c, how, s);
  int32_t token = -1;
  if (row != nullptr) {
    find_best(c, row, s);
    token = s.best_token;
    if (token >= 0 && how.temperature > 0.0f) {
      const int32_t each = (c.vocab + kThreads - 1) / kThreads;
      const int32_t first = static_cast<int32_t>(threadIdx.x) * each;
      Work work{c,
                how,
                s,
                row,
                c.weights + int64_t{blockIdx.x} * c.vocab,
                first < c.vocab ? first : c.vocab,
                first + each < c.vocab ? first + each : c.vocab,
                ~uint32_t{0},
                c.vocab};
      fill_weights(work);
      token = draw(work);
    }
  }
  if (threadIdx.x == 0) c.tokens[blockIdx.x] = token;
}

}  // namespace

void queue_sample(Context& context, const SampleCall& call) {
  launch(context, "sample",
         {dim3(static_cast<unsigned>(call.count)), dim3(kThreads), sizeof(Shared)}, sample_kernel,
         call);
}

}  // namespace trireme::cuda
