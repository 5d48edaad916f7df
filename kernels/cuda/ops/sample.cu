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
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/sample_row.cuh"

namespace trireme::cuda {
namespace {

constexpr float kMax = 3.402823466e38f;

struct Best : SampleBest {
  __device__ Best() : SampleBest{-INFINITY, INFINITY, -1, 0} {}
  __device__ void add(int32_t at, float l) {
    if (!(l < INFINITY)) broken = 1;
    if (!(l > -INFINITY)) return;
    if (l > max) {
      max = l;
      token = at;
    }
    min = fminf(min, l);
  }
  __device__ void add(const SampleBest& b) {
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
    mine = lane_of_warp() < kSampleWarps ? of_warps[lane_of_warp()] : Best();
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
  const OfThread mine;
  float logits[kSampleEach];
  uint32_t allowed[kSampleEach];
  mine.load(raw, c.vocab, logits);
#pragma unroll
  for (uint32_t& bits : allowed) bits = ~0u;
  if (mask != nullptr) {
#pragma unroll
    for (int i = 0; i < kSampleEach; ++i) allowed[i] = mask[min(mine.token(i), c.vocab - 1) / 32];
  }
  bool broken = false;
#pragma unroll
  for (int i = 0; i < kSampleEach; ++i) {
    const int32_t token = mine.token(i);
    if (token >= c.vocab) break;
    broken = broken || !(logits[i] < INFINITY);
    edited[token] = (allowed[i] >> (token % 32) & 1u) != 0 ? logits[i] : -INFINITY;
  }
  __syncthreads();
  for (int32_t e = static_cast<int32_t>(threadIdx.x); e < how.edits; e += kSampleThreads) {
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
  Best of_warps[kSampleWarps];
  int flag;
};

// Of a row's parts, in the first thread of the last block of the row. False: in all other blocks.
__device__ bool best_of_row(SamplePart* parts, int32_t count, unsigned* counter, BestShared& s,
                            Best& best) {
  best = best_of_all(best, s.of_warps);
  if (threadIdx.x == 0) parts[blockIdx.x] = {best, 0};
  if (!last_block(counter, count, &s.flag)) return false;
  best = Best();
  for (int32_t p = static_cast<int32_t>(threadIdx.x); p < count; p += kSampleThreads)
    best.add(parts[p].best);
  best = best_of_all(best, s.of_warps);
  return true;
}

__global__ void __launch_bounds__(kSampleThreads) part_best_kernel(BestCall c, unsigned* counters) {
  next_may_start();
  previous_done();
  Best best;
  each_of_part(c.logits + int64_t{blockIdx.y} * c.stride, c.vocab,
               [&](int32_t token, float l) { best.add(token, l); });
  if (!best_of_row(c.part + int64_t{blockIdx.y} * c.parts, c.parts, counters + blockIdx.y,
                   *shared<BestShared>(), best) ||
      threadIdx.x != 0)
    return;
  const int32_t token = best.token < 0 ? BestLogit::kNone : c.first_token + best.token;
  c.best[blockIdx.y] = {best.max, best.broken != 0 ? BestLogit::kBroken : token};
}

__global__ void __launch_bounds__(kSampleThreads)
    best_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                unsigned* counters) {
  next_may_start();
  previous_done();
  BestShared& shared_area = *shared<BestShared>();
  const SampleRow how = row_of(c, few);
  Best mine;
  if (is_edited(how) && edit_part(c, how)) mine.broken = 1;
  each_of_part(logits_of(c, how), c.vocab, [&](int32_t token, float l) { mine.add(token, l); });
  if (!best_of_row(c.part + int64_t{blockIdx.y} * c.parts, c.parts, counters + blockIdx.y,
                   shared_area, mine) ||
      threadIdx.x != 0)
    return;
  SampleState state{};
  state.best = mine.broken != 0 ? -1 : mine.token;
  state.chosen = state.best < 0 || !is_drawn(how) ? 1 : 0;
  state.max = mine.max;
  set_bins(state, mine.min, how.temperature);
  state.bin = kNoBin;
  c.state[blockIdx.y] = state;
  if (state.chosen != 0) c.tokens[blockIdx.y] = state.best;
}

__global__ void __launch_bounds__(kSampleThreads)
    weigh_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                 unsigned* counters) {
  next_may_start();
  previous_done();
  OpenRow w(c, few);
  if (w.state.chosen != 0) return;
  if (!has_top_k(w.how) && !has_top_p(w.how)) {
    unsigned long long sum = 0;
    w.each_candidate([&](int32_t, float l) { sum += w.row.weight(l); });
    w.leave_weight(sum);
    if (w.is_last(counters)) draw(w, weigh_all(w));
    return;
  }
  SampleHistogram& bins = w.s.by_part.bins;
  for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kSampleThreads) bins.clear(b);
  __syncthreads();
  const bool counted = has_top_k(w.how);
  w.each_candidate([&](int32_t, float l) { bins.add(w.row.bin(l), w.row.weight(l), counted); });
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kSampleThreads) {
    if (const unsigned long long weight = bins.weight(b); weight != 0)
      atomicAdd(&w.weights()[b], weight);
    if (bins.counts[b] != 0) atomicAdd(&w.counts()[b], bins.counts[b]);
  }
  if (w.is_last(counters)) first_limit(w);
}

__global__ void __launch_bounds__(kSampleThreads)
    limit_kernel(const __grid_constant__ SampleCall c, const __grid_constant__ SampleRows few,
                 unsigned* counters) {
  next_may_start();
  previous_done();
  OpenRow w(c, few);
  if (w.state.chosen != 0) return;
  const int32_t limit_bin = w.state.bin;
  unsigned long long sum = 0;
  w.each_candidate([&](int32_t token, float l) {
    const int32_t bin = w.row.bin(l);
    if (limit_bin == kNoBin || bin < limit_bin) {
      sum += w.row.weight(l);
    } else if (bin == limit_bin) {
      const int32_t at = atomicAdd(&w.kept().listed, 1);
      if (at < kSampleListMax) w.list()[at] = token;
    }
  });
  w.leave_weight(sum);
  if (!w.is_last(counters)) return;

  if (limit_bin != kNoBin) w.row.limit = has_list(w) ? end_by_list(w) : end_by_halves(w);
  const unsigned long long total = weigh_all(w);
  const bool nucleus_next = limit_bin != kNoBin && w.state.by_weight == 0 && has_top_p(w.how);
  if (!nucleus_next) {
    draw(w, total);
    for (int b = static_cast<int>(threadIdx.x); b < kSampleBins; b += kSampleThreads) {
      w.weights()[b] = 0;
      w.counts()[b] = 0;
    }
    return;
  }
  // Of what top_k leaves: it is reached within that, so the histogram of all tokens shows where.
  const FoundBin found =
      find_bin(w.s, w.weights(), [&](unsigned long long) { return nucleus(w.how.top_p, total); });
  if (threadIdx.x != 0) return;
  SampleState& kept = w.kept();
  kept.bin = found.bin;
  kept.by_weight = 1;
  kept.goal = found.goal;
  kept.listed = 0;
}

}  // namespace

void queue_best(Context& context, const BestCall& call) {
  unsigned* counters = context.counters(static_cast<size_t>(call.count));
  if (counters == nullptr) return;  // the context holds the error
  const Grid grid{dim3(static_cast<unsigned>(call.parts), static_cast<unsigned>(call.count)),
                  dim3(kSampleThreads), sizeof(BestShared), true};
  launch(context, "sample", grid, part_best_kernel, call, counters);
}

void queue_sample(Context& context, SampleCall call, std::span<const SampleRow> rows) {
  bool drawn = false, limited = false, twice = false;
  for (const SampleRow& r : rows) {
    if (!is_drawn(r)) continue;
    drawn = true;
    limited = limited || has_top_k(r) || has_top_p(r);
    twice = twice || (has_top_k(r) && has_top_p(r));
  }
  unsigned* counters = context.counters(rows.size());
  if (counters == nullptr) return;  // the context holds the error
  SampleRows few{};
  if (call.rows == nullptr) std::copy(rows.begin(), rows.end(), few.row);
  const dim3 blocks(static_cast<unsigned>(call.parts), static_cast<unsigned>(call.count));
  const Grid best{blocks, dim3(kSampleThreads), sizeof(BestShared), true};
  const Grid more{blocks, dim3(kSampleThreads), sample_shared_bytes(call.parts), true};
  launch(context, "sample", best, best_kernel, call, few, counters);
  if (drawn) launch(context, "sample", more, weigh_kernel, call, few, counters);
  if (limited) launch(context, "sample", more, limit_kernel, call, few, counters);
  if (twice) launch(context, "sample", more, limit_kernel, call, few, counters);
}

}  // namespace trireme::cuda
