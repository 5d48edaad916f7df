// Products of one row: the weights are read once, straight into fused multiply-adds, and the time
// is that of reading them.
//
// What such products lose is what is between them: memory idles while the last sums are added up,
// while a norm computes, while the next kernel begins. So products that follow one another, with
// the norms between them, are stages of one launch. Each multiprocessor has one block, which reads
// its share of the rows of each product; a stage waits for the one before it at a barrier of all
// blocks (device/grid_barrier.cuh), but weights wait for nothing: a ring of 112 KB of shared memory
// is asked for ahead, across stages. At 4.24 TB/s that is 3.6 us of reading, where the barrier, the
// row's way and a norm take some 3.
//
// The norm is every block's own work: the row is 16 KB in L2 and what each thread multiplies by is
// in its registers afterwards. What it writes, the row and the sum before it, is shared out among
// the blocks; where it stands is still read by others, it is written after the next barrier.
//
// Within a block, threads stand beside each other on inputs, 16 bytes of each row a piece: a thread
// keeps its inputs of x in registers for all rows, copies its own pieces into the ring and
// multiplies them itself, so that nobody waits for anybody. Its pieces of four rows are a bundle.
// Sums of a warp go to shared memory, where those of a unit are added in the order of the warps.
//
// The block has more than half of a multiprocessor's shared memory, so that no two meet on one
// while another has none: with rings of 96 KB they did, as attention between them left no room
// here and there, and a step of 8B parameters took 5.8 ms where it takes 4.8 (measured on an H200,
// 192 tokens of context). Attention of heads of 128 has room beside it.
//
// Measured on one H200, of 4.24 TB/s to copy, as launches of their own with equal shares: 14336 x
// 4096 in bf16 29.0 us, 96 %; 4096 x 14336 29.6 us, 94 %; 4096 x 4096 9.5 us, 83 %. As launches of
// a step of 8B parameters, with rings of 96 KB that filled while the kernel before ran, a layer
// took 141 us of the 104 that its bytes need: products 121, attention 12, norms 7. Expected now:
// products and norms 107.
//
// Ruled out by measuring: weights read into registers (64 of them, four blocks of 8 warps on a
// multiprocessor, two rows a warp): 86, 73 and 65 %; asking L2 for weights, as a block begins (0.1
// ms a step longer for each 12 MB) or as it has asked for all of its own (12 MB: nothing; 24 MB:
// 3 % longer; 36 MB: 10 %); a ring of 64 KB (4.88 ms a step, not 4.72); two rows at once (5.7 ms a
// step, where tensor cores take 4.7).
#include <algorithm>

#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/floats.cuh"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/grid_barrier.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/product.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/formats.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops/stream.h"

namespace trireme::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kTogether = 4;  // rows of w of a bundle
constexpr int kBundles = 7;
constexpr int kChunksMax = 16;  // of a row
constexpr int kNormChunksMax = 4;
constexpr int kRegisters = 184;  // with which decode attention of heads of 128 has room beside it

template <class W>
constexpr int kWide = 16 / static_cast<int>(sizeof(W));  // numbers of a piece
template <class W>
constexpr int kChunk = kThreads* kWide<W>;  // inputs of a piece of each thread

constexpr int kPartials = kBundles * kTogether * kWarps;  // sums that a unit leaves at most
constexpr size_t kSharedBytes =
    size_t{kBundles} * kTogether * kThreads * 16 + (2 * kPartials + 2 * kWarpSize) * sizeof(float);

struct Chain {
  Stream stream;
  // What a call costs: its groups times its chunks. Of each call, what those before it in its stage
  // cost, and what the stage does.
  int32_t cost_before[kStreamCallsMax], cost_of_stage[kStreamCallsMax];
  unsigned* arrivals;
  float* stash;  // of a row: sums of add_norm() until they may be written
};

template <class W>
__device__ __forceinline__ int chunks_of(const Call& c) {
  return static_cast<int>((c.w_stride + kChunk<W> - 1) / kChunk<W>);
}
// Rows of w; with kSwiglu gate and value of an output follow each other.
__device__ __forceinline__ int rows_of_call(const Call& c) {
  return static_cast<int>(c.epilogue == Epilogue::kSwiglu ? 2 * c.outputs : c.outputs);
}

// What a block has of a call: groups of kTogether rows.
struct Groups {
  int first, end;
};
template <class W>
__device__ __forceinline__ Groups groups_of_block(const Chain& chain, int call) {
  const Call& c = chain.stream.each[call];
  const int chunks = chunks_of<W>(c), groups = (rows_of_call(c) + kTogether - 1) / kTogether;
  const int cost = chain.cost_of_stage[call], before = chain.cost_before[call];
  const auto block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const auto at = [&](int n) {
    const int from = quotient(cost * n, blocks) - before;
    return from <= 0 ? 0 : min(quotient(from + chunks - 1, chunks), groups);
  };
  return {at(block), at(block + 1)};
}

// The pieces that a thread has not asked for yet: of all calls in their order, its block's groups,
// and of each the chunks.
template <class W>
struct Asking {
  int call = 0;
  int group = 0, end = 0, groups_rows = 0;
  int chunk = 0, chunks = 0;
  const W* at = nullptr;
  int64_t odd = 0;   // numbers from an even row to the next
  int64_t pair = 0;  // from an even row to the next even one

  // To the first piece of `call` or of a later one; group is end where there is none.
  __device__ __forceinline__ void seek(const Chain& chain, int own) {
    group = end = 0;
    for (; call < chain.stream.call_count; ++call) {
      const Call& c = chain.stream.each[call];
      const Groups groups = groups_of_block<W>(chain, call);
      const int left = static_cast<int>(c.w_stride) - own;
      if (groups.first >= groups.end || left <= 0) continue;
      const bool gated = c.epilogue == Epilogue::kSwiglu;
      group = groups.first;
      end = groups.end;
      groups_rows = rows_of_call(c);
      chunk = 0;
      chunks = (left + kChunk<W> - 1) / kChunk<W>;
      odd = gated ? c.outputs * c.w_stride : c.w_stride;
      pair = gated ? c.w_stride : 2 * c.w_stride;
      at = static_cast<const W*>(c.w) + own + int64_t{kTogether / 2} * group * pair;
      return;
    }
  }
  // Asks for the next bundle, if there is one. Where the matrix ends within a group, for the
  // group's first row again.
  __device__ __forceinline__ void ask(const Chain& chain, int own, W* slot) {
    if (group < end) {
      const int left = groups_rows - group * kTogether;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int64_t to_row = i < left ? i / 2 * pair + i % 2 * odd : 0;
        copy_16_bytes_ahead(slot + i * kChunk<W>, at + to_row);
      }
      at += kChunk<W>;
      if (++chunk == chunks) {
        at += kTogether / 2 * pair - int64_t{chunks} * kChunk<W>;
        chunk = 0;
        if (++group == end) {
          ++call;
          seek(chain, own);
        }
      }
    }
    copies_commit();
  }
};

// Stores the outputs of groups [first, end). partial: [rows of w][kWarps].
__device__ __forceinline__ void finish_unit(const Call& c, int first, int end,
                                            const float* partial) {
  const bool gated = c.epilogue == Epilogue::kSwiglu;
  const int each = gated ? 2 : 1;  // rows of w of an output
  const int outputs = (end - first) * kTogether / each;
  for (int o = static_cast<int>(threadIdx.x); o < outputs; o += kThreads) {
    const int64_t output = int64_t{first} * (kTogether / each) + o;
    if (output >= c.outputs) continue;
    float sums[2] = {};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (e == each) break;
#pragma unroll
      for (int k = 0; k < kWarps; k += 4) {
        const Pack<float, 4> four = load<4>(partial + (o * each + e) * kWarps + k);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[e] += four.at[j];
      }
      if (c.bias != nullptr) sums[e] += c.bias[output + e * c.outputs];
    }
    c.y[output] = gated ? swiglu(sums[0], sums[1]) : finished(c, sums[0]);
  }
}

// kWidth numbers from `at` on; `fresh`: which other blocks may have written.
template <int kWidth, bool kFresh>
__device__ __forceinline__ void read(const float* at, float (&to)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    const Pack<float, 4> four = kFresh ? load_fresh<4>(at + i) : load<4>(at + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) to[i + j] = four.at[j];
  }
}
template <int kWidth>
__device__ __forceinline__ void write(float* at, const float (&from)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; i += 4) {
    Pack<float, 4> four;
#pragma unroll
    for (int j = 0; j < 4; ++j) four.at[j] = from[i + j];
    store_out<4>(at + i, four);
  }
}

// A thread's part of the row that a stage's norm makes, up to kNow chunks, and what it needs for it
// that the launch does not write: on its way before the stages before have ended.
template <class W, int kNow>
struct Row {
  static constexpr int kPiece = kWide<W>;
  float now[kNow][kPiece];                       // what the norm made
  float gain[kNow][kPiece], bias[kNow][kPiece];  // of the norm; then of a shift:
  const float* state = nullptr;                  // the row before; null: zeros

  // Which of the row's pieces this block writes for all.
  static __device__ __forceinline__ bool mine(int chunk) {
    return (static_cast<unsigned>(chunk) * kThreads + threadIdx.x) % gridDim.x == blockIdx.x;
  }

  __device__ __forceinline__ void read_constants(const StreamStage& stage, int own) {
    const RowNorm& norm = stage.norm;
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      const int at = own + i * kChunk<W>;
#pragma unroll
      for (int e = 0; e < kPiece; ++e) gain[i][e] = 1.0f, bias[i][e] = 0.0f;
      if (at >= norm.cols) continue;
      if (norm.gain != nullptr) read<kPiece, false>(norm.gain + at, gain[i]);
      if (norm.bias != nullptr) read<kPiece, false>(norm.bias + at, bias[i]);
    }
  }

  // scratch: room for 2 kWarpSize floats that nothing else uses before the next barrier.
  __device__ __forceinline__ void make(const Chain& chain, const StreamStage& stage, int own,
                                       float* scratch) {
    const RowNorm& norm = stage.norm;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      const int at = own + i * kChunk<W>;
      if (at >= norm.cols) break;
      read<kPiece, true>(norm.x + at, now[i]);
    }
    if (norm.delta != nullptr) {
#pragma unroll
      for (int i = 0; i < kNow; ++i) {
        const int at = own + i * kChunk<W>;
        if (at >= norm.cols) break;
        float delta[kPiece];
        read<kPiece, true>(norm.delta + at, delta);
#pragma unroll
        for (int e = 0; e < kPiece; ++e) now[i][e] += delta[e];
        if (mine(i)) write<kPiece>(chain.stash + at, now[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      if (own + i * kChunk<W> >= norm.cols) break;
#pragma unroll
      for (int e = 0; e < kPiece; ++e) total += now[i][e];
    }
    const auto count = static_cast<float>(norm.cols);
    const float mean = norm.layer ? block_sum_once(total, scratch) / count : 0.0f;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      if (own + i * kChunk<W> >= norm.cols) break;
#pragma unroll
      for (int e = 0; e < kPiece; ++e) {
        now[i][e] -= mean;
        squares = fmaf(now[i][e], now[i][e], squares);
      }
    }
    const float inverse =
        1.0f / sqrtf(block_sum_once(squares, scratch + kWarpSize) / count + norm.epsilon);
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      const int at = own + i * kChunk<W>;
      if (at >= norm.cols) break;
#pragma unroll
      for (int e = 0; e < kPiece; ++e)
        now[i][e] = fmaf(now[i][e] * inverse, gain[i][e], bias[i][e]);
      if (mine(i)) write<kPiece>(norm.y + at, now[i]);
    }
    state = nullptr;
    if (!stage.shifts) return;
    const int sequence = sequence_of(stage.shift.rows, 0);
    if (sequence >= 0 && !run_of(stage.shift.rows, sequence).fresh)
      state = state_of(stage.shift.states, sequence);
  }

  // The row that mix `n` of the shift makes of it.
  __device__ __forceinline__ void mixed(const StreamStage& stage, int n, int at, int chunk,
                                        float (&to)[kPiece]) const {
    float before[kPiece] = {}, mix[kPiece];
    if (state != nullptr) read<kPiece, true>(state + at, before);
    read<kPiece, false>(stage.shift.mix + n * stage.shift.mix_stride + at, mix);
#pragma unroll
    for (int e = 0; e < kPiece; ++e) to[e] = fmaf(before[e] - now[chunk][e], mix[e], now[chunk][e]);
  }

  // What shift_mix() leaves, once the products are done.
  __device__ __forceinline__ void write_mixed(const StreamStage& stage, int own) const {
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      const int at = own + i * kChunk<W>;
      if (at >= stage.norm.cols) break;
      if (!mine(i)) continue;
      for (int n = 0; n < stage.shift.mixes; ++n) {
        float row[kPiece];
        mixed(stage, n, at, i, row);
        write<kPiece>(stage.shift.out + n * stage.norm.cols + at, row);
      }
    }
  }

  // What other blocks have read of a stage until all have arrived after it: sums, and a shift's
  // state, which is the norm's row.
  static __device__ __forceinline__ void settle(const Chain& chain, const StreamStage& stage,
                                                int own) {
    float* state = nullptr;
    if (stage.shifts) {
      const int sequence = sequence_of(stage.shift.rows, 0);
      if (sequence >= 0) state = state_of(stage.shift.states, sequence);
    }
#pragma unroll
    for (int i = 0; i < kNow; ++i) {
      const int at = own + i * kChunk<W>;
      if (at >= stage.norm.cols) break;
      if (!mine(i)) continue;
      float row[kPiece];
      if (stage.norm.delta != nullptr) {
        read<kPiece, true>(chain.stash + at, row);
        write<kPiece>(stage.norm.x + at, row);
      }
      if (state != nullptr) {
        read<kPiece, true>(stage.norm.y + at, row);
        write<kPiece>(state + at, row);
      }
    }
  }
};

__device__ __forceinline__ bool must_settle(const StreamStage& stage) {
  return stage.shifts || (stage.norms && stage.norm.delta != nullptr);
}

// A thread's inputs of a call's row of x, zeros beyond its last.
template <class W>
__device__ __forceinline__ void read_inputs(const Call& c, int at, float (&to)[kWide<W>]) {
  if (at + kWide<W> <= c.inputs && reinterpret_cast<uintptr_t>(c.x) % 16 == 0) {
    read<kWide<W>, true>(c.x + at, to);
    return;
  }
  const volatile float* x = c.x;  // fresh
#pragma unroll
  for (int i = 0; i < kWide<W>; ++i) to[i] = at + i < c.inputs ? x[at + i] : 0.0f;
}

// kChunks: of a row at most; kNow: of a norm's.
template <class W, int kChunks, int kNow>
__global__ void __maxnreg__(kNow == 2 ? kRegisters : 255) stream_kernel(const __grid_constant__ Chain chain) {
  next_may_start();
  const Stream& stream = chain.stream;
  const int warp = warp_of_block(), lane = lane_of_warp();
  const int own = static_cast<int>(threadIdx.x) * kWide<W>;
  W* ring = shared<W>() + own;
  float* partials = reinterpret_cast<float*>(shared<W>() + kBundles * kTogether * kChunk<W>);
  float* scratch = partials + 2 * kPartials;

  Asking<W> asking;
  asking.seek(chain, own);
#pragma unroll 1
  for (int i = 0; i < kBundles; ++i) asking.ask(chain, own, ring + i * kTogether * kChunk<W>);
  Row<W, kNow> row;
  if (stream.stages[0].norms) row.read_constants(stream.stages[0], own);
  previous_done();
  GridBarrier barrier(chain.arrivals);

  int slot = 0, parity = 0;
#pragma unroll 1
  for (int n = 0; n < stream.stage_count; ++n) {
    const StreamStage& stage = stream.stages[n];
    const bool last = n + 1 == stream.stage_count;
    if (n > 0) {
      if (stage.norms) row.read_constants(stage, own);
      barrier.wait();
      if (must_settle(stream.stages[n - 1])) Row<W, kNow>::settle(chain, stream.stages[n - 1], own);
    }
    if (stage.norms) row.make(chain, stage, own, scratch);
    // Nobody waits for the last stage's products, only for its reads.
    if (last && must_settle(stage) && !stage.shifts) barrier.arrive();
#pragma unroll 1
    for (int call = stage.first_call; call < stage.first_call + stage.calls; ++call) {
      const Call& c = stream.each[call];
      const Groups groups = groups_of_block<W>(chain, call);
      if (groups.first >= groups.end) continue;
      const int left = static_cast<int>(c.w_stride) - own;
      const int chunks = (left + kChunk<W> - 1) / kChunk<W>;
      float x[kChunks][kWide<W>];
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        if (i >= chunks) break;
        const int at = own + i * kChunk<W>;
        if (!stage.norms) {
          read_inputs<W>(c, at, x[i]);
        } else if (i < kNow) {
          if (stage.shifts) {
            row.mixed(stage, stream.mix_of[call], at, i, x[i]);
          } else {
#pragma unroll
            for (int e = 0; e < kWide<W>; ++e) x[i][e] = row.now[i][e];
          }
        }
      }
      // As many groups as the ring holds have one barrier.
      const int unit_groups = quotient(kBundles + chunks_of<W>(c) - 1, chunks_of<W>(c));
#pragma unroll 1
      for (int first = groups.first; first < groups.end; first += unit_groups) {
        const int end = min(first + unit_groups, groups.end);
        float* partial = partials + parity * kPartials;
        parity ^= 1;
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
              for (int j = 0; j < kWide<W>; ++j) sums[t] = fmaf(numbers[j], x[i][j], sums[t]);
            }
            asking.ask(chain, own, bundle);
            slot = slot + 1 < kBundles ? slot + 1 : 0;
          }
          fold_sums<kWarpSize, kTogether>(sums, lane);  // eight lanes have each
          if (lane % 8 == 0)
            partial[((group - first) * kTogether + lane / 8) * kWarps + warp] = sums[0];
        }
        __syncthreads();
        finish_unit(c, first, end, partial);
      }
    }
    if (stage.shifts) row.write_mixed(stage, own);
    if (!last || stage.shifts) barrier.arrive();
  }
  const StreamStage& stage = stream.stages[stream.stage_count - 1];
  if (!must_settle(stage)) return;
  barrier.wait();
  Row<W, kNow>::settle(chain, stage, own);
}

template <class W, int kChunks, int kNow>
void launch_chain(Context& context, const Chain& chain) {
  launch(
      context, "linear",
      {dim3(static_cast<unsigned>(context.multiprocessors())), dim3(kThreads), kSharedBytes, true},
      stream_kernel<W, kChunks, kNow>, chain);
}

template <class W>
void launch_typed(Context& context, const Stream& stream) {
  Chain chain{};
  chain.stream = stream;
  const Context::ChainMemory memory = context.chain_memory();
  if (memory.arrivals == nullptr) return;  // the context holds the error
  chain.arrivals = memory.arrivals;
  chain.stash = memory.stash;
  int64_t chunks_most = 0, norm_most = 0;
  for (int n = 0; n < stream.stage_count; ++n) {
    const StreamStage& stage = stream.stages[n];
    if (stage.norms) norm_most = std::max(norm_most, ceil_div(stage.norm.cols, kChunk<W>));
    int64_t cost = 0;
    for (int i = stage.first_call; i < stage.first_call + stage.calls; ++i) {
      const Call& c = stream.each[i];
      const int64_t rows = c.epilogue == Epilogue::kSwiglu ? 2 * c.outputs : c.outputs;
      const int64_t chunks = ceil_div(c.w_stride, kChunk<W>);
      chain.cost_before[i] = static_cast<int32_t>(cost);
      cost += ceil_div(rows, kTogether) * chunks;
      chunks_most = std::max(chunks_most, chunks);
    }
    for (int i = stage.first_call; i < stage.first_call + stage.calls; ++i)
      chain.cost_of_stage[i] = static_cast<int32_t>(cost);
  }
  const bool narrow = norm_most <= 2;
  if (chunks_most <= 4) {
    narrow ? launch_chain<W, 4, 2>(context, chain) : launch_chain<W, 4, 4>(context, chain);
  } else if (chunks_most <= 8) {
    narrow ? launch_chain<W, 8, 2>(context, chain) : launch_chain<W, 8, 4>(context, chain);
  } else {
    launch_chain<W, kChunksMax, kNormChunksMax>(context, chain);
  }
}

int64_t chunk_of(DType dtype) {
  return int64_t{16} * kThreads / static_cast<int64_t>(dtype_bytes(dtype));
}

constexpr int64_t kWideBytes = 2048;  // of a row: half of the threads have a piece of it

}  // namespace

bool can_stream(const Context& context, DType dtype, int64_t w_stride) {
  return context.shared_bytes_max() >= kSharedBytes &&
         w_stride * static_cast<int64_t>(dtype_bytes(dtype)) >= kWideBytes &&
         w_stride <= kChunksMax * chunk_of(dtype);
}

bool can_stream(DType dtype, const RowNorm& norm) {
  return norm.cols % (16 / static_cast<int64_t>(dtype_bytes(dtype))) == 0 &&
         norm.cols <= std::min(kNormChunksMax * chunk_of(dtype), Context::kStashFloats);
}

void launch_stream(Context& context, DType dtype, const Stream& stream) {
  dispatch_floats(dtype, [&](auto zero) { launch_typed<decltype(zero)>(context, stream); });
}

}  // namespace trireme::cuda
