// The inner loops of every CPU op but linear and embed: plain pointers and numbers, one table of
// functions per instruction set.
//
// Who calls it: kernels/cpu/ops, which gives the loops their shapes and shares them out to threads.
// Any thread; a loop touches only what its arguments name.
//
// INVARIANT: every table gives the same bits: the loops are written once, over F16v (simd16.h), in
// ops_*.inc. Sums run over fixed positions: column c of a row goes to the same lane and the same
// accumulator whatever else is computed.
//
// This header only declares: it may be included by files compiled for AVX-512 (see simd16.h).
#pragma once

#include <stdint.h>

namespace trireme {

// Attention walks a sequence in tiles that begin at multiples of kTileTokens, and starts a new
// partial softmax at each multiple of kSplitTokens. Both are part of the numerics.
constexpr int kTileTokens = 64;
constexpr int kGroupTokens = 16;  // what one vector of a tile holds
constexpr int kSplitTokens = 512;

// Row t of a matrix begins at data + t * stride.
struct ConstRows {
  const float* data;
  int64_t stride;
};
struct MutableRows {
  float* data;
  int64_t stride;
};

// Where 16 neighbouring tokens of one kv head lie in a block: keys [head_dim][key_stride], of which
// 16 are wanted; values [16][head_dim].
struct KvGroup {
  const void* keys;
  const void* values;
  int64_t key_stride;  // in elements
};

// Cache lines that will be wanted soon: loops that compute from L1 ask for one per step, so that
// memory works meanwhile.
struct LineQueue {
  const void* const* next;
  const void* const* end;
};

// One run of one head. REQUIRES: out overlaps no input.
struct Wkv7Head {
  ConstRows r, w, k, v, a, b;
  MutableRows out;
  float* state;  // [head_dim values][head_dim keys]
};

struct Wkv7PrepareHead {
  float *w, *a, *b, *k, *v;
  const float *v_gate, *v_first;  // null: leave v as it is
  const float *k_k, *k_a;
};

// `channels` of one run.
struct Wkv4Channels {
  ConstRows k, v, r;
  const float *w, *u;
  MutableRows out;
  float *aa, *bb, *pp;
};

// One run of one head; decay and keys are scaled as RetentionArgs says.
struct RetentionHead {
  ConstRows q, k, v;
  const float* gamma;  // [rows]
  float k_scale;
  MutableRows out;
  float* state;  // [head_dim keys][head_dim values]
};

struct OpLoops {
  // ---- rows of n columns ----

  // x is `groups` parts of n columns; gain and bias (null: ones, zeros) step by gain_step columns
  // from part to part.
  void (*norm_rms)(const float* x, int64_t groups, int64_t n, float epsilon, const float* gain,
                   const float* bias, int64_t gain_step, int64_t bias_step, float* y);
  void (*norm_layer)(const float* x, int64_t groups, int64_t n, float epsilon, const float* gain,
                     const float* bias, int64_t gain_step, int64_t bias_step, float* y);
  void (*add)(const float* x, int64_t n, float* y);
  void (*multiply)(const float* x, int64_t n, float* y);
  void (*activate[4])(const float* x, int64_t n, float* y);  // by Activation; y may be x
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* y);
  void (*rope_halves)(const float* cos_sin, int64_t half, int64_t heads, int64_t head_dim,
                      float* x);
  void (*rope_interleaved)(const float* cos_sin, int64_t half, int64_t heads, int64_t head_dim,
                           float* x);
  // out[i][c] = x[c] + (previous[c] - x[c]) * mix[i][c] for i in [0, count).
  void (*shift_mix)(const float* x, const float* previous, ConstRows mix, int64_t count, int64_t n,
                    MutableRows out);

  // ---- attention over one tile of one kv head ----
  //
  // In scratch: keys [head_dim][kTileTokens], values [kTileTokens][padded_dim], scores and weights
  // [queries][kTileTokens]; padded_dim is head_dim rounded up to 16 (its tail is zeros). A softmax
  // in progress is (largest, total, sum[padded_dim]).

  // Group `index` of the tile from the cache, by DType: kF32, kBF16, kF16.
  void (*expand_group[3])(const KvGroup& group, int64_t head_dim, int64_t padded_dim, int64_t index,
                          float* keys, float* values);
  // scores[i][t] = q[i] . keys[:, t], for the groups [first_group, last_group); q is
  // [queries][padded_dim].
  void (*score)(const float* q, int64_t queries, const float* keys, int64_t head_dim,
                int64_t padded_dim, int64_t first_group, int64_t last_group, float* scores,
                LineQueue& lines);
  // Turns one query's scores of tokens [first, last) into weights relative to the new largest
  // score, and scales what was summed before to it. Other lanes become exact zeros.
  void (*soften)(float* scores, int64_t first, int64_t last, int64_t padded_dim, float* largest,
                 float* total, float* sum);
  // sums[i] += sum over t in [first, last), in order, of weights[i][t] * values[t].
  void (*weigh)(const float* weights, int64_t queries, const float* values, int64_t padded_dim,
                int64_t first, int64_t last, float* sums, LineQueue& lines);
  // Joins a later partial softmax to an earlier one.
  void (*merge)(float later_largest, float later_total, const float* later_sum, int64_t padded_dim,
                float* largest, float* total, float* sum);
  // out = sum / total.
  void (*finish)(float total, const float* sum, int64_t head_dim, float* out);

  // ---- recurrences ----

  void (*wkv4)(const Wkv4Channels& x, int64_t rows, int64_t channels);
  void (*wkv7_prepare)(const Wkv7PrepareHead& x, int64_t head_dim);
  void (*wkv7)(const Wkv7Head& x, int64_t rows, int64_t head_dim);
  void (*wkv7_finish)(const float* r, const float* k, const float* v, const float* g,
                      const float* r_k, int64_t head_dim, float* y);
  void (*retention)(const RetentionHead& x, int64_t rows, int64_t head_dim);
};

extern const OpLoops kOpLoopsScalar;
#ifdef TRIREME_X86
extern const OpLoops kOpLoopsAvx2;
extern const OpLoops kOpLoopsAvx512;
#endif

}  // namespace trireme
