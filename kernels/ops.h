// Everything a device can compute: each operation with its formula and what it requires.
//
// Who calls it: the sublayers of runtime/model and the layers of parallel, from the one thread that
// runs a rank's steps. Calls take effect in call order on the device's queue; the host sees results
// after Device::synchronize(). A backend that lacks an op does not compile.
//
// INVARIANT (Row law, CPU backend): the bits of a row of any result depend on that row's inputs
// and, where the op has a state, on what came before it in its sequence. They do not depend on how
// many rows or sequences the call has, on where runs are cut, on the number of threads, on the
// block ids of a cache, or on the instruction set where the op's comment says so.
//
// Activations are f32. Unless a comment says otherwise: all tensors are on the device of the ops,
// views may be strided (row_stride > cols), outputs do not overlap inputs, and rows may be 0.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/base/tensor.h"
#include "kernels/base/weight_format.h"

namespace trireme {

// Rows of a step belong to sequences: rows [offsets[s], offsets[s+1]) are a run of sequence s.
// Prefill chunks and single decode tokens are the same thing, runs of different length.
// INVARIANT: offsets[0] == 0, offsets ascend, offsets[sequences] == rows; a run may be empty.
// Positions ascend by one within a run wherever an op has a state; attend() takes any ascending
// ones.
// Padding: on a device that records (Device::record) rows may be more than offsets[sequences], so
// that steps of fewer rows have the shape that was recorded. Rows from offsets[sequences] on belong
// to no sequence: no cache and no state is read or written for them, and what an op leaves in them
// is nobody's concern. Their positions and ids are valid numbers.
struct Ragged {
  const int32_t* offsets = nullptr;    // [sequences + 1], on the device
  const int32_t* positions = nullptr;  // [rows], position of each row in its sequence, from 0
  int32_t sequences = 0;
  int32_t rows = 0;
};

// A weight matrix in the layout that this device's linear() reads fastest, the scales of a
// quantized one included; made and filled through Device::make_matrix, write_rows and
// write_quantized_rows.
struct WeightView {
  const void* data = nullptr;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  WeightFormat format;
  ConstTensorView bias;  // [1, rows] f32; rows == 0: none
};

enum class NormKind : uint8_t {
  kRms,    // y = x / sqrt(mean(x^2) + epsilon) * gain
  kLayer,  // y = (x - mean(x)) / sqrt(var(x) + epsilon) * gain + bias, var biased
};

struct NormArgs {
  NormKind kind = NormKind::kRms;
  float epsilon = 1e-5f;
  int32_t groups = 1;    // each row is `groups` equal parts, each normalised by itself (per head)
  ConstTensorView gain;  // [1, cols], or [1, cols / groups] shared by all groups; rows == 0: ones
  ConstTensorView bias;  // like gain; rows == 0: zeros
};

enum class Activation : uint8_t {
  kSigmoid,      // 1 / (1 + exp(-x))
  kTanh,         //
  kSilu,         // x * sigmoid(x)
  kReluSquared,  // max(x, 0)^2
};

// Where a product may go that is to be added to the residual stream, if a device does that at no
// cost. Of shards whose x are summed up afterwards one adds, the others write: x is what the sum
// takes then, the stream once and every shard's product.
struct Residual {
  TensorView x;      // no rows: nowhere
  bool adds = true;  // x += product; false: x = product
};

// The residual stream on its way into a sublayer: x += delta, where delta has rows; y = norm(x).
struct ResidualNorm {
  ConstTensorView delta;
  TensorView x;
  NormArgs norm;
  TensorView y;
};

// One of several products that do not wait for each other.
struct LinearCall {
  ConstTensorView x;
  WeightView w;
  TensorView y;
  std::optional<Activation> activation;  // of y, after the bias
};

enum class FeedForward : uint8_t { kSwiglu, kReluSquared };

enum class RopeStyle : uint8_t {
  kHalves,       // pairs (i, i + rotary_dim / 2): Llama as Hugging Face has it, GPT-NeoX
  kInterleaved,  // pairs (2 i, 2 i + 1): YOCO, GPT-J
};

// rope_attend().
struct RopeAttendArgs {
  ConstTensorView cos_sin;  // no rows: nothing is rotated
  RopeStyle style = RopeStyle::kHalves;
  float scale = 1;  // of scores
  TensorView q, k;  // k, v: no rows where nothing is stored
  ConstTensorView v;
  float norm_epsilon = 0;
  ConstTensorView q_gain, k_gain;  // [1, head_dim]; no rows: no norm
};

// Where the keys and values of a step's sequences live. Block b begins at blocks + b * block_stride
// and holds block_tokens positions; the arrangement inside a block is the backend's own, of
// kv_bytes_per_token() * block_tokens bytes.
struct KvView {
  std::byte* blocks = nullptr;
  int64_t block_stride = 0;              // bytes from one block to the next
  const int32_t* block_table = nullptr;  // [sequences, table_stride], on the device
  const int32_t* first_block =
      nullptr;  // [sequences]: block_table[s][0] holds the positions from
                // first_block[s] * block_tokens on (earlier ones have left the window)
  int32_t table_stride = 0;
  int32_t block_tokens = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t window_tokens =
      0;  // a row at position p sees positions (p - window, p]; 0: all of [0, p]
  DType dtype = DType::kF32;  // kF32, kBF16 or kF16
};

constexpr int64_t kv_bytes_per_token(int32_t kv_heads, int32_t head_dim, DType dtype) {
  return int64_t{2} * kv_heads * head_dim * static_cast<int64_t>(dtype_bytes(dtype));
}

// One fixed-size recurrent state per sequence of a step: sequence s's begins at base[s] + offset.
// A run whose first position is 0 starts from the empty state and never reads the bytes, so that
// nothing leaks from a block's former owner and nothing needs clearing. Every run leaves the state
// after its last row. An empty run leaves it untouched.
struct StateRows {
  std::byte* const* base = nullptr;  // [sequences], on the device; each aligned to 16 bytes
  int64_t offset = 0;                // bytes; 64-byte aligned
};

// RWKV-4's recurrence per channel, numerically stable form (arXiv 2305.13048, appendix; ChatRWKV
// RWKV_in_150_lines.py). k, v, r: [rows, channels]. State: aa, bb, pp, each [channels] f32.
//   q = max(pp, u + k);  wkv = (e^(pp-q) aa + e^(u+k-q) v) / (e^(pp-q) bb + e^(u+k-q))
//   q = max(pp + w, k);  aa = e^(pp+w-q) aa + e^(k-q) v;  bb likewise with 1 for v;  pp = q
//   out = sigmoid(r) * wkv.   Empty state: aa = bb = 0, pp = -1e38.
struct Wkv4Args {
  ConstTensorView k, v, r;
  ConstTensorView w;  // [1, channels] f32: -exp(time_decay)
  ConstTensorView u;  // [1, channels] f32: time_first
};
constexpr int64_t wkv4_state_bytes(int64_t channels) { return 3 * channels * 4; }

// What precedes RWKV-7's recurrence, elementwise and per head (arXiv 2503.14456; RWKV-LM
// RWKV-v7/rwkv_v7_demo.py). All [rows, heads * head_dim]; updated in place:
//   al = sigmoid(a);  kk = (k * k_k) / max(||k * k_k||_2 over the head, 1e-12)
//   w  = exp(-exp(-1/2) * sigmoid(w));   b = kk * al;   a = -kk;   k = k * (1 + (al - 1) * k_a)
//   v  = v + (v_first - v) * sigmoid(v_gate)     unless v_first.rows == 0 (the first layer)
struct Wkv7PrepareArgs {
  TensorView w;  // in: w0 + tanh(xw w1) w2.  out: the decay, in (0.54, 1)
  TensorView a;  // in: a0 + (xa a1) a2.  out: -kk
  TensorView b;  // out
  TensorView k, v;
  ConstTensorView v_gate;    // v0 + (xv v1) v2
  ConstTensorView v_first;   // rows == 0: leave v as it is
  ConstTensorView k_k, k_a;  // [1, heads * head_dim] f32
  int32_t head_dim = 0;
};

// RWKV-7's recurrence. Per head, S is [head_dim values][head_dim keys] f32, kept row-major:
//   S = S diag(w) + (S a) b^T + v k^T  (S a with the old S);  out = S r
// State: [heads][head_dim][head_dim] f32; empty: zeros. Rows are strictly sequential.
struct Wkv7Args {
  ConstTensorView r, w, k, v, a, b;  // [rows, heads * head_dim]
  int32_t heads = 0;
  int32_t head_dim = 0;
};
constexpr int64_t wkv7_state_bytes(int64_t heads, int64_t head_dim) {
  return heads * head_dim * head_dim * 4;
}

// What follows it (after the group norm): per head  y = (y + (sum_j r_j k_j r_k_j) * v) * g.
struct Wkv7FinishArgs {
  ConstTensorView r, k, v, g;  // [rows, heads * head_dim]; k after prepare
  ConstTensorView r_k;         // [1, heads * head_dim] f32
  int32_t head_dim = 0;
};

// All three, wkv7_mix(): recurrence and finish take what prepare leaves.
struct Wkv7MixArgs {
  Wkv7PrepareArgs prepare;
  ConstTensorView r, g;  // [rows, heads * head_dim]
  ConstTensorView r_k;   // [1, heads * head_dim] f32
  NormArgs norm;         // of each head: groups == heads

  Wkv7Args recurrence() const {
    const Wkv7PrepareArgs& p = prepare;
    return {r, p.w, p.k, p.v, p.a, p.b, norm.groups, p.head_dim};
  }
  Wkv7FinishArgs finish() const { return {r, prepare.k, prepare.v, g, r_k, prepare.head_dim}; }
};

// Gated retention (YOCO, arXiv 2405.05254 section 3.2; unilm gate_recurrent.py). Per head:
//   gamma = exp(logsigmoid(gate) / gate_normalizer)
//   S = gamma S + (k * k_scale) v^T;   out = q^T S       S: [head_dim keys][head_dim values] f32
// q, k, v: [rows, heads * head_dim]; gate: [rows, heads]. Empty state: zeros.
struct RetentionArgs {
  ConstTensorView q, k, v, gate;
  int32_t heads = 0;
  int32_t head_dim = 0;
  float gate_normalizer = 16.0f;
  float k_scale = 1.0f;
};
constexpr int64_t retention_state_bytes(int64_t heads, int64_t head_dim) {
  return heads * head_dim * head_dim * 4;
}

class Ops {
 public:
  virtual ~Ops() = default;

  // ---- rows ----

  // y[t] = scale * table[ids[t] - first_id], zeros where ids[t] is outside [first_id, first_id +
  // table.rows): a shard of a vocabulary. REQUIRES: y is [count, table.cols]; ids [count] on the
  // device.
  virtual void embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
                     float scale, TensorView y) = 0;

  // See NormArgs. REQUIRES: y has the shape of x; x.cols % groups == 0. y may be x.
  virtual void norm(ConstTensorView x, const NormArgs& args, TensorView y) = 0;

  // y = x transpose(w) + bias. Each output is the sum over fixed blocks of k, each block summed in
  // order of k by fused multiply-adds: the same bits for any rows, threads and instruction set.
  // The elements of a quantized w are the f32 numbers of weight_format.h, so that its product has
  // the bits of the same numbers kept as f32. A device with tensor cores may round x first: to the
  // format of a 16-bit w; to f16 where w is quantized; to fp8, by rows, where w is fp8 by rows.
  // REQUIRES: x is [rows, w.cols], y is [rows, w.rows].
  virtual void linear(ConstTensorView x, const WeightView& w, TensorView y) = 0;

  virtual void add(ConstTensorView x, TensorView y) = 0;                        // y += x
  virtual void multiply(ConstTensorView x, TensorView y) = 0;                   // y *= x
  virtual void activate(Activation kind, ConstTensorView x, TensorView y) = 0;  // y may be x

  // y = silu(gate) * up. y may be gate or up.
  virtual void swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) = 0;

  // y[i] = x[indices[i]]. REQUIRES: indices ascend strictly; y may be x.
  virtual void gather_rows(ConstTensorView x, const int32_t* indices, int32_t count,
                           TensorView y) = 0;

  // ---- attention ----

  // cos_sin[t] = (cos(p f_i) scale for each i, then sin(p f_i) scale), with p = positions[t] and
  // the product p f_i rounded to f32 as the official implementations have it. REQUIRES:
  // inverse_frequencies is [1, n] f32, cos_sin is [rows, 2 n].
  virtual void rope_table(const int32_t* positions, int32_t rows,
                          ConstTensorView inverse_frequencies, float scale, TensorView cos_sin) = 0;

  // Rotates the first rotary_dim = cos_sin.cols of each head of each row of x: a pair (x0, x1)
  // becomes (x0 cos - x1 sin, x1 cos + x0 sin). REQUIRES: x is [rows, heads * head_dim], cos_sin
  // has x.rows rows, cos_sin.cols <= head_dim.
  virtual void rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) = 0;

  // Writes k and v of each row at its position into the cache of its sequence.
  // REQUIRES: k, v are [rows, kv_heads * head_dim]; the block table covers every row's position; no
  // sequence sees what another one of `rows` stores.
  virtual void store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                        const KvView& cache) = 0;

  // Causal attention: out_h = sum_j softmax_j(scale q_h . k_j) v_j over the cached positions j that
  // the row sees; query head h reads kv head h / (query heads / kv_heads). REQUIRES: the positions
  // seen are stored; q, out are [rows, heads * head_dim], heads % kv_heads == 0.
  virtual void attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                      TensorView out) = 0;

  // ---- recurrences ----

  // RWKV's token shift. With prev the row before in the sequence (the state before the first row of
  // a run; zeros at position 0): out[t][i * cols + c] = x[t][c] + (prev[c] - x[t][c]) * mix[i][c].
  // State: the last row of x, [cols] f32.
  // REQUIRES: mix is [n, cols] f32, out is [rows, n * cols].
  virtual void shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                         ConstTensorView mix, TensorView out) = 0;

  virtual void wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                    TensorView out) = 0;
  virtual void wkv7_prepare(const Wkv7PrepareArgs& args) = 0;
  virtual void wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                    TensorView out) = 0;
  virtual void wkv7_finish(const Wkv7FinishArgs& args, TensorView y) = 0;
  virtual void retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                         TensorView out) = 0;

  // ---- compounds ----
  //
  // What some of the ops above do one after the other, as their bodies say. A device overrides one
  // where doing it at once saves passes over memory, forks of its threads or launches; the Row law
  // holds for it as it does for its parts.

  // x += delta; y = norm(x). REQUIRES: as add() and norm(); y overlaps neither.
  virtual void add_norm(ConstTensorView delta, TensorView x, const NormArgs& args, TensorView y) {
    add(delta, x);
    norm(x, args, y);
  }

  // See ResidualNorm. REQUIRES: as norm() and add_norm().
  void residual_norm(const ResidualNorm& in) {
    if (in.delta.rows > 0) {
      add_norm(in.delta, in.x, in.norm, in.y);
    } else {
      norm(in.x, in.norm, in.y);
    }
  }

  // residual_norm(), then shift_mix() of y. What y holds afterwards is nobody's concern. REQUIRES:
  // as those; out overlaps nothing.
  virtual void norm_shift_mix(const ResidualNorm& in, const Ragged& rows, const StateRows& states,
                              ConstTensorView mix, TensorView out) {
    residual_norm(in);
    shift_mix(in.y, rows, states, mix, out);
  }

  // Each call's y = activation(x transpose(w) + bias). REQUIRES: as linear(); no call's y overlaps
  // another's x or y.
  virtual void linears(std::span<const LinearCall> calls) {
    for (const LinearCall& call : calls) {
      linear(call.x, call.w, call.y);
      if (call.activation) activate(*call.activation, call.y, call.y);
    }
  }

  // y = inner transpose(down) + bias, with, by kind:
  //   kSwiglu        inner = silu(x transpose(gate)) * (x transpose(up)): the rows of `up` are
  //   those
  //                  of gate, then those of up, and its biases likewise
  //   kReluSquared   inner = max(x transpose(up), 0)^2
  // REQUIRES: as linear(); `inner`, [rows, up.rows], is working memory and overlaps nothing.
  virtual void feed_forward(FeedForward kind, ConstTensorView x, const WeightView& up,
                            const WeightView& down, TensorView inner, TensorView y) {
    linear(x, up, inner);
    if (kind == FeedForward::kReluSquared) {
      activate(Activation::kReluSquared, inner, inner);
      return linear(inner, down, y);
    }
    const int64_t half = inner.cols / 2;
    const TensorView gate = inner.col_range(0, half);
    swiglu(gate, inner.col_range(half, half), gate);
    linear(gate, down, y);
  }

  // residual_norm(), then linears() of calls that read in.y. What y holds afterwards is nobody's
  // concern. REQUIRES: as those; each call's x is in.y.
  virtual void norm_linears(const ResidualNorm& in, std::span<const LinearCall> calls) {
    residual_norm(in);
    linears(calls);
  }

  // x transpose(w) + bias, where Residual says, or else in delta. Returns whether it went to the
  // residual stream, which depends on the number of rows and the format of w alone, so that shards
  // agree; delta is nobody's concern then. REQUIRES: as linear(); residual.x, if it has rows, has
  // delta's shape and overlaps nothing.
  virtual bool linear_add(ConstTensorView x, const WeightView& w, TensorView delta,
                          const Residual& /*residual*/) {
    linear(x, w, delta);
    return false;
  }

  // residual_norm(), then feed_forward() of in.y, whose result goes where linear_add() would have
  // it. REQUIRES: as those; in.delta and delta may be the same, and so may in.x and residual.x.
  virtual bool norm_feed_forward(const ResidualNorm& in, FeedForward kind, const WeightView& up,
                                 const WeightView& down, TensorView inner, TensorView delta,
                                 const Residual& /*residual*/) {
    residual_norm(in);
    feed_forward(kind, in.y, up, down, inner, delta);
    return false;
  }

  // Rotates q and k as rope() does, then stores k and v as store_kv() does. REQUIRES: as those two.
  virtual void rope_store(ConstTensorView cos_sin, RopeStyle style, TensorView q, TensorView k,
                          ConstTensorView v, const Ragged& rows, const KvView& cache) {
    rope(cos_sin, style, cache.head_dim, q);
    rope(cos_sin, style, cache.head_dim, k);
    store_kv(k, v, rows, cache);
  }

  // What attention does to a step's own rows, and attend(): RMS norms over the heads of q and k,
  // where there are gains; rope() of both, where there is a table; store_kv(), where k has rows;
  // attend() over the same rows. What q and k hold afterwards is nobody's concern. REQUIRES: as
  // those.
  virtual void rope_attend(const RopeAttendArgs& args, const Ragged& rows, const KvView& cache,
                           TensorView out) {
    const auto norm_heads = [&](TensorView x, ConstTensorView gain) {
      if (gain.rows == 0 || x.rows == 0) return;
      const auto heads = static_cast<int32_t>(x.cols / cache.head_dim);
      norm(x, NormArgs{NormKind::kRms, args.norm_epsilon, heads, gain, {}}, x);
    };
    norm_heads(args.q, args.q_gain);
    norm_heads(args.k, args.k_gain);
    const bool rotates = args.cos_sin.rows > 0, stores = args.k.rows > 0;
    if (rotates && stores) {
      rope_store(args.cos_sin, args.style, args.q, args.k, args.v, rows, cache);
    } else if (rotates) {
      rope(args.cos_sin, args.style, cache.head_dim, args.q);
    } else if (stores) {
      store_kv(args.k, args.v, rows, cache);
    }
    attend(args.q, rows, cache, args.scale, out);
  }

  // What follows retention(): y = silu(gate) * norm(y). REQUIRES: as norm() and swiglu().
  virtual void norm_gate(const NormArgs& args, ConstTensorView gate, TensorView y) {
    norm(y, args, y);
    swiglu(gate, y, y);
  }

  // What follows wkv7(): y = norm(y) over each head, then wkv7_finish(). REQUIRES: as norm() and
  // wkv7_finish(); norm_args.groups * args.head_dim == y.cols.
  virtual void wkv7_norm_finish(const NormArgs& norm_args, const Wkv7FinishArgs& args,
                                TensorView y) {
    norm(y, norm_args, y);
    wkv7_finish(args, y);
  }

  // RWKV-7's time mixing between its products: wkv7_prepare(), wkv7(), wkv7_norm_finish(). What w,
  // a, b and k hold afterwards is nobody's concern, nor what v holds where there is a v_first; v of
  // the first layer stays as it is. REQUIRES: as those; r and g overlap nothing that prepare
  // updates, y overlaps nothing.
  virtual void wkv7_mix(const Wkv7MixArgs& args, const Ragged& rows, const StateRows& states,
                        TensorView y) {
    wkv7_prepare(args.prepare);
    wkv7(args.recurrence(), rows, states, y);
    wkv7_norm_finish(args.norm, args.finish(), y);
  }
};

}  // namespace trireme
