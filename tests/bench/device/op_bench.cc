#include "tests/bench/device/op_bench.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "kernels/device_sampler.h"
#include "runtime/model/families/families.h"
#include "runtime/model/model.h"
#include "tests/bench/device/device_arrays.h"

namespace trireme::bench {
namespace {

// Weights and caches that are read again must not be found in the L2 cache, of 50 or 60 MB.
constexpr size_t kRotatedBytes = size_t{256} << 20;
constexpr int32_t kBlockTokens = 32;

class OpBench {
 public:
  OpBench(Device& device, const OpPlan& plan, const Deadline& deadline)
      : device_(device), ops_(device.ops()), plan_(plan), deadline_(deadline) {}

  Status run() {
    if (Status s = arena_.make(device_, plan_.arena_bytes); !s.ok()) return s;
    std::vector<ModelSpec> specs;
    for (const std::string& name : plan_.models) {
      const std::string path = std::string(TRIREME_SOURCE_DIR "/tests/bench/models/") + name;
      Result<ModelSpec> spec = read_model_spec(path, nullptr);
      if (!spec.ok()) return spec.status();
      specs.push_back(spec.take());
    }
    // What targets name comes first: attention of every model, then the matrices of decode.
    for (size_t i = 0; i < specs.size(); ++i) {
      model_ = plan_.models[i];
      for (const SublayerSpec& sub : specs[i].sublayers) recall(sub);
    }
    for (size_t i = 0; i < specs.size(); ++i) {
      model_ = plan_.models[i];
      matrices(specs[i]);
      rows_of(specs[i]);
      if (!status_.ok()) return status_;
    }
    return status_;
  }

 private:
  // One figure, unless its shape was measured for a model before.
  void measure(const std::string& op, const std::string& shape, double bytes, double flops,
               const std::function<void(int64_t)>& work, int64_t context = 0) {
    if (!status_.ok() || deadline_.left() < 0.5 || measured(op, shape)) return;
    done_.insert(op + " " + shape);
    const Result<double> seconds = seconds_of(device_, plan_.timing, work);
    if (!seconds.ok()) {
      status_ = seconds.status();
      return;
    }
    boost::json::object figure = {{"kind", "op"},   {"model", model_},     {"op", op},
                                  {"shape", shape}, {"seconds", *seconds}, {"bytes", bytes}};
    if (flops > 0) figure["flops"] = flops;
    if (context > 0) figure["context"] = context;
    print_figure(figure);
  }

  bool fits(int64_t floats) const {
    return static_cast<size_t>(floats) * sizeof(float) <= plan_.arena_bytes;
  }
  // Measured, or not wanted.
  bool measured(const std::string& op, const std::string& shape) const {
    const std::string both = op + " " + shape;
    return done_.contains(both) || both.find(plan_.only) == std::string::npos;
  }
  bool all_measured(std::initializer_list<const char*> ops, const std::string& shape) const {
    return std::ranges::all_of(ops, [&](const char* op) { return measured(op, shape); });
  }

  // ---- matrices ----

  void matrices(const ModelSpec& spec) {
    const auto shapes = tensor_shapes(spec);
    if (!shapes.ok()) {
      status_ = shapes.status();
      return;
    }
    std::set<std::pair<int64_t, int64_t>> seen;
    for (const auto& [name, shape] : *shapes) {
      if (name == spec.embedding || shape.size() != 2 || shape[0] < 16 || shape[1] < 16) continue;
      if (seen.insert({shape[0], shape[1]}).second) matrix(shape[0], shape[1], plan_.rows);
    }
    if (model_ == plan_.models.front())
      matrix(spec.sublayers.back().ffn_dim, spec.dim, plan_.rows_between);
  }

  void matrix(int64_t outputs, int64_t inputs, const std::vector<int64_t>& all_rows) {
    std::vector<Matrix> copies;
    for (const int64_t rows : all_rows) {
      const std::string shape = fmt::format("{} x {} bf16, {} rows", outputs, inputs, rows);
      if (measured("linear", shape) || !fits(rows * std::max(inputs, outputs))) continue;
      if (copies.empty()) copies = rotated(outputs, inputs);
      const auto moved = static_cast<double>(2 * outputs * inputs + 4 * rows * (inputs + outputs));
      measure("linear", shape, moved, 2.0 * static_cast<double>(rows * inputs * outputs),
              [&](int64_t call) {
                ops_.linear(arena_.input(rows, inputs),
                            copies[static_cast<size_t>(call) % copies.size()].view(),
                            arena_.output(rows, outputs));
              });
      if (rows == 1) normed_matrix(outputs, inputs, moved, copies);
      if (!status_.ok()) return;
    }
  }

  // The same of one row, after its norm, as sublayers of a decode step begin.
  void normed_matrix(int64_t outputs, int64_t inputs, double moved,
                     const std::vector<Matrix>& copies) {
    if (!fits(2 * inputs + outputs)) return;
    const TensorView all = arena_.output(1, 2 * inputs + outputs);
    const TensorView x = all.col_range(0, inputs), normed = all.col_range(inputs, inputs);
    const TensorView y = all.col_range(2 * inputs, outputs);
    NormArgs norm;
    norm.gain = arena_.input(1, inputs);
    measure("norm_linears", fmt::format("{} x {} bf16, 1 row", outputs, inputs), moved, 0,
            [&](int64_t call) {
              const LinearCall product{
                  normed, copies[static_cast<size_t>(call) % copies.size()].view(), y, {}};
              ops_.norm_linears({{}, x, norm, normed}, {&product, 1});
            });
  }

  // So many equal matrices that none is found in a cache when its turn comes. None after an error.
  std::vector<Matrix> rotated(int64_t outputs, int64_t inputs) {
    std::vector<Matrix> copies;
    const size_t each = static_cast<size_t>(outputs * inputs) * dtype_bytes(DType::kBF16);
    while (copies.size() < 2 || copies.size() * each < std::min(kRotatedBytes, plan_.arena_bytes)) {
      Result<Matrix> made = device_.make_matrix(outputs, inputs, DType::kBF16);
      if (!made.ok()) {
        status_ = made.status();
        return {};
      }
      arena_.randomize(made->buffer);
      copies.push_back(made.take());
    }
    return copies;
  }

  // A feed-forward net as the model asks for it.
  void feed_forward(FeedForward kind, int64_t rows, int64_t dim, int64_t ffn) {
    const bool gated = kind == FeedForward::kSwiglu;
    const int64_t up_rows = gated ? 2 * ffn : ffn;
    const std::string op = gated ? "feed_forward (swiglu)" : "feed_forward (relu squared)";
    const std::string shape = fmt::format("{} x {} bf16, {} rows", ffn, dim, rows);
    if (measured(op, shape) || !fits(rows * (up_rows + dim))) return;
    const std::vector<Matrix> up = rotated(up_rows, dim), down = rotated(dim, ffn);
    const TensorView out = arena_.output(rows * (up_rows + dim), 1);
    const TensorView inner = tensor(out.data, rows, up_rows, DType::kF32, out.place);
    const TensorView y =
        tensor(out.row_range(rows * up_rows, 1).data, rows, dim, DType::kF32, out.place);
    const auto weights = static_cast<double>(dim * (up_rows + ffn));
    measure(op, shape, 2 * weights + 8.0 * static_cast<double>(rows * dim),
            2 * static_cast<double>(rows) * weights, [&](int64_t call) {
              const auto i = static_cast<size_t>(call);
              ops_.feed_forward(kind, arena_.input(rows, dim), up[i % up.size()].view(),
                                down[i % down.size()].view(), inner, y);
            });
  }

  // ---- row by row ----

  void rows_of(const ModelSpec& spec) {
    for (const int64_t rows : plan_.rows) {
      elementwise(rows, spec);
      choice(rows, spec.vocab);
      for (const SublayerSpec& sub : spec.sublayers) {
        if (sub.kind == SublayerKind::kSwiGlu) {
          swiglu(rows, sub.ffn_dim);
          feed_forward(FeedForward::kSwiglu, rows, spec.dim, sub.ffn_dim);
        }
        if (sub.kind == SublayerKind::kRwkv7ChannelMix) {
          relu_squared(rows, sub.ffn_dim);
          feed_forward(FeedForward::kReluSquared, rows, spec.dim, sub.ffn_dim);
        }
        if (sub.heads.rope >= 0) rope(rows, sub.heads);
      }
    }
  }

  void elementwise(int64_t rows, const ModelSpec& spec) {
    const int64_t dim = spec.dim;
    if (!fits(rows * dim)) return;
    const auto elements = static_cast<double>(rows * dim);
    const std::string shape = fmt::format("{} rows of {}", rows, dim);
    NormArgs norm;
    norm.kind = spec.norm_kind;
    norm.gain = arena_.input(1, dim);
    measure(spec.norm_kind == NormKind::kRms ? "norm (rms)" : "norm (layer)", shape, 8 * elements,
            0,
            [&](int64_t) { ops_.norm(arena_.input(rows, dim), norm, arena_.output(rows, dim)); });
    if (!fits(2 * rows * dim)) return;
    // The decoder's own: x += delta, y = norm(x).
    const TensorView both = arena_.output(2 * rows, dim);
    measure("add_norm", shape, 16 * elements, 0, [&](int64_t) {
      ops_.add_norm(arena_.input(rows, dim), both.row_range(0, rows), norm,
                    both.row_range(rows, rows));
    });
  }

  // Tokens from logits in device memory, as a step ends.
  void choice(int64_t rows, int64_t vocab) {
    DeviceSampler* sampler = device_.sampler();
    if (sampler == nullptr || !fits(rows * vocab)) return;
    SampleRow greedy, plain, nucleus, both;
    greedy.temperature = 0;
    nucleus.top_p = both.top_p = 0.9f;
    both.top_k = 50;
    for (const auto& [op, how] : {std::pair("choose (greedy)", greedy),
                                  {"choose (drawn)", plain},
                                  {"choose (top_p)", nucleus},
                                  {"choose (top_k, top_p)", both}}) {
      std::vector<SampleRow> each(static_cast<size_t>(rows), how);
      for (int64_t r = 0; r < rows; ++r) {
        each[static_cast<size_t>(r)].row = static_cast<int32_t>(r);
        each[static_cast<size_t>(r)].u = (static_cast<double>(r) + 0.5) / static_cast<double>(rows);
      }
      measure(op, fmt::format("{} rows of {}", rows, vocab), 4 * static_cast<double>(rows * vocab),
              0, [&](int64_t) {
                if (Status s = sampler->sample(arena_.input(rows, vocab), {each, {}, {}}); !s.ok())
                  status_ = s;
              });
    }
  }

  void swiglu(int64_t rows, int64_t dim) {
    if (!fits(2 * rows * dim)) return;
    const TensorView gate = arena_.input(2 * rows, dim);
    measure("swiglu", fmt::format("{} rows of {}", rows, dim), 12 * static_cast<double>(rows * dim),
            0, [&](int64_t) {
              ops_.swiglu(gate.row_range(0, rows), gate.row_range(rows, rows),
                          arena_.output(rows, dim));
            });
  }

  void relu_squared(int64_t rows, int64_t dim) {
    if (!fits(rows * dim)) return;
    measure("activate (relu squared)", fmt::format("{} rows of {}", rows, dim),
            8 * static_cast<double>(rows * dim), 0, [&](int64_t) {
              ops_.activate(Activation::kReluSquared, arena_.input(rows, dim),
                            arena_.output(rows, dim));
            });
  }

  void rope(int64_t rows, const HeadSpec& heads) {
    const int64_t dim = int64_t{heads.heads} * heads.head_dim;
    if (!fits(rows * dim)) return;
    measure("rope", fmt::format("{} rows of {} heads of {}", rows, heads.heads, heads.head_dim),
            8 * static_cast<double>(rows * dim), 0, [&](int64_t) {
              ops_.rope(arena_.input(rows, heads.head_dim), RopeStyle::kHalves, heads.head_dim,
                        arena_.output(rows, dim));
            });
  }

  // ---- what remembers ----

  void recall(const SublayerSpec& sub) {
    const bool attends =
        sub.kind == SublayerKind::kAttention || sub.kind == SublayerKind::kSharedAttention;
    if (attends && sub.heads.window_tokens == 0) {
      for (const OpPlan::Decode& d : plan_.decodes) attend(sub.heads, d.batch, 1, d.context);
      attend(sub.heads, 1, plan_.prefill, plan_.prefill);
    }
    if (sub.kind == SublayerKind::kRwkv7TimeMix || sub.kind == SublayerKind::kRetention) {
      for (const OpPlan::Decode& d : plan_.decodes) recur(sub, d.batch, 1);
      recur(sub, 1, plan_.prefill);
    }
  }

  // `sequences` runs of `rows` rows, the last of which sees `context` positions; and storing them.
  void attend(const HeadSpec& heads, int64_t sequences, int64_t rows, int64_t context) {
    const int64_t all = sequences * rows, dim = int64_t{heads.heads} * heads.head_dim;
    const std::string shape = fmt::format("{} x {} rows at {}, {}/{} heads of {}", sequences, rows,
                                          context, heads.heads, heads.kv_heads, heads.head_dim);
    const char* const op = plan_.warp_groups ? "attend" : "attend without warp groups";
    if (all_measured({op, "store_kv", rows == 1 ? "rope_attend" : op}, shape) || !fits(all * dim))
      return;
    const int64_t row_bytes = kv_bytes_per_token(heads.kv_heads, heads.head_dim, DType::kBF16);
    const auto each = static_cast<size_t>((context + kBlockTokens - 1) / kBlockTokens);
    const size_t blocks = each * static_cast<size_t>(sequences);
    DeviceArrays arrays(device_);
    KvView cache;
    cache.block_tokens = kBlockTokens;
    cache.block_stride = row_bytes * kBlockTokens;
    cache.kv_heads = heads.kv_heads;
    cache.head_dim = heads.head_dim;
    cache.dtype = DType::kBF16;
    cache.table_stride = static_cast<int32_t>(each);
    cache.blocks = arrays.room(blocks * static_cast<size_t>(cache.block_stride));
    if (cache.blocks == nullptr) return;  // this device has no room for it
    arena_.randomize(cache.blocks, blocks * static_cast<size_t>(cache.block_stride));
    cache.block_table = arrays.put(scattered(blocks));
    cache.first_block = arrays.put(std::vector<int32_t>(static_cast<size_t>(sequences), 0));
    const Ragged runs = arrays.runs(sequences, rows, context - rows);
    if (!arrays.status().ok()) {
      status_ = arrays.status();
      return;
    }
    const auto first = static_cast<double>(context - rows + 1), last = static_cast<double>(context);
    const double seen = static_cast<double>(all) * (first + last) / 2;
    measure(
        op, shape,
        static_cast<double>(sequences * context * row_bytes) + 8.0 * static_cast<double>(all * dim),
        4 * seen * static_cast<double>(dim),
        [&](int64_t) {
          ops_.attend(arena_.input(all, dim), runs, cache,
                      1 / std::sqrt(static_cast<float>(heads.head_dim)), arena_.output(all, dim));
        },
        context);
    const int64_t kv_dim = int64_t{heads.kv_heads} * heads.head_dim;
    if (rows == 1) rope_attend(shape, heads, sequences, runs, cache, context);
    measure("store_kv", shape, static_cast<double>(all * (row_bytes + 8 * kv_dim)), 0,
            [&](int64_t) {
              ops_.store_kv(arena_.input(all, kv_dim), arena_.input(all, kv_dim), runs, cache);
            });
  }

  // A decode step's attention: with the making and storing of its own keys and values.
  void rope_attend(const std::string& shape, const HeadSpec& heads, int64_t sequences,
                   const Ragged& runs, const KvView& cache, int64_t context) {
    const int64_t dim = int64_t{heads.heads} * heads.head_dim;
    const int64_t kv_dim = int64_t{heads.kv_heads} * heads.head_dim;
    if (!fits(4 * sequences * dim)) return;
    const TensorView all = arena_.output(4 * sequences, dim);
    const auto part = [&](int64_t i) { return all.row_range(i * sequences, sequences); };
    RopeAttendArgs args;
    args.cos_sin = arena_.input(sequences, heads.head_dim);
    args.scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
    args.q = part(0);
    args.k = part(1).col_range(0, kv_dim);
    args.v = part(2).col_range(0, kv_dim);
    const int64_t row_bytes = kv_bytes_per_token(heads.kv_heads, heads.head_dim, DType::kBF16);
    measure(
        "rope_attend", shape,
        static_cast<double>(sequences * context * row_bytes) +
            8.0 * static_cast<double>(sequences * (dim + kv_dim)),
        0, [&](int64_t) { ops_.rope_attend(args, runs, cache, part(3)); }, context);
  }

  // Block ids in an order that no prefetcher guesses.
  static std::vector<int32_t> scattered(size_t blocks) {
    std::vector<int32_t> ids(blocks);
    const size_t step = blocks % 7919 == 0 ? 7907 : 7919;  // both prime
    for (size_t i = 0; i < blocks; ++i) ids[i] = static_cast<int32_t>(i * step % blocks);
    return ids;
  }

  void recur(const SublayerSpec& sub, int64_t sequences, int64_t rows) {
    const bool wkv7 = sub.kind == SublayerKind::kRwkv7TimeMix;
    const HeadSpec& heads = sub.heads;
    const int64_t all = sequences * rows, dim = int64_t{heads.heads} * heads.head_dim;
    const char* const op = wkv7 ? "wkv7" : "retention";
    const std::string shape =
        fmt::format("{} x {} rows, {} heads of {}", sequences, rows, heads.heads, heads.head_dim);
    const bool mixes = wkv7 && rows == 1;
    if (all_measured({op, mixes ? "norm_shift_mix" : op, mixes ? "wkv7_mix" : op}, shape) ||
        !fits(6 * all * dim))
      return;
    const int64_t state_bytes = wkv7 ? wkv7_state_bytes(heads.heads, heads.head_dim)
                                     : retention_state_bytes(heads.heads, heads.head_dim);
    DeviceArrays arrays(device_);
    const StateRows states = arrays.states(sequences, state_bytes);
    // A prompt begins with an empty state; a step of decode reads one.
    const Ragged runs = arrays.runs(sequences, rows, rows > 1 ? 0 : 1);
    if (!arrays.status().ok()) {
      status_ = arrays.status();
      return;
    }
    const TensorView in = arena_.input(6 * all, dim);
    const auto part = [&](int64_t i) { return in.row_range(i * all, all); };
    const double bytes = static_cast<double>(sequences * state_bytes) * (rows > 1 ? 1 : 2) +
                         4.0 * static_cast<double>(all * dim) * (wkv7 ? 7 : 4);
    measure(op, shape, bytes, 0, [&](int64_t) {
      if (wkv7) {
        ops_.wkv7(
            {part(0), part(1), part(2), part(3), part(4), part(5), heads.heads, heads.head_dim},
            runs, states, arena_.output(all, dim));
      } else {
        ops_.retention({part(0), part(1), part(2), part(3).col_range(0, heads.heads), heads.heads,
                        heads.head_dim},
                       runs, states, arena_.output(all, dim));
      }
    });
    if (mixes) rwkv7_decode(shape, heads, sequences, runs, states);
  }

  // What a decode step of RWKV-7 does besides its products: token shift and time mixing, with the
  // norms before and after.
  void rwkv7_decode(const std::string& shape, const HeadSpec& heads, int64_t sequences,
                    const Ragged& runs, const StateRows& states) {
    constexpr int64_t kMixes = 6;
    const int64_t dim = int64_t{heads.heads} * heads.head_dim;
    if (!fits((kMixes + 2) * sequences * dim)) return;
    const TensorView all = arena_.output((kMixes + 2) * sequences, dim);
    const auto part = [&](int64_t i) { return all.row_range(i * sequences, sequences); };
    const TensorView mixed = tensor(part(2).data, sequences, kMixes * dim, DType::kF32, all.place);
    const ConstTensorView vectors = arena_.input(kMixes, dim);
    const ResidualNorm in{arena_.input(sequences, dim),
                          part(0),
                          {NormKind::kLayer, 1e-5f, 1, vectors.row_range(0, 1), {}},
                          part(1)};
    const auto rows_bytes = [&](int64_t rows) {
      return 4.0 * static_cast<double>(rows * sequences * dim);
    };
    measure("norm_shift_mix", shape, rows_bytes(kMixes + 5), 0,
            [&](int64_t) { ops_.norm_shift_mix(in, runs, states, vectors, mixed); });
    Wkv7MixArgs mix;
    mix.prepare.w = part(0);
    mix.prepare.a = part(1);
    mix.prepare.b = part(2);
    mix.prepare.k = part(3);
    mix.prepare.v = part(4);
    mix.prepare.k_k = mix.prepare.k_a = mix.r_k = vectors.row_range(0, 1);
    mix.prepare.head_dim = heads.head_dim;
    mix.r = arena_.input(sequences, dim);
    mix.g = arena_.input(sequences, dim);
    mix.norm = {NormKind::kLayer, 1e-5f, heads.heads, vectors.row_range(0, 1), {}};
    const double state_bytes =
        2.0 * static_cast<double>(sequences * wkv7_state_bytes(heads.heads, heads.head_dim));
    measure("wkv7_mix", shape, state_bytes + rows_bytes(7), 0,
            [&](int64_t) { ops_.wkv7_mix(mix, runs, states, part(5)); });
  }

  Device& device_;
  Ops& ops_;
  const OpPlan& plan_;
  const Deadline& deadline_;
  Arena arena_;
  std::string model_;
  std::set<std::string> done_;
  Status status_;
};

}  // namespace

Status run_ops(Device& device, const OpPlan& plan, const Deadline& deadline) {
  return OpBench(device, plan, deadline).run();
}

}  // namespace trireme::bench
