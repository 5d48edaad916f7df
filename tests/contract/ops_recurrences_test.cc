// The ops that remember, on every device, against their formulas in f64: outputs and the states
// they leave. The batches are ragged, with runs from the middle of a sequence, empty runs, and runs
// from position 0 whose state bytes are NaN and must not be read.
#include <algorithm>
#include <array>
#include <cmath>

#include "tests/contract/ops_support.h"

namespace trireme::contract {
namespace {

using Values = std::vector<double>;

class RecurrentOps : public testing::TestWithParam<DeviceCase> {
 protected:
  // One state per run of `runs`: normal numbers where a run goes on, NaN where it begins.
  States states(Random& random, const std::vector<RunSpec>& runs, int64_t floats) {
    States states(*device_, static_cast<int32_t>(runs.size()), floats);
    for (size_t s = 0; s < runs.size(); ++s) {
      if (runs[s].first == 0) continue;
      std::vector<float> values(static_cast<size_t>(floats));
      for (float& x : values) x = std::abs(random.normal());
      states.set(static_cast<int32_t>(s), values);
    }
    return states;
  }

  // What a run begins with, in f64.
  static Values before(const States& states, const std::vector<RunSpec>& runs, size_t s) {
    const std::vector<float> bytes = states.get(static_cast<int32_t>(s));
    if (runs[s].first == 0) return Values(bytes.size(), 0.0);
    return {bytes.begin(), bytes.end()};
  }

  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
};

INSTANTIATE_TEST_SUITE_P(Devices, RecurrentOps, testing::ValuesIn(device_cases()), case_name);

const std::vector<RunSpec> kRuns = {{0, 9}, {4, 0}, {17, 1}, {0, 1}, {0, 0}, {100, 23}};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Compares results of runs and the states after them; empty runs leave theirs as it was, bit by
// bit, NaN or not.
void expect_states(const States& states, const std::vector<std::vector<float>>& initial,
                   const std::vector<Values>& want, const std::vector<RunSpec>& runs,
                   double tolerance) {
  for (size_t s = 0; s < runs.size(); ++s) {
    const std::vector<float> got = states.get(static_cast<int32_t>(s));
    const std::string what = "state " + std::to_string(s);
    if (runs[s].rows == 0) {
      expect_same_bits(got, initial[s], what);
    } else {
      expect_near(got, want[s], tolerance, what);
    }
  }
}

std::vector<std::vector<float>> all_of(const States& states, size_t count) {
  std::vector<std::vector<float>> all;
  for (size_t s = 0; s < count; ++s) all.push_back(states.get(static_cast<int32_t>(s)));
  return all;
}

TEST_P(RecurrentOps, ShiftMix) {
  uint64_t seed = 2000;
  for (auto [cols, mixes] : {std::pair{1, 1}, {24, 2}, {128, 6}, {200, 3}, {512, 6}, {64, 0}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << cols << " columns");
    Random random(seed);
    const Batch batch(*device_, kRuns);
    States states = this->states(random, kRuns, cols);
    const auto initial = all_of(states, kRuns.size());
    Mat x = Mat::random(*device_, random, batch.rows(), cols, 3);
    Mat mix = Mat::random(*device_, random, mixes, cols, 1);
    Mat out(*device_, batch.rows(), mixes * cols, 7);
    Values want;
    std::vector<Values> want_states(kRuns.size());
    for (size_t s = 0; s < kRuns.size(); ++s) {
      Values previous = before(states, kRuns, s);
      for (int32_t t = batch.offset(static_cast<int32_t>(s));
           t < batch.offset(static_cast<int32_t>(s) + 1); ++t) {
        for (int64_t i = 0; i < mixes; ++i) {
          for (int64_t c = 0; c < cols; ++c) {
            const double now = x.at(t, c);
            want.push_back(now + (previous[static_cast<size_t>(c)] - now) * mix.at(i, c));
          }
        }
        const std::vector<float> row = x.row(t);
        previous.assign(row.begin(), row.end());
      }
      want_states[s] = previous;
    }
    ops_.shift_mix(x.view(), batch.ragged(), states.rows(), mix.view(), out.view());
    out.fetch();
    expect_near(out.values(), want, 5e-7, "shift_mix");
    expect_states(states, initial, want_states, kRuns, 0);
  }
}

TEST_P(RecurrentOps, Wkv4) {
  uint64_t seed = 2100;
  for (int64_t channels : {1, 40, 64, 330}) {
    for (float spread : {1.0f, 30.0f}) {  // exponents far beyond what exp alone can hold
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << channels << " channels");
      Random random(seed);
      const Batch batch(*device_, kRuns);
      States states = this->states(random, kRuns, 3 * channels);
      const auto initial = all_of(states, kRuns.size());
      Mat k = Mat::random(*device_, random, batch.rows(), channels, 1, spread);
      Mat v = Mat::random(*device_, random, batch.rows(), channels, 2);
      Mat r = Mat::random(*device_, random, batch.rows(), channels, 3);
      Mat w = Mat::random(*device_, random, 1, channels),
          u = Mat::random(*device_, random, 1, channels);
      for (int64_t c = 0; c < channels; ++c) w.at(0, c) = -std::exp(w.at(0, c));
      w.put();
      Mat out(*device_, batch.rows(), channels, 4);
      Values want(static_cast<size_t>(batch.rows() * channels));
      std::vector<Values> want_states(kRuns.size());
      for (size_t s = 0; s < kRuns.size(); ++s) {
        Values state = before(states, kRuns, s);
        for (int64_t c = 0; c < channels; ++c) {
          const auto n = static_cast<size_t>(channels), i = static_cast<size_t>(c);
          double aa = state[i], bb = state[n + i],
                 pp = kRuns[s].first == 0 ? -1e38 : state[2 * n + i];
          for (int32_t t = batch.offset(static_cast<int32_t>(s));
               t < batch.offset(static_cast<int32_t>(s) + 1); ++t) {
            const double kk = k.at(t, c), vv = v.at(t, c);
            double q = std::max(pp, u.at(0, c) + kk);
            double old_part = std::exp(pp - q), new_part = std::exp(u.at(0, c) + kk - q);
            const double wkv = (old_part * aa + new_part * vv) / (old_part * bb + new_part);
            want[static_cast<size_t>(t * channels + c)] = sigmoid(r.at(t, c)) * wkv;
            q = std::max(pp + w.at(0, c), kk);
            old_part = std::exp(pp + w.at(0, c) - q), new_part = std::exp(kk - q);
            aa = old_part * aa + new_part * vv;
            bb = old_part * bb + new_part;
            pp = q;
          }
          state[i] = aa, state[n + i] = bb, state[2 * n + i] = pp;
        }
        want_states[s] = state;
      }
      Wkv4Args args;
      args.k = k.view(), args.v = v.view(), args.r = r.view();
      args.w = w.view(), args.u = u.view();
      ops_.wkv4(args, batch.ragged(), states.rows(), out.view());
      out.fetch();
      const double tolerance = 2e-5 * spread;  // an exponent of 100 has an ulp of 8e-6
      expect_near(out.values(), want, tolerance, "wkv4");
      expect_states(states, initial, want_states, kRuns, tolerance);
    }
  }
}

TEST_P(RecurrentOps, Wkv7Prepare) {
  uint64_t seed = 2200;
  for (auto [rows, heads, dim] : {std::array{1, 1, 64}, {3, 2, 24}, {33, 4, 64}, {2, 3, 128}}) {
    for (bool first_layer : {true, false}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
      Random random(seed);
      const int64_t cols = heads * dim;
      std::vector<Mat> in;  // w, a, b, k, v, v_gate, v_first, k_k, k_a
      for (int i = 0; i < 9; ++i) {
        in.push_back(Mat::random(*device_, random, i < 7 ? rows : 1, cols, i < 7 ? i : 0));
      }
      for (int64_t c = 0; c < dim; ++c) in[3].at(0, c) = 0;  // kk of a head without length: 0
      in[3].put();
      Values w, a, b, k, v;
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          double squares = 0;
          for (int64_t i = c / dim * dim; i < (c / dim + 1) * dim; ++i) {
            squares += std::pow(double{in[3].at(t, i)} * in[7].at(0, i), 2);
          }
          const double kk =
              double{in[3].at(t, c)} * in[7].at(0, c) / std::max(std::sqrt(squares), 1e-12);
          const double al = sigmoid(in[1].at(t, c));
          w.push_back(std::exp(-std::exp(-0.5) * sigmoid(in[0].at(t, c))));
          a.push_back(-kk);
          b.push_back(kk * al);
          k.push_back(in[3].at(t, c) * (1 + (al - 1) * in[8].at(0, c)));
          const double gate = first_layer ? 0 : sigmoid(in[5].at(t, c));
          v.push_back(in[4].at(t, c) + (double{in[6].at(t, c)} - in[4].at(t, c)) * gate);
        }
      }
      Wkv7PrepareArgs args;
      args.w = in[0].view(), args.a = in[1].view(), args.b = in[2].view();
      args.k = in[3].view(), args.v = in[4].view();
      if (!first_layer) args.v_gate = in[5].view(), args.v_first = in[6].view();
      args.k_k = in[7].view(), args.k_a = in[8].view(), args.head_dim = dim;
      ops_.wkv7_prepare(args);
      const Values* want[] = {&w, &a, &b, &k, &v};
      const char* names[] = {"w", "a", "b", "k", "v"};
      for (size_t i = 0; i < 5; ++i) {
        in[i].fetch();
        expect_near(in[i].values(), *want[i], 1e-6, names[i]);
      }
    }
  }
}

TEST_P(RecurrentOps, Wkv7) {
  uint64_t seed = 2300;
  for (auto [heads, dim] : {std::pair{3, 64}, {1, 16}, {2, 24}, {1, 128}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
    Random random(seed);
    const int64_t cols = heads * dim;
    const Batch batch(*device_, kRuns);
    States states = this->states(random, kRuns, heads * dim * dim);
    const auto initial = all_of(states, kRuns.size());
    std::vector<Mat> in;  // r, w, k, v, a, b
    const float scale = 1 / std::sqrt(static_cast<float>(dim));
    for (int i = 0; i < 6; ++i) {
      in.push_back(Mat::random(*device_, random, batch.rows(), cols, i, i >= 4 ? scale : 1));
    }
    for (int32_t t = 0; t < batch.rows(); ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        in[1].at(t, c) = static_cast<float>(std::exp(-0.6065 * sigmoid(in[1].at(t, c))));
      }
    }
    in[1].put();
    Mat out(*device_, batch.rows(), cols, 9);
    Values want(static_cast<size_t>(batch.rows() * cols));
    std::vector<Values> want_states(kRuns.size());
    for (size_t s = 0; s < kRuns.size(); ++s) {
      Values state = before(states, kRuns, s);
      for (int32_t t = batch.offset(static_cast<int32_t>(s));
           t < batch.offset(static_cast<int32_t>(s) + 1); ++t) {
        for (int64_t i = 0; i < cols; ++i) {  // value i % dim of head i / dim
          double* row = state.data() + i * dim;
          const int64_t first = i / dim * dim;
          double sa = 0, sum = 0;
          for (int64_t j = 0; j < dim; ++j) sa += row[j] * in[4].at(t, first + j);
          for (int64_t j = 0; j < dim; ++j) {
            row[j] = row[j] * in[1].at(t, first + j) + sa * in[5].at(t, first + j) +
                     double{in[3].at(t, i)} * in[2].at(t, first + j);
            sum += row[j] * in[0].at(t, first + j);
          }
          want[static_cast<size_t>(t * cols + i)] = sum;
        }
      }
      want_states[s] = state;
    }
    Wkv7Args args;
    args.r = in[0].view(), args.w = in[1].view(), args.k = in[2].view();
    args.v = in[3].view(), args.a = in[4].view(), args.b = in[5].view();
    args.heads = heads, args.head_dim = dim;
    ops_.wkv7(args, batch.ragged(), states.rows(), out.view());
    out.fetch();
    expect_near(out.values(), want, 3e-5, "wkv7");
    expect_states(states, initial, want_states, kRuns, 3e-5);
  }
}

TEST_P(RecurrentOps, Wkv7Finish) {
  uint64_t seed = 2400;
  for (auto [rows, heads, dim] : {std::array{1, 2, 64}, {5, 3, 24}, {40, 4, 64}, {0, 1, 16}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
    Random random(seed);
    const int64_t cols = heads * dim;
    std::vector<Mat> in;  // r, k, v, g, y, r_k
    for (int i = 0; i < 6; ++i) {
      in.push_back(Mat::random(*device_, random, i < 5 ? rows : 1, cols, i < 5 ? i : 0));
    }
    Values want;
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        double bonus = 0;
        for (int64_t i = c / dim * dim; i < (c / dim + 1) * dim; ++i) {
          bonus += double{in[0].at(t, i)} * in[1].at(t, i) * in[5].at(0, i);
        }
        want.push_back((in[4].at(t, c) + bonus * in[2].at(t, c)) * in[3].at(t, c));
      }
    }
    Wkv7FinishArgs args;
    args.r = in[0].view(), args.k = in[1].view(), args.v = in[2].view(), args.g = in[3].view();
    args.r_k = in[5].view(), args.head_dim = dim;
    ops_.wkv7_finish(args, in[4].view());
    in[4].fetch();
    expect_near(in[4].values(), want, 1e-5, "wkv7_finish");
  }
}

TEST_P(RecurrentOps, Retention) {
  uint64_t seed = 2500;
  for (auto [heads, dim] : {std::pair{3, 64}, {1, 20}, {2, 128}, {1, 80}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
    Random random(seed);
    const int64_t cols = heads * dim;
    const Batch batch(*device_, kRuns);
    States states = this->states(random, kRuns, heads * dim * dim);
    const auto initial = all_of(states, kRuns.size());
    Mat q = Mat::random(*device_, random, batch.rows(), cols, 1, 0.2f);
    Mat k = Mat::random(*device_, random, batch.rows(), cols, 2);
    Mat v = Mat::random(*device_, random, batch.rows(), cols, 3);
    Mat gate = Mat::random(*device_, random, batch.rows(), heads, 4, 20);
    Mat out(*device_, batch.rows(), cols, 5);
    const double k_scale = 0.125, normalizer = 16;
    Values want(static_cast<size_t>(batch.rows() * cols));
    std::vector<Values> want_states(kRuns.size());
    for (size_t s = 0; s < kRuns.size(); ++s) {
      Values state = before(states, kRuns, s);
      for (int32_t t = batch.offset(static_cast<int32_t>(s));
           t < batch.offset(static_cast<int32_t>(s) + 1); ++t) {
        for (int64_t i = 0; i < cols; ++i) {  // key i % dim of head i / dim
          const double gamma = std::pow(sigmoid(gate.at(t, i / dim)), 1 / normalizer);
          for (int64_t j = 0; j < dim; ++j) {
            double& cell = state[static_cast<size_t>(i * dim + j)];
            const int64_t value = i / dim * dim + j;
            cell = gamma * cell + k.at(t, i) * k_scale * v.at(t, value);
            want[static_cast<size_t>(t * cols + value)] += q.at(t, i) * cell;
          }
        }
      }
      want_states[s] = state;
    }
    RetentionArgs args;
    args.q = q.view(), args.k = k.view(), args.v = v.view(), args.gate = gate.view();
    args.heads = heads, args.head_dim = dim;
    args.gate_normalizer = static_cast<float>(normalizer);
    args.k_scale = static_cast<float>(k_scale);
    ops_.retention(args, batch.ragged(), states.rows(), out.view());
    out.fetch();
    expect_near(out.values(), want, 1e-5, "retention");
    expect_states(states, initial, want_states, kRuns, 1e-5);
  }
}

}  // namespace
}  // namespace trireme::contract
