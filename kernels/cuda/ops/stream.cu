// Products of one row: the weights are read once, straight into fused multiply-adds, and the time
// is that of reading them.
//
// Each multiprocessor has one block, and each block reads its share of the rows of all calls. What
// such a product loses is its ends: memory idles while the last kernels' results are added up,
// while blocks begin, while x is waited for. So a block asks for its first 112 KB of weights as
// soon as it is there, which may be several kernels early (device/overlap.cuh): 3.6 us of reading.
//
// That is more than half of a multiprocessor's shared memory, so that no two blocks meet on one
// while another has none: with rings of 96 KB they did, as attention left no room here and there,
// and a step of 8B parameters took 5.8 ms where it takes 4.8 otherwise (on an H200, 192 tokens of
// context). Decode attention of heads of 128 has room beside a block.
//
// Within a block, threads stand beside each other on inputs, 16 bytes of each row a piece: a thread
// keeps its inputs of x in registers for all rows, copies its own pieces into a ring in shared
// memory and multiplies them itself, so that nobody waits for anybody. Its pieces of four rows, a
// group, are a bundle for each of its chunks of the inputs. Sums of a warp go to shared memory,
// where a unit's, as many groups as the ring holds, are added in the order of the warps.
//
// Measured on one H200, of 4.24 TB/s to copy, a step of one row at 1024 tokens: 8B 4.36 ms, 81 % of
// its bytes' time, RWKV-7 7.2B 4.07, 80 %, by this kernel as part of one that could do more (see
// below); 4.81 and 4.45 with rings of 96 KB, of which two met, and weights that L2 kept as long as
// activations. Alone, 14336 x 4096 in bf16 took 29.0 us, 96 %, 4096 x 14336 29.6 us, 94 %, 4096 x
// 4096 9.5 us, 83 %.
//
// Ruled out by measuring: weights read into registers (64 of them, four blocks of 8 warps on a
// multiprocessor, two rows a warp): 86, 73 and 65 %; asking L2 for weights ahead, as a block begins
// (0.1 ms a step longer for each 12 MB) or as it has asked for all of its own (12 MB: nothing; 24
// MB: 3 % longer; 36 MB: 10 %); rings of 64 KB (4.88 ms a step of 8B, 4.72 with 96); two rows at
// once (5.7 ms a step, where tensor cores take 4.7). And all products from one attention to the
// next as stages of one launch, which meet at a barrier of the grid, with the norms made by each
// block and weights asked for across stages: 4.43 ms a step of 8B parameters and 4.41 of RWKV-7
// 7.2B, where launches took 4.36 and 4.07 (1.1B: 0.95 and 0.99). What follows a barrier, a row's
// way from L2, its norm and the first bundles, took 5 to 8 us; rings of 192 KB, L2 asked for more,
// and units of half the size that blocks take as they go were slower.
//
// Of equal shares of 60 us the last block was done 13 us after the first. Not measured: units that
// blocks take as they go with such rings; it had both with those of 96 KB.
//
// Products that do not wait for each other go in one launch.
//
// What stands before them, an RMS norm, is made by each block from all of x, whose gains are there
// by then, instead of by a kernel between two products; and a product that is to be added to the
// residual stream adds itself (linear.cc). A block knows its share and its gains before x is there.
//
// nvcc 13.0, sm_90, 16-bit weights, rows of up to 4 / 8 / 16 chunks: 96 / 128 / 196 registers, with
// a norm 101, no spills.
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kTogether = 4;  // rows of w of a group
constexpr int kBundles = 7;   // of the ring
constexpr int kChunksMax = 16;
constexpr int64_t kWideBytes = 2048;  // of a row: half of the threads have a piece of it

template <class W>
constexpr int kWide = 16 / static_cast<int>(sizeof(W));  // numbers of a piece
template <class W>
constexpr int kChunk = kThreads* kWide<W>;  // inputs of a piece of each thread

constexpr int kPartials = kBundles * kTogether * kWarps;  // sums that a unit leaves at most
constexpr int kNormSums = kWarpSize;
constexpr size_t kSharedBytes =
    size_t{kBundles} * kTogether * kThreads * 16 + (2 * kPartials + kNormSums) * sizeof(float);

// A call costs its groups times its chunks.
struct Calls {
  Call each[kCallsMax];
  int32_t cost_before[kCallsMax];  // of the calls before it
  int32_t cost;                    // of all
  int32_t count;
  bool aligned;    // rows of x, to 16 bytes
  NormOfRow norm;  // kNormed
};

// Pieces of a row, of the thread whose first one begins at input `own`; it may have none.
template <class W>
__host__ __device__ __forceinline__ int chunks_of(const Call& c, int own = 0) {
  return (static_cast<int>(c.w_stride) - own + kChunk<W> - 1) / kChunk<W>;
}
// Rows of w; with kSwiglu gate and value of an output follow each other.
__host__ __device__ __forceinline__ int64_t rows_of(const Call& c) {
  return c.epilogue == Epilogue::kSwiglu ? 2 * c.outputs : c.outputs;
}
__host__ __device__ __forceinline__ int groups_of(const Call& c) {
  return static_cast<int>((rows_of(c) + kTogether - 1) / kTogether);
}

// What a block has of a call.
struct Groups {
  int first, end;
};
template <class W>
__device__ __forceinline__ Groups groups_of_block(const Calls& calls, int call) {
  const Call& c = calls.each[call];
  const int chunks = chunks_of<W>(c), groups = groups_of(c);
  const auto block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const auto at = [&](int n) {
    const int from = quotient(calls.cost * n, blocks) - calls.cost_before[call];
    return from <= 0 ? 0 : min(quotient(from + chunks - 1, chunks), groups);
  };
  return {at(block), at(block + 1)};
}

// Of `call`, or of the first one after it of which the block has any; that becomes `call`. None
// where call becomes the number of calls.
template <class W>
__device__ __forceinline__ Groups next_groups(const Calls& calls, int& call) {
  Groups groups{0, 0};
  for (; call < calls.count; ++call) {
    groups = groups_of_block<W>(calls, call);
    if (groups.first < groups.end) break;
  }
  return groups;
}

// The pieces that a thread has not asked for yet: of all calls in their order, its block's groups,
// and of each the chunks.
template <class W>
struct Asking {
  int call = 0;
  int group = 0, end = 0;
  int rows = 0;  // of the call's matrix
  int chunk = 0, chunks = 0;
  const W* at = nullptr;
  int64_t odd = 0;   // numbers from an even row to the next
  int64_t pair = 0;  // from an even row to the next even one

  // To the first piece of `call` or of a later one; group is end where there is none.
  __device__ __forceinline__ void seek(const Calls& calls, int own) {
    group = end = 0;
    for (;; ++call) {
      const Groups groups = next_groups<W>(calls, call);
      if (call == calls.count) return;
      const Call& c = calls.each[call];
      chunks = chunks_of<W>(c, own);
      if (chunks == 0) continue;
      const bool gated = c.epilogue == Epilogue::kSwiglu;
      group = groups.first;
      end = groups.end;
      rows = static_cast<int>(rows_of(c));
      chunk = 0;
      odd = gated ? c.outputs * c.w_stride : c.w_stride;
      pair = gated ? c.w_stride : 2 * c.w_stride;
      at = static_cast<const W*>(c.w) + own + int64_t{kTogether / 2} * group * pair;
      return;
    }
  }
  // Asks for the next bundle, if there is one. Where the matrix ends within a group, for the
  // group's first row again.
  __device__ __forceinline__ void ask(const Calls& calls, int own, W* slot) {
    if (group < end) {
      const int left = rows - group * kTogether;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int64_t to_row = i < left ? i / 2 * pair + i % 2 * odd : 0;
        copy_16_bytes_once(slot + i * kChunk<W>, at + to_row);
      }
      at += kChunk<W>;
      if (++chunk == chunks) {
        at += kTogether / 2 * pair - int64_t{chunks} * kChunk<W>;
        chunk = 0;
        if (++group == end) {
          ++call;
          seek(calls, own);
        }
      }
    }
    copies_commit();
  }
};

// The output of a unit, groups [first, end), that a thread finishes; it may have none. What is
// added to it is asked for while the unit is multiplied.
static_assert(kBundles * kTogether <= kThreads);
struct Ending {
  int place;  // among the unit's outputs
  int each;   // rows of w of an output
  bool stores;
  int64_t output;
  float bias[2];
  float before;  // of what is there, if the product is added to it

  __device__ __forceinline__ Ending(const Call& c, int first, int end)
      : place(static_cast<int>(threadIdx.x)), each(c.epilogue == Epilogue::kSwiglu ? 2 : 1) {
    output = int64_t{first} * (kTogether / each) + place;
    stores = place < (end - first) * kTogether / each && output < c.outputs;
#pragma unroll
    for (int e = 0; e < 2; ++e) bias[e] = bias_of(c, output + e * c.outputs);
    before = *(stores && c.adds ? c.y + output : &kNothing);
  }

  // partial: [rows of w][kWarps].
  __device__ __forceinline__ void store(const Call& c, const float* partial) const {
    if (!stores) return;
    float sums[2] = {};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (e == each) break;
#pragma unroll
      for (int k = 0; k < kWarps; k += 4) {
        const Pack<float, 4> four = load<4>(partial + (place * each + e) * kWarps + k);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[e] += four.at[j];
      }
      sums[e] += bias[e];
    }
    const float x = each == 2 ? swiglu(sums[0], sums[1]) : finished(c, sums[0]);
    c.y[output] = c.adds ? before + x : x;
  }
};

// A thread's inputs of x, zeros beyond the last; `read` leaves those of further chunks alone.
template <class W, int kChunks>
struct Inputs {
  float at[kChunks][kWide<W>];

  // Numbers of x, or of what has its length: gains of a norm.
  __device__ __forceinline__ void read(Call c, const float* x, int own, int chunks, bool aligned) {
    c.x = x;
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      if (i >= chunks) break;
      inputs_at(c, own + i * kChunk<W>, aligned, at[i]);
    }
  }
};

// x, which is zeros beyond its inputs, becomes its norm. Every block has all of x. sums: kNormSums
// floats of shared memory.
template <class W, int kChunks>
__device__ __forceinline__ void norm_inputs(const Calls& calls, const Inputs<W, kChunks>& gain,
                                            float* sums, Inputs<W, kChunks>& x) {
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
#pragma unroll
    for (int j = 0; j < kWide<W>; ++j) squares = fmaf(x.at[i][j], x.at[i][j], squares);
  }
  const auto count = static_cast<float>(calls.each[0].inputs);
  const float inverse = 1.0f / sqrtf(block_sum_once(squares, sums) / count + calls.norm.epsilon);
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
#pragma unroll
    for (int j = 0; j < kWide<W>; ++j) {
      x.at[i][j] *= inverse;
      if (calls.norm.gain != nullptr) x.at[i][j] *= gain.at[i][j];
    }
  }
}

// kChunks: of a row at most. kNormed: all calls have the norm of the same x.
template <class W, int kChunks, bool kNormed>
__global__ void __launch_bounds__(kThreads, 1) stream_kernel(const __grid_constant__ Calls calls) {
  next_may_start();
  const int warp = warp_of_block(), lane = lane_of_warp();
  const int own = static_cast<int>(threadIdx.x) * kWide<W>;
  W* ring = shared<W>() + own;
  float* partials = reinterpret_cast<float*>(shared<W>() + kBundles * kTogether * kChunk<W>);

  Asking<W> asking;
  asking.seek(calls, own);
#pragma unroll 1
  for (int i = 0; i < kBundles; ++i) asking.ask(calls, own, ring + i * kTogether * kChunk<W>);
  // All that can be known is known when x is there.
  int call = 0;
  Groups groups = next_groups<W>(calls, call);
  Inputs<W, kChunks> x = {};
  if constexpr (kNormed) {
    const Call& c = calls.each[0];
    const int chunks = chunks_of<W>(c, own);
    Inputs<W, kChunks> gain = {};
    if (calls.norm.gain != nullptr) gain.read(c, calls.norm.gain, own, chunks, calls.aligned);
    previous_done();
    x.read(c, c.x, own, chunks, calls.aligned);
    norm_inputs(calls, gain, partials + 2 * kPartials, x);
  } else {
    previous_done();
  }

  int slot = 0, parity = 0;
#pragma unroll 1
  for (; call < calls.count; groups = next_groups<W>(calls, ++call)) {
    const Call& c = calls.each[call];
    const int chunks = chunks_of<W>(c, own);
    if constexpr (!kNormed) x.read(c, c.x, own, chunks, calls.aligned);
    const int unit_groups = quotient(kBundles + chunks_of<W>(c) - 1, chunks_of<W>(c));
#pragma unroll 1
    for (int first = groups.first; first < groups.end; first += unit_groups) {
      const int end = min(first + unit_groups, groups.end);
      float* partial = partials + parity * kPartials;
      parity ^= 1;
      const Ending ending(c, first, end);
#pragma unroll 1
      for (int group = first; group < end; ++group) {
        float sums[kTogether] = {};
#pragma unroll
        for (int i = 0; i < kChunks; ++i) {
          if (i >= chunks) break;
          copies_wait<kBundles - 1>();
          W* bundle = ring + slot * kTogether * kChunk<W>;
          Pack<W, kWide<W>> packs[kTogether];
#pragma unroll
          for (int t = 0; t < kTogether; ++t) packs[t] = load<kWide<W>>(bundle + t * kChunk<W>);
#pragma unroll
          for (int t = 0; t < kTogether; ++t) {
            float numbers[kWide<W>];
            to_floats(packs[t], numbers);
#pragma unroll
            for (int j = 0; j < kWide<W>; ++j) sums[t] = fmaf(numbers[j], x.at[i][j], sums[t]);
          }
          asking.ask(calls, own, bundle);
          slot = slot + 1 < kBundles ? slot + 1 : 0;
        }
        fold_sums<kWarpSize, kTogether>(sums, lane);  // eight lanes have each
        if (lane % 8 == 0)
          partial[((group - first) * kTogether + lane / 8) * kWarps + warp] = sums[0];
      }
      __syncthreads();
      ending.store(c, partial);
    }
  }
}

template <class W, int kChunks, bool kNormed>
void launch_calls(Context& context, const Calls& calls) {
  launch(
      context, "linear",
      {dim3(static_cast<unsigned>(context.multiprocessors())), dim3(kThreads), kSharedBytes, true},
      stream_kernel<W, kChunks, kNormed>, calls);
}

constexpr int kNormedChunks = 4;

// Of at most kNormedChunks chunks where there is a norm.
template <class W>
void stream_wide_rows(Context& context, std::span<const Call> each, const NormOfRow* norm) {
  Calls calls{};
  calls.count = static_cast<int32_t>(each.size());
  calls.aligned = true;
  int chunks_most = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    const Call& c = calls.each[i] = each[i];
    calls.aligned = calls.aligned && aligned4(c.x, c.x_stride);
    calls.cost_before[i] = calls.cost;
    calls.cost += groups_of(c) * chunks_of<W>(c);
    chunks_most = std::max(chunks_most, chunks_of<W>(c));
  }
  if (norm != nullptr) {
    calls.norm = *norm;
    calls.aligned = calls.aligned && aligned4(norm->gain, 0);
    return launch_calls<W, kNormedChunks, true>(context, calls);
  }
  if (chunks_most <= 4) return launch_calls<W, 4, false>(context, calls);
  if (chunks_most <= 8) return launch_calls<W, 8, false>(context, calls);
  launch_calls<W, kChunksMax, false>(context, calls);
}

// Rows that leave most of a block without a piece go another way, and those that a thread has no
// registers for; all do on GPUs that have less shared memory (sm_86, sm_89).
bool is_wide(const Context& context, DType dtype, const Call& c) {
  const int64_t bytes = c.w_stride * static_cast<int64_t>(dtype_bytes(dtype));
  return bytes >= kWideBytes && bytes <= kChunksMax * kThreads * 16 &&
         context.shared_bytes_max() >= kSharedBytes;
}

}  // namespace

void stream_products(Context& context, DType dtype, std::span<const Call> calls) {
  Call wide[kCallsMax], narrow[kCallsMax];
  size_t wide_count = 0, narrow_count = 0;
  for (const Call& c : calls)
    (is_wide(context, dtype, c) ? wide[wide_count++] : narrow[narrow_count++]) = c;
  if (narrow_count > 0) stream_short_rows(context, dtype, {narrow, narrow_count});
  if (wide_count == 0) return;
  dispatch_floats(dtype, [&](auto zero) {
    stream_wide_rows<decltype(zero)>(context, {wide, wide_count}, nullptr);
  });
}

bool stream_normed_products(Context& context, DType dtype, const NormOfRow& norm,
                            std::span<const Call> calls) {
  for (const Call& c : calls) {
    const int64_t bytes = c.w_stride * static_cast<int64_t>(dtype_bytes(dtype));
    if (!is_wide(context, dtype, c) || bytes > kNormedChunks * kThreads * 16) return false;
  }
  dispatch_floats(dtype,
                  [&](auto zero) { stream_wide_rows<decltype(zero)>(context, calls, &norm); });
  return true;
}

}  // namespace trireme::cuda
