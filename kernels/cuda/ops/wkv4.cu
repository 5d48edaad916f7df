// RWKV-4's recurrence: a state of three numbers per channel.
//
// Few rows per run (decode): a thread takes a channel through all rows; three numbers of state and
// four per row move, coalesced. Each row waits for its loads, about 0.5 us.
//
// Long runs: rows are read once, in tiles. Expected on an H200 (4.3 TB/s), 8192 rows of 4096
// channels: k, v, r and out are 537 MB, 0.13 ms; seven exponentials per row and channel, about 100
// instructions, 0.1 ms over all multiprocessors, beside the loads.
//
// nvcc 13.0: rows 32 registers, tiles 98, no spills.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device/block.cuh"
#include "kernels/cuda/device/overlap.cuh"
#include "kernels/cuda/device/runs.cuh"
#include "kernels/cuda/launch.h"

namespace trireme::cuda {
namespace {

struct Wkv4 {
  Matrix32 k, v, r;
  const float *w, *u;
  int64_t channels;
  MatrixOut32 out;
};

// The sums so far are aa e^pp and bb e^pp.
struct Wkv4State {
  float aa = 0.0f, bb = 0.0f, pp = -1e38f;

  // out = wkv, without the state's change.
  __device__ float output(float key, float value, float first) const {
    const float q = fmaxf(pp, first + key);
    const float old_share = expf(pp - q), new_share = expf(first + key - q);
    return (old_share * aa + new_share * value) / (old_share * bb + new_share);
  }
  __device__ void take(float key, float value, float decay) {
    const float q = fmaxf(pp + decay, key);
    const float old_share = expf(pp + decay - q), new_share = expf(key - q);
    aa = old_share * aa + new_share * value;
    bb = old_share * bb + new_share;
    pp = q;
  }
};

__device__ __forceinline__ Wkv4State read_state(const float* state, int64_t channels) {
  return {state[0], state[channels], state[2 * channels]};
}
__device__ __forceinline__ void write_state(const Wkv4State& x, float* state, int64_t channels) {
  state[0] = x.aa;
  state[channels] = x.bb;
  state[2 * channels] = x.pp;
}

constexpr int kThreads = 128;

// A thread takes a channel through all rows of a run.
__global__ void wkv4_rows_kernel(Wkv4 p, Ragged rows, StateRows states, RunLengths lengths) {
  next_may_start();
  const int sequence = static_cast<int>(blockIdx.x);
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  float* bytes = state_of(states, sequence) + c;  // on its way while run_of() waits
  const Run run = run_of(rows, sequence);
  const bool mine = lengths.hold(run) && c < p.channels;
  Wkv4State state;
  if (mine && !run.fresh) state = read_state(bytes, p.channels);
  const float decay = mine ? p.w[c] : 0.0f, first = mine ? p.u[c] : 0.0f;
  previous_done();
  if (!mine) return;
  for (int32_t t = run.first_row; t < run.first_row + run.rows; ++t) {
    const float key = p.k.row(t)[c], value = p.v.row(t)[c];
    p.out.row(t)[c] = sigmoid(p.r.row(t)[c]) * state.output(key, value, first);
    state.take(key, value, decay);
  }
  write_state(state, bytes, p.channels);
}

// ---- tiles ----
//
// A tile is 16 warps x 8 rows of 32 channels, a lane for each channel:
//   1. each warp sums up its 8 rows as if they came first: a state, and how far it decays older
//   ones;
//   2. a scan over the 16 summaries, begun with the state before the tile, gives the state before
//      each warp's rows: two summaries are combined by
//        p = max(pL + WR, pR), a = e^(pL + WR - p) aL + e^(pR - p) aR, b likewise, W = WL + WR;
//   3. each warp walks its rows from that state and writes their outputs.
// Rows stay in registers between 1 and 3, and those of the next tile are on their way meanwhile. A
// block takes 32 channels through a whole run, so 4096 channels are 128 blocks.
constexpr int kWarps = 16, kRowsEach = 8, kTileRows = kWarps * kRowsEach;
constexpr int kPitch = kWarpSize + 1;  // a scan reads channels down the columns

struct Wkv4Rows {
  float k[kRowsEach], v[kRowsEach], r[kRowsEach];
};

struct Wkv4Shared {
  Wkv4State before[kWarps][kPitch];  // summaries, then the states before them
  Wkv4State carried[kWarpSize];      // after the tile
};

__device__ __forceinline__ Wkv4State combine(const Wkv4State& left, const Wkv4State& right,
                                             float right_decay) {
  Wkv4State both;
  both.pp = fmaxf(left.pp + right_decay, right.pp);
  const float l = expf(left.pp + right_decay - both.pp), r = expf(right.pp - both.pp);
  both.aa = l * left.aa + r * right.aa;
  both.bb = l * left.bb + r * right.bb;
  return both;
}

// `count` rows from `row` on, zeros after them.
__device__ __forceinline__ Wkv4Rows load_rows(const Wkv4& p, int64_t row, int count, int64_t c) {
  Wkv4Rows x;
#pragma unroll
  for (int i = 0; i < kRowsEach; ++i) {
    const bool here = i < count;
    x.k[i] = here ? p.k.row(row + i)[c] : 0.0f;
    x.v[i] = here ? p.v.row(row + i)[c] : 0.0f;
    x.r[i] = here ? p.r.row(row + i)[c] : 0.0f;
  }
  return x;
}

// How many rows of a tile are there for a warp, where `tile_rows` begin with the tile.
__device__ __forceinline__ int rows_of_warp(int32_t tile_rows, int warp) {
  const int32_t left = tile_rows - warp * kRowsEach;
  return left < 0 ? 0 : left < kRowsEach ? left : kRowsEach;
}

// n decays, where none is no decay even if one is infinite.
__device__ __forceinline__ float decays(int n, float decay) {
  return n == 0 ? 0.0f : static_cast<float>(n) * decay;
}

// Half a warp scans a channel; lane m of it begins with the summary before that of warp m.
__device__ __forceinline__ void scan_tile(Wkv4Shared& s, int32_t tile_rows, const float* w,
                                          int64_t first_channel, int64_t channels) {
  const int m = static_cast<int>(threadIdx.x) % kWarps;
  const int channel = static_cast<int>(threadIdx.x) / kWarps;
  const float decay = first_channel + channel < channels ? w[first_channel + channel] : 0.0f;
  Wkv4State x = m == 0 ? s.carried[channel] : s.before[m - 1][channel];
  const Wkv4State mine = s.before[m][channel];
  float all_decay = m == 0 ? 0.0f : decays(rows_of_warp(tile_rows, m - 1), decay);
#pragma unroll
  for (int step = 1; step < kWarps; step *= 2) {
    const Wkv4State left{__shfl_up_sync(kWholeWarp, x.aa, step, kWarps),
                         __shfl_up_sync(kWholeWarp, x.bb, step, kWarps),
                         __shfl_up_sync(kWholeWarp, x.pp, step, kWarps)};
    const float left_decay = __shfl_up_sync(kWholeWarp, all_decay, step, kWarps);
    if (m >= step) {
      x = combine(left, x, all_decay);
      all_decay += left_decay;
    }
  }
  __syncwarp();  // all have read their neighbours' summaries
  s.before[m][channel] = x;
  if (m == kWarps - 1)
    s.carried[channel] = combine(x, mine, decays(rows_of_warp(tile_rows, m), decay));
}

__global__ void __launch_bounds__(kWarps* kWarpSize)
    wkv4_tiles_kernel(Wkv4 p, Ragged rows, StateRows states, RunLengths lengths) {
  next_may_start();
  previous_done();
  const int sequence = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t first_channel = int64_t{blockIdx.y} * kWarpSize, c = first_channel + lane;
  const bool mine = c < p.channels;
  const Run run = run_of(rows, sequence);
  if (!lengths.hold(run)) return;
  Wkv4Shared& s = *shared<Wkv4Shared>();
  float* bytes = state_of(states, sequence) + c;
  if (warp == 0) s.carried[lane] = mine && !run.fresh ? read_state(bytes, p.channels) : Wkv4State{};
  const float decay = mine ? p.w[c] : 0.0f, first = mine ? p.u[c] : 0.0f;

  const auto load_tile = [&](int32_t tile) {
    const int count = mine ? rows_of_warp(run.rows - tile, warp) : 0;
    return load_rows(p, run.first_row + tile + warp * kRowsEach, count, c);
  };
  Wkv4Rows next = load_tile(0);
  for (int32_t tile = 0; tile < run.rows; tile += kTileRows) {
    const Wkv4Rows x = next;
    const int32_t tile_rows = run.rows - tile;  // maybe more than fit
    const int count = rows_of_warp(tile_rows, warp);
    next = load_tile(tile + kTileRows);
    Wkv4State summary;
#pragma unroll
    for (int i = 0; i < kRowsEach; ++i)
      if (i < count) summary.take(x.k[i], x.v[i], decay);
    s.before[warp][lane] = summary;
    __syncthreads();
    scan_tile(s, tile_rows, p.w, first_channel, p.channels);
    __syncthreads();
    Wkv4State state = s.before[warp][lane];
    if (!mine) continue;
#pragma unroll
    for (int i = 0; i < kRowsEach; ++i) {
      if (i >= count) break;
      p.out.row(run.first_row + tile + warp * kRowsEach + i)[c] =
          sigmoid(x.r[i]) * state.output(x.k[i], x.v[i], first);
      state.take(x.k[i], x.v[i], decay);
    }
  }
  if (warp == 0 && mine) write_state(s.carried[lane], bytes, p.channels);
}

constexpr int32_t kTileRowsLeast = 16;  // a run for which two warps of a tile have work

}  // namespace

void CudaOps::wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                   TensorView out) {
  const Wkv4 p{matrix(args.k),
               matrix(args.v),
               matrix(args.r),
               static_cast<const float*>(args.w.data),
               static_cast<const float*>(args.u.data),
               args.k.cols,
               matrix(out)};
  const RunShares shares = share_runs(rows, kTileRowsLeast);
  const auto blocks = [&](int channels_each) {
    return dim3(static_cast<unsigned>(rows.sequences),
                static_cast<unsigned>(ceil_div(p.channels, channels_each)));
  };
  launch(context_, "wkv4", {blocks(kThreads), dim3(kThreads), 0, true}, wkv4_rows_kernel, p, rows,
         states, shares.by_row);
  if (!shares.chunks) return;
  launch(context_, "wkv4 tiles",
         {blocks(kWarpSize), dim3(kWarps * kWarpSize), sizeof(Wkv4Shared), true}, wkv4_tiles_kernel,
         p, rows, states, shares.by_chunk);
}

}  // namespace trireme::cuda
