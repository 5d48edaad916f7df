// The ops that remember, on every device, against their formulas in f64: outputs and the states
// they leave. Batches are ragged, with runs from the middle of a sequence, empty runs, and runs
// from position 0 whose state bytes are NaN and must not be read; sequences go on from call to
// call, so that a device's kernels for long and for short runs meet in the same state.
#include <algorithm>
#include <array>
#include <cmath>

#include "tests/contract/ops_recurrence_cases.h"

namespace trireme::contract {
namespace {

// Rows of each sequence in a call.
using Call = std::vector<int32_t>;

// Sequences that begin at given positions, and how their rows come. In the last call rows do not
// begin at multiples of 16 bytes.
struct Plan {
  std::vector<int32_t> first;
  std::vector<Call> calls;
};

// Some rows of several sequences at once, then one row of each.
const Plan kShort = {{0, 4, 17, 0, 0, 100}, {{9, 0, 1, 1, 0, 23}, {1, 1, 1, 1, 1, 1}}};
const Plan kMiddle = {{0, 7}, {{65, 16}, {1, 1}, {2, 17}}};
// Runs of all lengths around 16 and 64, at odd positions and even ones, beside empty and short
// ones; later calls cut the same sequences elsewhere.
const Plan kLong = {{0, 5, 0, 3, 0, 7, 1001},
                    {{200, 65, 17, 0, 1, 15, 16},
                     {1, 16, 64, 2, 0, 2, 31},
                     {0, 0, 0, 0, 0, 0, 0},
                     {1, 1, 1, 1, 1, 1, 1},
                     {33, 1, 8, 1, 24, 0, 3},
                     {2, 1, 0, 0, 3, 0, 1}}};

class RecurrentOps : public testing::TestWithParam<DeviceCase> {
 protected:
  void expect_walk(RecurrenceCase& recurrence, const Plan& plan, uint64_t seed);

  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
};

INSTANTIATE_TEST_SUITE_P(Devices, RecurrentOps, testing::ValuesIn(device_cases()), case_name);

// Runs the calls of a plan on the device and in f64. Empty runs leave their state as it was, bit by
// bit, NaN or not.
void RecurrentOps::expect_walk(RecurrenceCase& recurrence, const Plan& plan, uint64_t seed) {
  const size_t count = plan.first.size();
  Random random(seed);
  States states(*device_, static_cast<int32_t>(count), recurrence.state_floats());
  std::vector<Values> want_states(count, recurrence.empty_state());
  for (size_t s = 0; s < count; ++s) {
    if (plan.first[s] == 0) continue;
    std::vector<float> values(want_states[s].size());
    for (float& x : values) x = std::abs(random.normal());
    states.set(static_cast<int32_t>(s), values);
    want_states[s].assign(values.begin(), values.end());
  }
  std::vector<int32_t> position = plan.first;
  for (size_t call = 0; call < plan.calls.size(); ++call) {
    SCOPED_TRACE(testing::Message() << recurrence.name() << ", seed " << seed << ", call " << call);
    std::vector<RunSpec> runs;
    std::vector<std::vector<float>> before;
    for (size_t s = 0; s < count; ++s) {
      runs.push_back({position[s], plan.calls[call][s]});
      position[s] += plan.calls[call][s];
      before.push_back(states.get(static_cast<int32_t>(s)));
    }
    const Batch batch(*device_, runs);
    const bool pad = call + 1 == plan.calls.size();
    recurrence.draw(*device_, random, batch.rows(), pad);
    Mat out(*device_, batch.rows(), recurrence.out_cols(), pad ? 7 : 8);
    recurrence.run(ops_, 0, batch.ragged(), states.rows(), out.view());
    out.fetch();
    Values want;
    for (int32_t s = 0; s < batch.sequences(); ++s) {
      recurrence.walk(batch.offset(s), batch.offset(s + 1), want_states[static_cast<size_t>(s)],
                      want);
    }
    expect_near(out.values(), want, recurrence.tolerance(), "outputs");
    for (size_t s = 0; s < count; ++s) {
      const std::vector<float> got = states.get(static_cast<int32_t>(s));
      const std::string what = "state " + std::to_string(s);
      if (runs[s].rows == 0) {
        expect_same_bits(got, before[s], what);
      } else {
        expect_near(got, want_states[s], recurrence.tolerance(), what);
      }
    }
  }
}

TEST_P(RecurrentOps, ShiftMix) {
  uint64_t seed = 2000;
  for (auto [cols, mixes] : {std::pair{1, 1}, {24, 2}, {128, 6}, {200, 3}, {512, 6}, {64, 0}})
    expect_walk(*shift_mix_case(cols, mixes), kShort, ++seed);
  expect_walk(*shift_mix_case(1100, 2), kLong, ++seed);
}

TEST_P(RecurrentOps, Wkv4) {
  uint64_t seed = 2100;
  for (int64_t channels : {1, 40, 64, 330}) {
    for (float spread : {1.0f, 30.0f})  // exponents far beyond what exp alone can hold
      expect_walk(*wkv4_case(channels, spread, Inputs::kPlain), kShort, ++seed);
  }
  for (float spread : {1.0f, 30.0f}) {
    for (Inputs inputs : {Inputs::kPlain, Inputs::kLasting, Inputs::kFleeting})
      expect_walk(*wkv4_case(40, spread, inputs), kLong, ++seed);
  }
}

TEST_P(RecurrentOps, Wkv7) {
  uint64_t seed = 2300;
  for (auto [heads, dim] : {std::pair{3, 64}, {1, 16}, {2, 24}, {1, 128}})
    expect_walk(*wkv7_case(heads, dim, Inputs::kPlain), kShort, ++seed);
  expect_walk(*wkv7_case(1, 32, Inputs::kPlain), kMiddle, ++seed);
  expect_walk(*wkv7_case(2, 64, Inputs::kPlain), kLong, ++seed);
  for (Inputs inputs : {Inputs::kLasting, Inputs::kFleeting})
    expect_walk(*wkv7_case(1, 64, inputs), kLong, ++seed);
}

TEST_P(RecurrentOps, Retention) {
  uint64_t seed = 2500;
  for (auto [heads, dim] : {std::pair{3, 64}, {1, 20}, {2, 128}, {1, 80}, {1, 256}})
    expect_walk(*retention_case(heads, dim, Inputs::kPlain), kShort, ++seed);
  expect_walk(*retention_case(1, 32, Inputs::kPlain), kMiddle, ++seed);
  expect_walk(*retention_case(1, 256, Inputs::kPlain), kMiddle, ++seed);
  for (auto [heads, dim] : {std::pair{2, 64}, {1, 128}})
    expect_walk(*retention_case(heads, dim, Inputs::kPlain), kLong, ++seed);
  for (Inputs inputs : {Inputs::kLasting, Inputs::kFleeting})
    expect_walk(*retention_case(1, 128, inputs), kLong, ++seed);
}

TEST_P(RecurrentOps, Wkv7Prepare) {
  uint64_t seed = 2200;
  for (auto [rows, heads, dim] :
       {std::array{1, 1, 64}, {3, 2, 24}, {33, 4, 64}, {3, 9, 64}, {2, 5, 128}}) {
    for (int i = 0; i < 4; ++i) {
      const bool first_layer = i % 2 == 0, pad = i < 2;
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
      Random random(seed);
      const int64_t cols = heads * dim;
      std::vector<Mat> in;  // w, a, b, k, v, v_gate, v_first, k_k, k_a
      for (int m = 0; m < 9; ++m) {
        const int between = pad ? m : 4 * m;
        in.push_back(m < 7 ? Mat::random(*device_, random, rows, cols, between)
                           : Mat::parameter(*device_, random, 1, cols));
      }
      for (int64_t c = 0; c < dim; ++c) in[3].at(0, c) = 0;  // kk of a head without length: 0
      in[3].put();
      Values w, a, b, k, v;
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          double squares = 0;
          for (int64_t j = c / dim * dim; j < (c / dim + 1) * dim; ++j) {
            squares += std::pow(double{in[3].at(t, j)} * in[7].at(0, j), 2);
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
      for (size_t m = 0; m < 5; ++m) {
        in[m].fetch();
        expect_near(in[m].values(), *want[m], 1e-6, names[m]);
      }
    }
  }
}

TEST_P(RecurrentOps, Wkv7Finish) {
  uint64_t seed = 2400;
  for (auto [rows, heads, dim] :
       {std::array{1, 2, 64}, {5, 3, 24}, {40, 4, 64}, {3, 9, 64}, {2, 5, 128}, {0, 1, 16}}) {
    for (bool pad : {true, false}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
      Random random(seed);
      const int64_t cols = heads * dim;
      std::vector<Mat> in;  // r, k, v, g, y, r_k
      for (int i = 0; i < 6; ++i) {
        in.push_back(i < 5 ? Mat::random(*device_, random, rows, cols, pad ? i : 4 * i)
                           : Mat::parameter(*device_, random, 1, cols));
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
}

}  // namespace
}  // namespace trireme::contract
