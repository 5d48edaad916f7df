#include "tests/contract/ops_recurrence_cases.h"

#include <algorithm>
#include <cmath>

namespace trireme::contract {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

namespace {

// ---- how far f32 may be off ----
//
// Relative to the larger of 1 and the result. Every backend is held to the same numbers.
constexpr double kShiftMixTolerance = 5e-7;  // two roundings
// Per unit of `spread`, the size of exponents: one of 100 has an ulp of 8e-6, and e^x of it that
// relative error. While one row stays the largest, each row adds w to its exponent and rounds, to
// the same side as often as not: half an ulp of an exponent of 3, 200 times, is 2.4e-5.
constexpr double kWkv4Tolerance = 4e-5;
// Sums of 64 to 256 products of rounded state: their rounding errors, about 1e-7 of the largest
// term each, add up like a random walk over keys, and over rows while the decay keeps them.
constexpr double kWkv7Tolerance = 2e-5;
constexpr double kRetentionTolerance = 1e-5;

const char* inputs_name(Inputs inputs) {
  switch (inputs) {
    case Inputs::kPlain:
      return "plain";
    case Inputs::kLasting:
      return "lasting";
    case Inputs::kFleeting:
      return "fleeting";
  }
  return "";
}

class ShiftMixCase final : public RecurrenceCase {
 public:
  ShiftMixCase(int64_t cols, int64_t mixes) : cols_(cols), mixes_(mixes) {}
  std::string name() const override {
    return "shift_mix, " + std::to_string(cols_) + " columns, " + std::to_string(mixes_) + " mixes";
  }
  int64_t out_cols() const override { return mixes_ * cols_; }
  int64_t state_floats() const override { return cols_; }
  double tolerance() const override { return kShiftMixTolerance; }

  void draw(Device& device, Random& random, int32_t rows, bool pad) override {
    x_ = std::make_unique<Mat>(Mat::random(device, random, rows, cols_, pad ? 3 : 4));
    mix_ = std::make_unique<Mat>(Mat::parameter(device, random, mixes_, cols_, pad ? 1 : 0));
  }
  void run(Ops& ops, int32_t first, const Ragged& rows, const StateRows& states,
           TensorView out) const override {
    ops.shift_mix(x_->view().row_range(first, rows.rows), rows, states, mix_->view(), out);
  }
  void walk(int32_t first, int32_t end, Values& state, Values& out) const override {
    for (int32_t t = first; t < end; ++t) {
      for (int64_t i = 0; i < mixes_; ++i) {
        for (int64_t c = 0; c < cols_; ++c) {
          const double now = x_->at(t, c);
          out.push_back(now + (state[static_cast<size_t>(c)] - now) * mix_->at(i, c));
        }
      }
      const std::vector<float> row = x_->row(t);
      state.assign(row.begin(), row.end());
    }
  }

 private:
  int64_t cols_, mixes_;
  std::unique_ptr<Mat> x_, mix_;
};

class Wkv4Case final : public RecurrenceCase {
 public:
  Wkv4Case(int64_t channels, float spread, Inputs inputs)
      : channels_(channels), spread_(spread), inputs_(inputs) {}
  std::string name() const override {
    return "wkv4, " + std::to_string(channels_) + " channels, spread " + std::to_string(spread_) +
           ", " + inputs_name(inputs_);
  }
  int64_t out_cols() const override { return channels_; }
  int64_t state_floats() const override { return 3 * channels_; }
  Values empty_state() const override {
    Values state = RecurrenceCase::empty_state();
    std::fill(state.begin() + static_cast<std::ptrdiff_t>(2 * channels_), state.end(), -1e38);
    return state;
  }
  double tolerance() const override { return kWkv4Tolerance * spread_; }

  void draw(Device& device, Random& random, int32_t rows, bool pad) override {
    in_.clear();  // k, v, r
    for (int i = 0; i < 3; ++i) {
      in_.push_back(
          Mat::random(device, random, rows, channels_, pad ? i + 1 : 0, i == 0 ? spread_ : 1.0f));
    }
    // A model's own: the same for all calls.
    if (w_) return;
    const float shift = inputs_ == Inputs::kPlain ? 0.0f : inputs_ == Inputs::kLasting ? -8.0f : 4;
    w_ = std::make_unique<Mat>(Mat::parameter(device, random, 1, channels_, 0, 1, shift));
    u_ = std::make_unique<Mat>(Mat::parameter(device, random, 1, channels_));
    for (int64_t c = 0; c < channels_; ++c) w_->at(0, c) = -std::exp(w_->at(0, c));
    w_->put();
  }
  void run(Ops& ops, int32_t first, const Ragged& rows, const StateRows& states,
           TensorView out) const override {
    Wkv4Args args;
    args.k = in_[0].view().row_range(first, rows.rows),
    args.v = in_[1].view().row_range(first, rows.rows),
    args.r = in_[2].view().row_range(first, rows.rows);
    args.w = w_->view(), args.u = u_->view();
    ops.wkv4(args, rows, states, out);
  }
  void walk(int32_t first, int32_t end, Values& state, Values& out) const override {
    const auto n = static_cast<size_t>(channels_);
    for (int32_t t = first; t < end; ++t) {
      for (size_t i = 0; i < n; ++i) {
        const auto c = static_cast<int64_t>(i);
        double &aa = state[i], &bb = state[n + i], &pp = state[2 * n + i];
        const double k = in_[0].at(t, c), v = in_[1].at(t, c), w = w_->at(0, c);
        double q = std::max(pp, u_->at(0, c) + k);
        double old_part = std::exp(pp - q), new_part = std::exp(u_->at(0, c) + k - q);
        const double wkv = (old_part * aa + new_part * v) / (old_part * bb + new_part);
        out.push_back(sigmoid(in_[2].at(t, c)) * wkv);
        q = std::max(pp + w, k);
        old_part = std::exp(pp + w - q), new_part = std::exp(k - q);
        aa = old_part * aa + new_part * v;
        bb = old_part * bb + new_part;
        pp = q;
      }
    }
  }

 private:
  int64_t channels_;
  float spread_;
  Inputs inputs_;
  std::vector<Mat> in_;
  std::unique_ptr<Mat> w_, u_;
};

class Wkv7Case final : public RecurrenceCase {
 public:
  Wkv7Case(int32_t heads, int32_t dim, Inputs inputs) : heads_(heads), dim_(dim), inputs_(inputs) {}
  std::string name() const override {
    return "wkv7, " + std::to_string(heads_) + " heads of " + std::to_string(dim_) + ", " +
           inputs_name(inputs_);
  }
  int64_t out_cols() const override { return heads_ * dim_; }
  int64_t state_floats() const override { return heads_ * dim_ * dim_; }
  double tolerance() const override { return kWkv7Tolerance; }

  void draw(Device& device, Random& random, int32_t rows, bool pad) override {
    in_.clear();  // r, w, k, v, a, b
    const float scale = 1 / std::sqrt(static_cast<float>(dim_));
    for (int i = 0; i < 6; ++i) {
      in_.push_back(
          Mat::random(device, random, rows, heads_ * dim_, pad ? i : 4 * i, i >= 4 ? scale : 1));
    }
    const float shift = inputs_ == Inputs::kPlain     ? 0.0f
                        : inputs_ == Inputs::kLasting ? -12.0f
                                                      : 12.0f;
    for (int32_t t = 0; t < rows; ++t) {
      for (int64_t c = 0; c < heads_ * dim_; ++c) {
        in_[1].at(t, c) = static_cast<float>(std::exp(-0.6065 * sigmoid(in_[1].at(t, c) + shift)));
      }
      if (inputs_ != Inputs::kPlain) as_prepared(t);
    }
    for (Mat& x : in_) x.put();
  }

  void run(Ops& ops, int32_t first, const Ragged& rows, const StateRows& states,
           TensorView out) const override {
    Wkv7Args args;
    args.r = in_[0].view().row_range(first, rows.rows),
    args.w = in_[1].view().row_range(first, rows.rows),
    args.k = in_[2].view().row_range(first, rows.rows);
    args.v = in_[3].view().row_range(first, rows.rows),
    args.a = in_[4].view().row_range(first, rows.rows),
    args.b = in_[5].view().row_range(first, rows.rows);
    args.heads = heads_, args.head_dim = dim_;
    ops.wkv7(args, rows, states, out);
  }
  void walk(int32_t first, int32_t end, Values& state, Values& out) const override {
    const int64_t cols = heads_ * dim_;
    for (int32_t t = first; t < end; ++t) {
      for (int64_t i = 0; i < cols; ++i) {  // value i % dim of head i / dim
        double* row = state.data() + i * dim_;
        const int64_t head = i / dim_ * dim_;
        double sa = 0, sum = 0;
        for (int64_t j = 0; j < dim_; ++j) sa += row[j] * in_[4].at(t, head + j);
        for (int64_t j = 0; j < dim_; ++j) {
          row[j] = row[j] * in_[1].at(t, head + j) + sa * in_[5].at(t, head + j) +
                   double{in_[3].at(t, i)} * in_[2].at(t, head + j);
          sum += row[j] * in_[0].at(t, head + j);
        }
        out.push_back(sum);
      }
    }
  }

 private:
  // a = -kk and b = kk * al with kk of length 1 and al almost 1, which forgets what a key held;
  // keys recur, so that rows of a chunk undo each other's work; r and k of length 1.
  void as_prepared(int32_t t) {
    Mat &r = in_[0], &k = in_[2], &a = in_[4], &b = in_[5];
    for (int64_t first = 0; first < heads_ * dim_; first += dim_) {
      double squares = 0, r_squares = 0;
      for (int64_t c = first; c < first + dim_; ++c) {
        if (t % 3 == 2) a.at(t, c) = 0.1f * a.at(t, c) + a.at(t - 2, c);
        squares += double{a.at(t, c)} * a.at(t, c);
        r_squares += double{r.at(t, c)} * r.at(t, c);
      }
      for (int64_t c = first; c < first + dim_; ++c) {
        const double al = sigmoid(6 + b.at(t, c)), kk = a.at(t, c) / std::sqrt(squares);
        a.at(t, c) = static_cast<float>(-kk);
        b.at(t, c) = static_cast<float>(kk * al);
        k.at(t, c) = static_cast<float>(kk);
        r.at(t, c) = static_cast<float>(r.at(t, c) / std::sqrt(r_squares));
      }
    }
  }

  int64_t heads_, dim_;
  Inputs inputs_;
  std::vector<Mat> in_;
};

class RetentionCase final : public RecurrenceCase {
 public:
  RetentionCase(int32_t heads, int32_t dim, Inputs inputs)
      : heads_(heads), dim_(dim), inputs_(inputs) {}
  std::string name() const override {
    return "retention, " + std::to_string(heads_) + " heads of " + std::to_string(dim_) + ", " +
           inputs_name(inputs_);
  }
  int64_t out_cols() const override { return heads_ * dim_; }
  int64_t state_floats() const override { return heads_ * dim_ * dim_; }
  double tolerance() const override { return kRetentionTolerance; }

  void draw(Device& device, Random& random, int32_t rows, bool pad) override {
    in_.clear();  // q, k, v, gate
    for (int i = 0; i < 4; ++i) {
      in_.push_back(Mat::random(device, random, rows, i == 3 ? heads_ : heads_ * dim_,
                                pad ? i + 1 : 4 * i,
                                i == 0   ? 0.2f
                                : i == 3 ? 20.0f
                                         : 1.0f));
    }
    for (int32_t t = 0; t < rows; ++t) {
      for (int64_t h = 0; h < heads_; ++h) {
        float& gate = in_[3].at(t, h);
        if (inputs_ == Inputs::kLasting) gate = 8 + std::abs(gate);
        // Of two rows one forgets all: e^-2000 is 0, and what follows it must not be 0 / 0.
        if (inputs_ == Inputs::kFleeting) gate = random.integer(0, 1) == 0 ? -32000.0f : -gate;
      }
    }
    in_[3].put();
  }
  void run(Ops& ops, int32_t first, const Ragged& rows, const StateRows& states,
           TensorView out) const override {
    RetentionArgs args;
    args.q = in_[0].view().row_range(first, rows.rows),
    args.k = in_[1].view().row_range(first, rows.rows),
    args.v = in_[2].view().row_range(first, rows.rows);
    args.gate = in_[3].view().row_range(first, rows.rows);
    args.heads = heads_, args.head_dim = dim_;
    args.gate_normalizer = static_cast<float>(kNormalizer);
    args.k_scale = static_cast<float>(kScale);
    ops.retention(args, rows, states, out);
  }
  void walk(int32_t first, int32_t end, Values& state, Values& out) const override {
    const int64_t cols = heads_ * dim_;
    for (int32_t t = first; t < end; ++t) {
      const size_t from = out.size();
      out.resize(from + static_cast<size_t>(cols), 0.0);
      for (int64_t i = 0; i < cols; ++i) {  // key i % dim of head i / dim
        const double gate = in_[3].at(t, i / dim_);
        const double log_gate =
            gate < 0 ? gate - std::log1p(std::exp(gate)) : -std::log1p(std::exp(-gate));
        const double gamma = std::exp(log_gate / kNormalizer), k = in_[1].at(t, i) * kScale;
        for (int64_t j = 0; j < dim_; ++j) {
          double& cell = state[static_cast<size_t>(i * dim_ + j)];
          const int64_t value = i / dim_ * dim_ + j;
          cell = gamma * cell + k * in_[2].at(t, value);
          out[from + static_cast<size_t>(value)] += in_[0].at(t, i) * cell;
        }
      }
    }
  }

 private:
  static constexpr double kNormalizer = 16, kScale = 0.125;
  int64_t heads_, dim_;
  Inputs inputs_;
  std::vector<Mat> in_;
};

}  // namespace

std::unique_ptr<RecurrenceCase> shift_mix_case(int64_t cols, int64_t mixes) {
  return std::make_unique<ShiftMixCase>(cols, mixes);
}
std::unique_ptr<RecurrenceCase> wkv4_case(int64_t channels, float spread, Inputs inputs) {
  return std::make_unique<Wkv4Case>(channels, spread, inputs);
}
std::unique_ptr<RecurrenceCase> wkv7_case(int32_t heads, int32_t dim, Inputs inputs) {
  return std::make_unique<Wkv7Case>(heads, dim, inputs);
}
std::unique_ptr<RecurrenceCase> retention_case(int32_t heads, int32_t dim, Inputs inputs) {
  return std::make_unique<RetentionCase>(heads, dim, inputs);
}

}  // namespace trireme::contract
