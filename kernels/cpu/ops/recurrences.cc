// Operations with a state of constant size per sequence. Rows of a run are sequential; sequences,
// heads and channels are shared out to the threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"

namespace trireme {
namespace {

// Channels that one thread takes at a time: enough for one row of a run to be a few cache lines.
constexpr int64_t kChunkChannels = 64;
alignas(64) constexpr float kZeros[kChunkChannels] = {};

struct Run {
  int64_t first_row = 0, rows = 0;
  bool fresh = false;  // starts at position 0: the state's bytes are not to be read
};

Run run_of(const Ragged& rows, int64_t sequence) {
  Run run;
  run.first_row = rows.offsets[sequence];
  run.rows = rows.offsets[sequence + 1] - run.first_row;
  run.fresh = run.rows > 0 && rows.positions[run.first_row] == 0;
  return run;
}

float* state_of(const StateRows& states, int64_t sequence) {
  return reinterpret_cast<float*>(states.base[sequence] + states.offset);
}

// x from (row, column) on.
ConstRows from(const ConstTensorView& x, int64_t row, int64_t col) {
  return {x.f32_row(row) + col, x.row_stride};
}
MutableRows from(const TensorView& x, int64_t row, int64_t col) {
  return {x.f32_row(row) + col, x.row_stride};
}

int64_t chunks_of(int64_t channels) { return (channels + kChunkChannels - 1) / kChunkChannels; }

}  // namespace

// One thread takes some channels through all rows of a run: it alone reads and replaces their part
// of the state.
void CpuOps::shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                       ConstTensorView mix, TensorView out) {
  const int64_t chunks = chunks_of(x.cols);
  const ConstRows shares{mix.rows == 0 ? nullptr : mix.f32_row(0), mix.row_stride};
  const auto mix_run = [&](int64_t sequence, int64_t c, int64_t n) {
    const Run run = run_of(rows, sequence);
    if (run.rows == 0) return;
    float* state = state_of(states, sequence) + c;
    const float* previous = run.fresh ? kZeros : state;
    for (int64_t t = run.first_row; t < run.first_row + run.rows; ++t) {
      const float* now = x.f32_row(t) + c;
      loops_.shift_mix(now, previous, {shares.data + c, shares.stride}, mix.rows, n,
                       {out.f32_row(t) + c, x.cols});
      previous = now;
    }
    std::memcpy(state, previous, static_cast<size_t>(n) * sizeof(float));
  };
  share(rows.sequences * chunks, x.rows * x.cols * (mix.rows + 1),
        [&](int64_t first, int64_t last) {
          for (int64_t i = first; i < last; ++i) {
            const int64_t c = i % chunks * kChunkChannels;
            mix_run(i / chunks, c, std::min(kChunkChannels, x.cols - c));
          }
        });
}

void CpuOps::wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                  TensorView out) {
  const int64_t channels = args.k.cols, chunks = chunks_of(channels);
  const auto channels_of_run = [&](int64_t sequence, int64_t c, int64_t n) {
    const Run run = run_of(rows, sequence);
    if (run.rows == 0) return;
    float* state = state_of(states, sequence) + c;
    const Wkv4Channels x{.k = from(args.k, run.first_row, c),
                         .v = from(args.v, run.first_row, c),
                         .r = from(args.r, run.first_row, c),
                         .w = args.w.f32_row(0) + c,
                         .u = args.u.f32_row(0) + c,
                         .out = from(out, run.first_row, c),
                         .aa = state,
                         .bb = state + channels,
                         .pp = state + 2 * channels};
    if (run.fresh) {
      std::fill(x.aa, x.aa + n, 0.0f);
      std::fill(x.bb, x.bb + n, 0.0f);
      std::fill(x.pp, x.pp + n, -1e38f);
    }
    loops_.wkv4(x, run.rows, n);
  };
  constexpr int64_t kFloats = 24;  // five exponentials
  share(rows.sequences * chunks, kFloats * rows.rows * channels, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t c = i % chunks * kChunkChannels;
      channels_of_run(i / chunks, c, std::min(kChunkChannels, channels - c));
    }
  });
}

void CpuOps::wkv7_prepare(const Wkv7PrepareArgs& args) {
  const int64_t cols = args.w.cols, dim = args.head_dim;
  const bool first_layer = args.v_first.empty();
  constexpr int64_t kFloats = 24;
  share(args.w.rows, kFloats * args.w.rows * cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      for (int64_t c = 0; c < cols; c += dim) {
        loops_.wkv7_prepare({.w = args.w.f32_row(t) + c,
                             .a = args.a.f32_row(t) + c,
                             .b = args.b.f32_row(t) + c,
                             .k = args.k.f32_row(t) + c,
                             .v = args.v.f32_row(t) + c,
                             .v_gate = first_layer ? nullptr : args.v_gate.f32_row(t) + c,
                             .v_first = first_layer ? nullptr : args.v_first.f32_row(t) + c,
                             .k_k = args.k_k.f32_row(0) + c,
                             .k_a = args.k_a.f32_row(0) + c},
                            dim);
      }
    }
  });
}

void CpuOps::wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                  TensorView out) {
  const int64_t heads = args.heads, dim = args.head_dim;
  const auto head_of_run = [&](int64_t sequence, int64_t head) {
    const Run run = run_of(rows, sequence);
    if (run.rows == 0) return;
    const int64_t row = run.first_row, c = head * dim;
    float* state = state_of(states, sequence) + head * dim * dim;
    if (run.fresh) std::fill(state, state + dim * dim, 0.0f);
    loops_.wkv7({.r = from(args.r, row, c),
                 .w = from(args.w, row, c),
                 .k = from(args.k, row, c),
                 .v = from(args.v, row, c),
                 .a = from(args.a, row, c),
                 .b = from(args.b, row, c),
                 .out = from(out, row, c),
                 .state = state},
                run.rows, dim);
  };
  share(rows.sequences * heads, 2 * rows.rows * heads * dim * dim,
        [&](int64_t first, int64_t last) {
          for (int64_t i = first; i < last; ++i) head_of_run(i / heads, i % heads);
        });
}

void CpuOps::wkv7_finish(const Wkv7FinishArgs& args, TensorView y) {
  const int64_t dim = args.head_dim;
  share(y.rows, 6 * y.rows * y.cols, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      for (int64_t c = 0; c < y.cols; c += dim) {
        loops_.wkv7_finish(args.r.f32_row(t) + c, args.k.f32_row(t) + c, args.v.f32_row(t) + c,
                           args.g.f32_row(t) + c, args.r_k.f32_row(0) + c, dim, y.f32_row(t) + c);
      }
    }
  });
}

// exp(log(sigmoid(gate)) / normalizer), in f64: gamma is close to 1 and is multiplied with itself
// once per row.
static float retention_decay(double gate, double normalizer) {
  const double log_sigmoid =
      gate < 0 ? gate - std::log1p(std::exp(gate)) : -std::log1p(std::exp(-gate));
  return static_cast<float>(std::exp(log_sigmoid / normalizer));
}

void CpuOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                       TensorView out) {
  const int64_t heads = args.heads, dim = args.head_dim;
  constexpr int64_t kPieceRows = 64;  // whose decays lie on the stack
  const auto head_of_run = [&](int64_t sequence, int64_t head) {
    const Run run = run_of(rows, sequence);
    if (run.rows == 0) return;
    const int64_t c = head * dim, end = run.first_row + run.rows;
    float* state = state_of(states, sequence) + head * dim * dim;
    if (run.fresh) std::fill(state, state + dim * dim, 0.0f);
    float gamma[kPieceRows];
    for (int64_t row = run.first_row; row < end; row += kPieceRows) {
      const int64_t n = std::min(kPieceRows, end - row);
      for (int64_t i = 0; i < n; ++i) {
        gamma[i] = retention_decay(args.gate.f32_row(row + i)[head], args.gate_normalizer);
      }
      loops_.retention({.q = from(args.q, row, c),
                        .k = from(args.k, row, c),
                        .v = from(args.v, row, c),
                        .gamma = gamma,
                        .k_scale = args.k_scale,
                        .out = from(out, row, c),
                        .state = state},
                       n, dim);
    }
  };
  share(rows.sequences * heads, 2 * rows.rows * heads * dim * dim,
        [&](int64_t first, int64_t last) {
          for (int64_t i = first; i < last; ++i) head_of_run(i / heads, i % heads);
        });
}

}  // namespace trireme
