#include "kernels/checked_ops.h"

#include <algorithm>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/overlap.h"

namespace trireme {
void CheckedOps::check_matrix(const char* name, const ConstTensorView& x, int64_t rows,
                              int64_t cols) const {
  CHECK(x.rows == rows && x.cols == cols) << name << " is [" << x.rows << ", " << x.cols
                                          << "] and must be [" << rows << ", " << cols << "]";
  CHECK(x.dtype == DType::kF32) << name << " is " << dtype_name(x.dtype) << ", not float32";
  if (rows == 0 || cols == 0) return;
  CHECK(x.place == place_) << name << " is on another device";
  CHECK(x.data != nullptr) << name << " has no memory";
  CHECK(reinterpret_cast<uintptr_t>(x.data) % sizeof(float) == 0) << name << " is misaligned";
  CHECK(rows == 1 || x.row_stride >= cols) << name << ": row_stride " << x.row_stride;
}

void CheckedOps::check_weight(const char* name, const WeightView& w) const {
  CHECK(w.data != nullptr || w.rows * w.cols == 0) << name << " has no memory";
  if (!w.bias.empty()) check_matrix("the bias of a weight", w.bias, 1, w.rows);
}

void CheckedOps::check_ragged(const char* op, const Ragged& rows, int64_t tensor_rows,
                              bool consecutive) const {
  CHECK(rows.sequences >= 0 && rows.rows == tensor_rows)
      << op << ": the runs have " << rows.rows << " rows, the tensor " << tensor_rows;
  if (rows.sequences == 0) {
    CHECK(rows.rows == 0) << op << ": rows of no sequence";
    return;
  }
  CHECK(rows.offsets != nullptr && (rows.positions != nullptr || rows.rows == 0)) << op;
  if (place_ != Place::kHost) return;
  CHECK(rows.offsets[0] == 0 && rows.offsets[rows.sequences] == rows.rows)
      << op << ": offsets go from " << rows.offsets[0] << " to " << rows.offsets[rows.sequences];
  for (int32_t s = 0; s < rows.sequences; ++s) {
    CHECK(rows.offsets[s] <= rows.offsets[s + 1]) << op << ": offsets descend at run " << s;
  }
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      CHECK(rows.positions[t] >= 0) << op << ": row " << t;
      if (t == rows.offsets[s]) continue;
      const int32_t ascent = rows.positions[t] - rows.positions[t - 1];
      CHECK(consecutive ? ascent == 1 : ascent > 0)
          << op << ": positions of run " << s << " go from " << rows.positions[t - 1] << " to "
          << rows.positions[t];
    }
  }
}

void CheckedOps::check_cache(const char* op, const Ragged& rows, const KvView& cache,
                             bool window) const {
  CHECK(cache.kv_heads > 0 && cache.head_dim > 0 && cache.block_tokens > 0) << op;
  CHECK(cache.window_tokens >= 0) << op << ": window_tokens " << cache.window_tokens;
  CHECK(cache.dtype == DType::kF32 || cache.dtype == DType::kBF16 || cache.dtype == DType::kF16)
      << op << ": a cache of " << dtype_name(cache.dtype);
  const int64_t block_bytes =
      kv_bytes_per_token(cache.kv_heads, cache.head_dim, cache.dtype) * cache.block_tokens;
  CHECK(cache.block_stride >= block_bytes)
      << op << ": blocks of " << block_bytes << " bytes every " << cache.block_stride;
  const auto element_bytes = static_cast<int64_t>(dtype_bytes(cache.dtype));
  CHECK(cache.block_stride % element_bytes == 0) << op << ": misaligned blocks";
  if (rows.rows == 0) return;
  CHECK(cache.blocks != nullptr && cache.block_table != nullptr && cache.first_block != nullptr)
      << op;
  CHECK(reinterpret_cast<intptr_t>(cache.blocks) % element_bytes == 0)
      << op << ": misaligned blocks";
  if (place_ != Place::kHost) return;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      const int64_t last = rows.positions[t];
      int64_t first = last;
      if (window) {
        first = cache.window_tokens == 0 ? 0 : std::max<int64_t>(0, last - cache.window_tokens + 1);
      }
      const int64_t begin = first / cache.block_tokens - cache.first_block[s];
      const int64_t end = last / cache.block_tokens - cache.first_block[s];
      CHECK(begin >= 0 && end < cache.table_stride)
          << op << ": positions " << first << " to " << last << " of sequence " << s
          << " need entries " << begin << " to " << end << " of a block table of "
          << cache.table_stride;
      for (int64_t i = begin; i <= end; ++i) {
        CHECK(cache.block_table[int64_t{s} * cache.table_stride + i] >= 0)
            << op << ": no block at entry " << i << " of sequence " << s;
      }
    }
  }
}

void CheckedOps::check_slots_distinct(const Ragged& rows, const KvView& cache) const {
  if (place_ != Place::kHost) return;
  std::vector<int64_t> slots;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    for (int32_t t = rows.offsets[s]; t < rows.offsets[s + 1]; ++t) {
      const int64_t entry = rows.positions[t] / cache.block_tokens - cache.first_block[s];
      const int64_t block = cache.block_table[int64_t{s} * cache.table_stride + entry];
      slots.push_back(block * cache.block_tokens + rows.positions[t] % cache.block_tokens);
    }
  }
  std::sort(slots.begin(), slots.end());
  const auto twice = std::adjacent_find(slots.begin(), slots.end());
  CHECK(twice == slots.end()) << "store_kv: two rows go to block " << *twice / cache.block_tokens;
}

void CheckedOps::check_states(const char* op, const Ragged& rows, const StateRows& states,
                              int64_t state_bytes) const {
  CHECK(states.offset >= 0 && states.offset % 64 == 0) << op << ": offset " << states.offset;
  if (rows.rows == 0) return;
  CHECK(states.base != nullptr) << op;
  if (place_ != Place::kHost) return;
  std::vector<const std::byte*> used;
  for (int32_t s = 0; s < rows.sequences; ++s) {
    if (rows.offsets[s] == rows.offsets[s + 1]) continue;
    CHECK(states.base[s] != nullptr) << op << ": sequence " << s << " has no state";
    CHECK(reinterpret_cast<uintptr_t>(states.base[s]) % 16 == 0)
        << op << ": misaligned state of sequence " << s;
    used.push_back(states.base[s]);
  }
  std::sort(used.begin(), used.end());
  for (size_t i = 1; i < used.size(); ++i) {
    CHECK(used[i] - used[i - 1] >= state_bytes) << op << ": two sequences share a state";
  }
}

// ---- rows ----

void CheckedOps::embed(const WeightView& table, const int32_t* ids, int32_t count, int32_t first_id,
                       float scale, TensorView y) {
  check_weight("embed: table", table);
  check_matrix("embed: y", y, count, table.cols);
  CHECK(count == 0 || ids != nullptr) << "embed: no ids";
  ops_->embed(table, ids, count, first_id, scale, y);
}

void CheckedOps::check_norm(const ConstTensorView& x, const NormArgs& args,
                            const TensorView& y) const {
  check_matrix("norm: x", x, x.rows, x.cols);
  check_matrix("norm: y", y, x.rows, x.cols);
  CHECK(args.groups >= 1 && x.cols % args.groups == 0)
      << "norm: " << x.cols << " columns in " << args.groups << " groups";
  CHECK(args.epsilon >= 0) << "norm: epsilon " << args.epsilon;
  for (const ConstTensorView* parameter : {&args.gain, &args.bias}) {
    if (parameter->empty()) continue;
    const bool shared = parameter->cols == x.cols / args.groups;
    check_matrix("norm: gain or bias", *parameter, 1, shared ? parameter->cols : x.cols);
    check_disjoint("norm", y, {*parameter});
  }
  CHECK(same(x, y) || disjoint(x, y)) << "norm: y overlaps x and is not x";
}

void CheckedOps::norm(ConstTensorView x, const NormArgs& args, TensorView y) {
  check_norm(x, args, y);
  ops_->norm(x, args, y);
}

void CheckedOps::check_linear(const ConstTensorView& x, const WeightView& w,
                              const TensorView& y) const {
  check_weight("linear: w", w);
  check_matrix("linear: x", x, x.rows, w.cols);
  check_matrix("linear: y", y, x.rows, w.rows);
  check_disjoint("linear", y, {x, w.bias});
}

void CheckedOps::linear(ConstTensorView x, const WeightView& w, TensorView y) {
  check_linear(x, w, y);
  ops_->linear(x, w, y);
}

void CheckedOps::add(ConstTensorView x, TensorView y) {
  check_matrix("add: x", x, y.rows, y.cols);
  check_matrix("add: y", y, y.rows, y.cols);
  check_disjoint("add", y, {x});
  ops_->add(x, y);
}

void CheckedOps::multiply(ConstTensorView x, TensorView y) {
  check_matrix("multiply: x", x, y.rows, y.cols);
  check_matrix("multiply: y", y, y.rows, y.cols);
  check_disjoint("multiply", y, {x});
  ops_->multiply(x, y);
}

void CheckedOps::activate(Activation kind, ConstTensorView x, TensorView y) {
  check_matrix("activate: x", x, y.rows, y.cols);
  check_matrix("activate: y", y, y.rows, y.cols);
  CHECK(same(x, y) || disjoint(x, y)) << "activate: y overlaps x and is not x";
  ops_->activate(kind, x, y);
}

void CheckedOps::swiglu(ConstTensorView gate, ConstTensorView up, TensorView y) {
  check_matrix("swiglu: gate", gate, y.rows, y.cols);
  check_matrix("swiglu: up", up, y.rows, y.cols);
  check_matrix("swiglu: y", y, y.rows, y.cols);
  for (const ConstTensorView* x : {&gate, &up}) {
    CHECK(same(*x, y) || disjoint(*x, y)) << "swiglu: y overlaps an input and is not that input";
  }
  ops_->swiglu(gate, up, y);
}

void CheckedOps::gather_rows(ConstTensorView x, const int32_t* indices, int32_t count,
                             TensorView y) {
  check_matrix("gather_rows: x", x, x.rows, x.cols);
  check_matrix("gather_rows: y", y, y.rows, x.cols);
  CHECK(count >= 0 && count <= y.rows) << "gather_rows: " << count << " rows into " << y.rows;
  CHECK(same(x, y) || disjoint(x, y)) << "gather_rows: y overlaps x and is not x";
  for (int32_t i = 0; i < count && place_ == Place::kHost; ++i) {
    CHECK(indices[i] > (i == 0 ? -1 : indices[i - 1]) && indices[i] < x.rows)
        << "gather_rows: index " << i << " is " << indices[i] << " of " << x.rows
        << " rows; indices ascend strictly";
  }
  ops_->gather_rows(x, indices, count, y);
}

// ---- attention ----

void CheckedOps::rope_table(const int32_t* positions, int32_t rows,
                            ConstTensorView inverse_frequencies, float scale, TensorView cos_sin) {
  check_matrix("rope_table: inverse_frequencies", inverse_frequencies, 1, inverse_frequencies.cols);
  check_matrix("rope_table: cos_sin", cos_sin, rows, 2 * inverse_frequencies.cols);
  CHECK(rows == 0 || positions != nullptr) << "rope_table: no positions";
  check_disjoint("rope_table", cos_sin, {inverse_frequencies});
  ops_->rope_table(positions, rows, inverse_frequencies, scale, cos_sin);
}

void CheckedOps::check_rope(const ConstTensorView& cos_sin, int32_t head_dim,
                            const TensorView& x) const {
  CHECK(head_dim > 0 && x.cols % head_dim == 0)
      << "rope: " << x.cols << " columns in heads of " << head_dim;
  CHECK(cos_sin.cols <= head_dim && cos_sin.cols % 2 == 0)
      << "rope: rotates " << cos_sin.cols << " of " << head_dim;
  check_matrix("rope: x", x, x.rows, x.cols);
  check_matrix("rope: cos_sin", cos_sin, x.rows, cos_sin.cols);
  check_disjoint("rope", x, {cos_sin});
}

void CheckedOps::rope(ConstTensorView cos_sin, RopeStyle style, int32_t head_dim, TensorView x) {
  check_rope(cos_sin, head_dim, x);
  ops_->rope(cos_sin, style, head_dim, x);
}

void CheckedOps::check_store(const ConstTensorView& k, const ConstTensorView& v, const Ragged& rows,
                             const KvView& cache) const {
  const int64_t cols = int64_t{cache.kv_heads} * cache.head_dim;
  check_ragged("store_kv", rows, k.rows, false);
  check_matrix("store_kv: k", k, rows.rows, cols);
  check_matrix("store_kv: v", v, rows.rows, cols);
  check_cache("store_kv", rows, cache, false);
  check_slots_distinct(rows, cache);
}

void CheckedOps::store_kv(ConstTensorView k, ConstTensorView v, const Ragged& rows,
                          const KvView& cache) {
  check_store(k, v, rows, cache);
  ops_->store_kv(k, v, rows, cache);
}

void CheckedOps::check_attend(const ConstTensorView& q, const Ragged& rows, const KvView& cache,
                              const TensorView& out) const {
  check_ragged("attend", rows, q.rows, false);
  check_matrix("attend: q", q, rows.rows, q.cols);
  check_matrix("attend: out", out, rows.rows, q.cols);
  check_cache("attend", rows, cache, true);
  const int64_t group_cols = int64_t{cache.kv_heads} * cache.head_dim;
  CHECK(q.cols % group_cols == 0) << "attend: " << q.cols << " columns for " << cache.kv_heads
                                  << " kv heads of " << cache.head_dim;
  check_disjoint("attend", out, {q});
}

void CheckedOps::attend(ConstTensorView q, const Ragged& rows, const KvView& cache, float scale,
                        TensorView out) {
  check_attend(q, rows, cache, out);
  ops_->attend(q, rows, cache, scale, out);
}

// ---- recurrences ----

void CheckedOps::check_shift_mix(const ConstTensorView& x, const Ragged& rows,
                                 const StateRows& states, const ConstTensorView& mix,
                                 const TensorView& out) const {
  check_ragged("shift_mix", rows, x.rows, true);
  check_states("shift_mix", rows, states, x.cols * 4);
  check_matrix("shift_mix: x", x, x.rows, x.cols);
  check_matrix("shift_mix: mix", mix, mix.rows, x.cols);
  check_matrix("shift_mix: out", out, x.rows, mix.rows * x.cols);
  check_disjoint("shift_mix", out, {x, mix});
}

void CheckedOps::shift_mix(ConstTensorView x, const Ragged& rows, const StateRows& states,
                           ConstTensorView mix, TensorView out) {
  check_shift_mix(x, rows, states, mix, out);
  ops_->shift_mix(x, rows, states, mix, out);
}

void CheckedOps::wkv4(const Wkv4Args& args, const Ragged& rows, const StateRows& states,
                      TensorView out) {
  const int64_t channels = args.k.cols;
  check_ragged("wkv4", rows, out.rows, true);
  check_states("wkv4", rows, states, wkv4_state_bytes(channels));
  for (const ConstTensorView& x : {args.k, args.v, args.r, ConstTensorView(out)}) {
    check_matrix("wkv4: k, v, r or out", x, rows.rows, channels);
  }
  check_matrix("wkv4: w", args.w, 1, channels);
  check_matrix("wkv4: u", args.u, 1, channels);
  check_disjoint("wkv4", out, {args.k, args.v, args.r, args.w, args.u});
  ops_->wkv4(args, rows, states, out);
}

void CheckedOps::check_prepare(const Wkv7PrepareArgs& args) const {
  const int64_t rows = args.w.rows, cols = args.w.cols;
  CHECK(args.head_dim > 0 && cols % args.head_dim == 0)
      << "wkv7_prepare: " << cols << " columns in heads of " << args.head_dim;
  const TensorView outputs[] = {args.w, args.a, args.b, args.k, args.v};
  for (const TensorView& x : outputs) check_matrix("wkv7_prepare: w, a, b, k or v", x, rows, cols);
  check_matrix("wkv7_prepare: k_k", args.k_k, 1, cols);
  check_matrix("wkv7_prepare: k_a", args.k_a, 1, cols);
  if (!args.v_first.empty()) {
    check_matrix("wkv7_prepare: v_first", args.v_first, rows, cols);
    check_matrix("wkv7_prepare: v_gate", args.v_gate, rows, cols);
  }
  for (const TensorView& x : outputs) {
    check_disjoint("wkv7_prepare", x, {args.k_k, args.k_a});
    if (!args.v_first.empty()) check_disjoint("wkv7_prepare", x, {args.v_first, args.v_gate});
    for (const TensorView& other : outputs) {
      if (&x != &other) check_disjoint("wkv7_prepare", x, {other});
    }
  }
}

void CheckedOps::wkv7_prepare(const Wkv7PrepareArgs& args) {
  check_prepare(args);
  ops_->wkv7_prepare(args);
}

void CheckedOps::check_wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                            const TensorView& out) const {
  CHECK(args.heads > 0 && args.head_dim > 0) << "wkv7: " << args.heads << " heads";
  const int64_t cols = int64_t{args.heads} * args.head_dim;
  check_ragged("wkv7", rows, out.rows, true);
  check_states("wkv7", rows, states, wkv7_state_bytes(args.heads, args.head_dim));
  for (const ConstTensorView& x :
       {args.r, args.w, args.k, args.v, args.a, args.b, ConstTensorView(out)}) {
    check_matrix("wkv7: r, w, k, v, a, b or out", x, rows.rows, cols);
  }
  check_disjoint("wkv7", out, {args.r, args.w, args.k, args.v, args.a, args.b});
}

void CheckedOps::wkv7(const Wkv7Args& args, const Ragged& rows, const StateRows& states,
                      TensorView out) {
  check_wkv7(args, rows, states, out);
  ops_->wkv7(args, rows, states, out);
}

void CheckedOps::check_finish(const Wkv7FinishArgs& args, const TensorView& y) const {
  CHECK(args.head_dim > 0 && y.cols % args.head_dim == 0)
      << "wkv7_finish: " << y.cols << " columns in heads of " << args.head_dim;
  for (const ConstTensorView& x : {args.r, args.k, args.v, args.g, ConstTensorView(y)}) {
    check_matrix("wkv7_finish: r, k, v, g or y", x, y.rows, y.cols);
  }
  check_matrix("wkv7_finish: r_k", args.r_k, 1, y.cols);
  check_disjoint("wkv7_finish", y, {args.r, args.k, args.v, args.g, args.r_k});
}

void CheckedOps::wkv7_finish(const Wkv7FinishArgs& args, TensorView y) {
  check_finish(args, y);
  ops_->wkv7_finish(args, y);
}

void CheckedOps::retention(const RetentionArgs& args, const Ragged& rows, const StateRows& states,
                           TensorView out) {
  CHECK(args.heads > 0 && args.head_dim > 0) << "retention: " << args.heads << " heads";
  CHECK(args.gate_normalizer > 0) << "retention: gate_normalizer " << args.gate_normalizer;
  const int64_t cols = int64_t{args.heads} * args.head_dim;
  check_ragged("retention", rows, out.rows, true);
  check_states("retention", rows, states, retention_state_bytes(args.heads, args.head_dim));
  for (const ConstTensorView& x : {args.q, args.k, args.v, ConstTensorView(out)}) {
    check_matrix("retention: q, k, v or out", x, rows.rows, cols);
  }
  check_matrix("retention: gate", args.gate, rows.rows, args.heads);
  check_disjoint("retention", out, {args.q, args.k, args.v, args.gate});
  ops_->retention(args, rows, states, out);
}

}  // namespace trireme
