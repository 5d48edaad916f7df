// The compounds of ops.h against the ops that their bodies name, on every device: the same bits
// where the device promises the Row law, within a few roundings elsewhere.
#include <array>
#include <cmath>

#include "tests/contract/ops_cache.h"

namespace trireme::contract {
namespace {

class CompoundOps : public testing::TestWithParam<DeviceCase> {
 protected:
  void expect_equal(const std::vector<float>& got, const std::vector<float>& want, double tolerance,
                    const std::string& what) {
    if (GetParam().tensor_cores()) {
      expect_near(got, {want.begin(), want.end()}, tolerance, what);
    } else {
      expect_same_bits(got, want, what);
    }
  }

  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
};

INSTANTIATE_TEST_SUITE_P(Devices, CompoundOps, testing::ValuesIn(product_cases()), case_name);

TEST_P(CompoundOps, AddNorm) {
  struct Shape {
    int64_t rows, cols, pad;
    int32_t groups;
  };
  uint64_t seed = 600;
  for (const Shape& s : {Shape{0, 64, 0, 1},
                         {3, 96, 1, 3},
                         {2, 300, 4, 1},
                         {5, 1024, 0, 1},
                         {1, 4096, 4, 1},
                         {2, 2052, 3, 1},
                         {1, 17000, 0, 1}}) {
    for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << s.rows << " x " << s.cols);
      Random random(seed);
      const Mat delta = Mat::random(*device_, random, s.rows, s.cols, s.pad);
      Mat x = Mat::random(*device_, random, s.rows, s.cols, s.pad, 2, 0.5f);
      const Mat gain = Mat::parameter(*device_, random, 1, s.cols);
      Mat y(*device_, s.rows, s.cols, s.pad), want_x = x.clone(), want = y.clone();
      NormArgs args{kind, 1e-5f, s.groups, gain.view(), gain.view()};
      ops_.add(delta.view(), want_x.view());
      ops_.norm(want_x.view(), args, want.view());
      ops_.add_norm(delta.view(), x.view(), args, y.view());
      for (Mat* mat : {&x, &y, &want_x, &want}) mat->fetch();
      expect_same_bits(x.values(), want_x.values(), "x");
      expect_equal(y.values(), want.values(), 2e-6, "y");
    }
  }
}

TEST_P(CompoundOps, NormShiftMix) {
  struct Shape {
    int64_t cols, mixes, pad;
    NormKind kind = NormKind::kLayer;
    bool adds = true, scales = true;
  };
  struct Step {
    std::vector<RunSpec> runs;
    int32_t padding = 0;  // rows
  };
  const std::vector<Step> steps = {
      {{{0, 1}, {0, 1}, {0, 0}, {0, 1}}},     // not decode by its rows
      {{{1, 1}, {0, 1}, {0, 1}, {1, 1}}},     // decode, two sequences new
      {{{2, 0}, {1, 1}, {1, 0}, {2, 1}}, 2},  // decode of a recorded step: two have ended
      {{{2, 1}, {2, 2}, {1, 0}, {3, 1}}},     // as many rows as sequences, and two of one
      {{{3, 3}, {4, 20}, {1, 1}, {4, 1}}},
      {{{6, 0}, {24, 0}, {0, 4}, {5, 0}}},  // a state is taken over
  };
  uint64_t seed = 650;
  for (const Shape& s : {Shape{64, 6, 0},
                         {64, 1, 4, NormKind::kRms},
                         {300, 3, 4, NormKind::kLayer, false},
                         {300, 2, 1},
                         {2600, 1, 0, NormKind::kLayer, true, false},
                         {3000, 4, 4},
                         {6000, 2, 0, NormKind::kRms, false, false},
                         {1100, 0, 0},
                         {9000, 2, 0}}) {
    Random random(++seed);
    const States states(*device_, 4, s.cols), want_states(*device_, 4, s.cols);
    for (size_t i = 0; i < steps.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", step " << i << ", " << s.cols
                                      << " columns, " << s.mixes << " mixes");
      const Step& step = steps[i];
      std::vector<RunSpec> filled = step.runs;
      filled.push_back({0, GetParam().tensor_cores() ? step.padding : 0});
      const Batch batch(*device_, filled);
      Ragged rows = batch.ragged();
      rows.sequences = 4;
      const Mat delta = Mat::random(*device_, random, rows.rows, s.cols, s.pad);
      Mat x = Mat::random(*device_, random, rows.rows, s.cols, s.pad, 2, 0.5f);
      const Mat gain = Mat::parameter(*device_, random, 1, s.cols);
      const Mat mix = Mat::parameter(*device_, random, s.mixes, s.cols, s.pad);
      Mat y(*device_, rows.rows, s.cols, s.pad), out(*device_, rows.rows, s.mixes * s.cols, s.pad);
      Mat want_x = x.clone(), want = out.clone();
      std::vector<std::vector<float>> before;
      for (int32_t n = 0; n < 4; ++n) before.push_back(states.get(n));
      NormArgs norm{s.kind, 1e-5f, 1, {}, {}};
      if (s.scales) norm.gain = norm.bias = gain.view();
      ResidualNorm in{{}, x.view(), norm, y.view()};
      if (s.adds) {
        in.delta = delta.view();
        ops_.add(delta.view(), want_x.view());
      }
      ops_.norm_shift_mix(in, rows, states.rows(), mix.view(), out.view());
      ops_.norm(want_x.view(), norm, y.view());
      ops_.shift_mix(y.view(), rows, want_states.rows(), mix.view(), want.view());

      for (Mat* mat : {&x, &out, &want_x, &want}) mat->fetch();
      const auto real = [&](const Mat& mat) {
        std::vector<float> values = mat.values();
        values.resize(static_cast<size_t>(batch.offset(4) * mat.cols()));
        return values;
      };
      expect_same_bits(real(x), real(want_x), "x");
      expect_equal(real(out), real(want), 5e-6, "out");
      for (int32_t n = 0; n < 4; ++n) {
        const std::string what = "state " + std::to_string(n);
        if (step.runs[static_cast<size_t>(n)].rows == 0) {
          expect_same_bits(states.get(n), before[static_cast<size_t>(n)], what);
        } else {
          expect_equal(states.get(n), want_states.get(n), 5e-6, what);
        }
      }
      if (HasFailure()) return;
    }
  }
}

TEST_P(CompoundOps, Linears) {
  struct Shape {
    int64_t inputs, outputs;
    std::optional<Activation> activation;
  };
  const Shape shapes[] = {
      {96, 40, std::nullopt}, {96, 7, Activation::kTanh},    {33, 64, Activation::kSigmoid},
      {96, 0, std::nullopt},  {200, 129, Activation::kSilu}, {64, 50, Activation::kReluSquared},
      {8, 300, std::nullopt}, {96, 40, Activation::kTanh},   {96, 12, Activation::kSigmoid},
      {40, 41, std::nullopt}, {1100, 70, Activation::kSilu}, {1100, 9, std::nullopt}};
  uint64_t seed = 700;
  for (int64_t rows : {0, 1, 2, 3, 4, 7, 8, 20}) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message()
                   << "seed " << ++seed << ", " << rows << " rows, " << dtype_name(dtype));
      Random random(seed);
      std::vector<Mat> x, y, want, bias;
      std::vector<Weight> weights;
      std::vector<LinearCall> calls;
      for (const Shape& s : shapes) {
        x.push_back(Mat::random(*device_, random, rows, s.inputs, 3));
        y.emplace_back(*device_, rows, s.outputs, 2);
        want.emplace_back(*device_, rows, s.outputs, 2);
        bias.push_back(Mat::parameter(*device_, random, 1, s.outputs));
        weights.emplace_back(*device_, random, s.outputs, s.inputs, dtype);
        WeightView view = weights.back().matrix.view();
        if (s.outputs % 2 == 0 && s.outputs > 0) view.bias = bias.back().view();
        calls.push_back({x.back().view(), view, y.back().view(), s.activation});
      }
      ops_.linears(calls);
      for (size_t i = 0; i < calls.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "call " << i);
        ops_.linear(calls[i].x, calls[i].w, want[i].view());
        if (calls[i].activation)
          ops_.activate(*calls[i].activation, want[i].view(), want[i].view());
        y[i].fetch();
        want[i].fetch();
        // Of many rows, one of the two may have rounded x to bf16, as ops.h allows; RowOps holds
        // such products to 2e-5 of what they then are.
        const bool rounds = rows > 1 && dtype != DType::kF32;
        expect_equal(y[i].values(), want[i].values(), rounds ? 0.15 : 1e-4, "y");
      }
    }
  }
}

TEST_P(CompoundOps, NormGate) {
  struct Shape {
    int64_t rows, dim, pad;
    int32_t groups;
  };
  uint64_t seed = 700;
  for (const Shape& s : {Shape{0, 64, 0, 2},
                         {1, 256, 0, 3},
                         {3, 128, 4, 5},
                         {2, 20, 8, 1},
                         {2, 64, 1, 2},
                         {7, 300, 0, 2},
                         {2, 21, 3, 2}}) {
    for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
      for (bool gained : {false, true}) {
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << s.dim);
        Random random(seed);
        const int64_t cols = s.dim * s.groups;
        const Mat gate = Mat::random(*device_, random, s.rows, cols, s.pad);
        const Mat gain = Mat::parameter(*device_, random, 1, cols);
        Mat y = Mat::random(*device_, random, s.rows, cols, s.pad, 3, 0.5f), want = y.clone();
        NormArgs args{kind, 1e-5f, s.groups, {}, {}};
        if (gained) args.gain = gain.view();
        ops_.norm(want.view(), args, want.view());
        ops_.swiglu(gate.view(), want.view(), want.view());
        ops_.norm_gate(args, gate.view(), y.view());
        y.fetch();
        want.fetch();
        expect_equal(y.values(), want.values(), 2e-6, "y");
      }
    }
  }
}

TEST_P(CompoundOps, NormLinears) {
  struct Shape {
    int64_t rows, inputs;
    std::vector<int64_t> outputs;
    DType dtype = DType::kBF16;
    NormKind kind = NormKind::kRms;
    bool adds = false, gain = true;
  };
  uint64_t seed = 750;
  for (const Shape& s : {Shape{1, 1040, {70, 9}},
                         {1, 4100, {30}, DType::kF16},
                         {1, 2600, {40, 8}, DType::kF32, NormKind::kRms, false, false},
                         {1, 1040, {50}, DType::kBF16, NormKind::kRms, true},
                         {1, 1040, {50}, DType::kBF16, NormKind::kLayer},
                         {1, 9000, {12}},
                         {1, 72, {40, 3}},
                         {3, 1040, {40, 12}},
                         {0, 64, {20}}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << s.rows << " x " << s.inputs);
    Random random(seed);
    const Mat delta = Mat::random(*device_, random, s.rows, s.inputs, 4);
    Mat x = Mat::random(*device_, random, s.rows, s.inputs, 4, 2, 0.5f), want_x = x.clone();
    const Mat gain = Mat::parameter(*device_, random, 1, s.inputs);
    Mat y(*device_, s.rows, s.inputs, 4);
    NormArgs norm{s.kind, 1e-5f, 1, {}, {}};
    if (s.gain) norm.gain = gain.view();
    if (s.kind == NormKind::kLayer) norm.bias = gain.view();
    ResidualNorm in{{}, x.view(), norm, y.view()};
    if (s.adds) {
      in.delta = delta.view();
      ops_.add(delta.view(), want_x.view());
    }
    std::vector<Weight> weights;
    std::vector<Mat> got, want;
    std::vector<LinearCall> calls;
    const Mat bias = Mat::parameter(*device_, random, 1, s.outputs[0]);
    for (const int64_t outputs : s.outputs) {
      weights.emplace_back(*device_, random, outputs, s.inputs, s.dtype);
      got.emplace_back(*device_, s.rows, outputs, 3);
      want.push_back(got.back().clone());
    }
    for (size_t i = 0; i < weights.size(); ++i) {
      calls.push_back({y.view(), weights[i].matrix.view(), got[i].view(), std::nullopt});
      if (i == 0) calls[0].w.bias = bias.view();
    }
    ops_.norm_linears(in, calls);
    ops_.norm(want_x.view(), norm, y.view());
    for (size_t i = 0; i < weights.size(); ++i) {
      ops_.linear(y.view(), calls[i].w, want[i].view());
      got[i].fetch();
      want[i].fetch();
      expect_equal(got[i].values(), want[i].values(), 2e-4, "product " + std::to_string(i));
    }
    x.fetch();
    want_x.fetch();
    expect_same_bits(x.values(), want_x.values(), "x");
  }
}

// Either is allowed; what has been added must be all there.
TEST_P(CompoundOps, LinearAdd) {
  uint64_t seed = 780;
  for (int64_t rows : {0, 1, 2, 9}) {
    for (int64_t inputs : {64, 1040}) {
      for (const auto& [wanted, adds] : {std::pair{true, true}, {true, false}, {false, true}}) {
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << rows << " rows");
        Random random(seed);
        const Mat x = Mat::random(*device_, random, rows, inputs, 4, 0.3f);
        const Weight w(*device_, random, 53, inputs, DType::kBF16);
        const Mat bias = Mat::parameter(*device_, random, 1, 53);
        WeightView view = w.matrix.view();
        view.bias = bias.view();
        Mat residual = Mat::random(*device_, random, rows, 53, 2), delta(*device_, rows, 53, 1);
        Mat want_residual = residual.clone(), want = delta.clone();
        ops_.linear(x.view(), view, want.view());
        const bool added = ops_.linear_add(x.view(), view, delta.view(),
                                           {wanted ? residual.view() : TensorView{}, adds});
        EXPECT_TRUE(wanted || !added);
        if (added && !adds) {
          want_residual = std::move(want);
        } else if (added) {
          ops_.add(want.view(), want_residual.view());
        } else {
          delta.fetch();
          want.fetch();
          expect_equal(delta.values(), want.values(), 1e-5, "delta");
        }
        residual.fetch();
        want_residual.fetch();
        expect_equal(residual.values(), want_residual.values(), 1e-5, "residual");
      }
    }
  }
}

TEST_P(CompoundOps, NormFeedForward) {
  uint64_t seed = 850;
  for (int64_t rows : {0, 1, 5}) {
    for (FeedForward kind : {FeedForward::kSwiglu, FeedForward::kReluSquared}) {
      for (const auto& [wanted, adds] : {std::pair{true, true}, {true, false}, {false, true}}) {
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << rows << " rows");
        Random random(seed);
        constexpr int64_t kInputs = 1040, kMiddle = 1032;
        const int64_t ups = kind == FeedForward::kSwiglu ? 2 * kMiddle : kMiddle;
        Mat x = Mat::random(*device_, random, rows, kInputs, 0, 3);
        const Weight up(*device_, random, ups, kInputs, DType::kBF16);
        const Weight down(*device_, random, kInputs, kMiddle, DType::kBF16);
        const NormArgs norm{NormKind::kRms, 1e-5f, 1, {}, {}};
        Mat y(*device_, rows, kInputs, 0), delta(*device_, rows, kInputs, 0);
        Mat inner(*device_, rows, ups, 0), want = delta.clone(), want_x = x.clone();
        ops_.norm(x.view(), norm, y.view());
        ops_.feed_forward(kind, y.view(), up.matrix.view(), down.matrix.view(), inner.view(),
                          want.view());
        const bool added = ops_.norm_feed_forward(
            {{}, x.view(), norm, y.view()}, kind, up.matrix.view(), down.matrix.view(),
            inner.view(), delta.view(), {wanted ? x.view() : TensorView{}, adds});
        EXPECT_TRUE(wanted || !added);
        if (added && !adds) {
          want_x = std::move(want);
        } else if (added) {
          ops_.add(want.view(), want_x.view());
        } else {
          delta.fetch();
          want.fetch();
          expect_equal(delta.values(), want.values(), 1e-3, "delta");
        }
        x.fetch();
        want_x.fetch();
        expect_equal(x.values(), want_x.values(), 1e-3, "x");
      }
    }
  }
}

TEST_P(CompoundOps, FeedForward) {
  uint64_t seed = 800;
  for (int64_t rows : {0, 1, 3, 8, 21, 64, 130}) {
    for (FeedForward kind : {FeedForward::kSwiglu, FeedForward::kReluSquared}) {
      // What begins on words of 16 bytes, and what does not; more than a kernel's tile and its part
      // of the inputs.
      for (int64_t middle : {rows == 64 ? 70 : rows == 130 ? 72 : 36, 37}) {
        const int64_t inputs = middle == 70 ? 633 : rows == 1 ? 1040 : 72;
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << rows << " rows");
        Random random(seed);
        const bool gated = kind == FeedForward::kSwiglu;
        const int64_t ups = gated ? 2 * middle : middle;
        Mat x = Mat::random(*device_, random, rows, inputs, 0,
                            rows == 130     ? 0.04f
                            : inputs == 72  ? 1.0f
                            : inputs == 633 ? 0.34f
                                            : 0.27f);
        const Weight up(*device_, random, ups, inputs, rows == 130 ? DType::kBF16 : DType::kF16);
        const Weight down(*device_, random, 50, middle, DType::kBF16);
        const Mat bias = Mat::parameter(*device_, random, 1, ups);
        Mat inner(*device_, rows, ups, 4), y(*device_, rows, 50, 2), want = y.clone();
        WeightView up_view = up.matrix.view();
        if (middle % 12 != 0) up_view.bias = bias.view();
        ops_.linear(x.view(), up_view, inner.view());
        const TensorView first = inner.view().col_range(0, middle);
        if (gated) {
          ops_.swiglu(first, inner.view().col_range(middle, middle), first);
        } else {
          ops_.activate(Activation::kReluSquared, first, first);
        }
        ops_.linear(first, down.matrix.view(), want.view());
        want.fetch();
        ops_.feed_forward(kind, x.view(), up_view, down.matrix.view(), inner.view(), y.view());
        y.fetch();
        inner.fetch();  // its padding
        // Rounding to bf16 in between turns an ulp into 2^-9 of one input.
        expect_equal(y.values(), want.values(), rows > 8 ? 4e-2 : 1e-4, "y");
      }
    }
  }
}

// Heads of all sizes, rows that do and do not begin at multiples of 16
// bytes, and what a norm may lack.
TEST_P(CompoundOps, Wkv7NormFinish) {
  uint64_t seed = 1000;
  for (auto [rows, heads, dim] :
       {std::array{1, 2, 64}, {5, 3, 24}, {40, 4, 64}, {3, 9, 64}, {2, 5, 128}, {0, 1, 64}}) {
    for (int i = 0; i < 8; ++i) {
      const bool pad = i % 2 == 1, shared = i / 2 == 1, bare = i / 2 == 2;
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << dim);
      Random random(seed);
      const int64_t cols = int64_t{heads} * dim;
      std::vector<Mat> in;  // r, k, v, g, y
      for (int m = 0; m < 5; ++m)
        in.push_back(Mat::random(*device_, random, rows, cols, pad ? m : 4 * m, 2, 0.5f));
      const Mat r_k = Mat::parameter(*device_, random, 1, cols);
      const Mat gain = Mat::parameter(*device_, random, 1, shared ? dim : cols);
      const Mat bias = Mat::parameter(*device_, random, 1, shared ? dim : cols);
      NormArgs norm{i / 2 == 3 ? NormKind::kRms : NormKind::kLayer, 6.4e-4f, heads, {}, {}};
      if (!bare) norm.gain = gain.view(), norm.bias = bias.view();
      const Wkv7FinishArgs args{in[0].view(), in[1].view(), in[2].view(),
                                in[3].view(), r_k.view(),   dim};
      Mat want = in[4].clone();
      ops_.norm(want.view(), norm, want.view());
      ops_.wkv7_finish(args, want.view());
      ops_.wkv7_norm_finish(norm, args, in[4].view());
      in[4].fetch();
      want.fetch();
      expect_equal(in[4].values(), want.values(), 1e-5, "y");
    }
  }
}

// Inputs of wkv7_mix() for some rows, twice: an op and its parts change them.
struct MixInputs {
  std::vector<Mat> rows;        // w, a, b, k, v, v_gate, v_first, r, g
  std::vector<Mat> parameters;  // k_k, k_a, r_k, gain, bias

  MixInputs(Device& device, Random& random, int64_t count, int64_t cols, int64_t norm_cols,
            bool aligned) {
    for (int m = 0; m < 9; ++m)
      rows.push_back(Mat::random(device, random, count, cols, aligned ? 4 * m : m));
    for (int m = 0; m < 5; ++m)
      parameters.push_back(Mat::parameter(device, random, 1, m < 3 ? cols : norm_cols));
  }
  MixInputs(const MixInputs& other) {
    for (const Mat& mat : other.rows) rows.push_back(mat.clone());
    for (const Mat& mat : other.parameters) parameters.push_back(mat.clone());
  }
  Wkv7MixArgs args(NormKind kind, int32_t heads, int32_t dim, bool first_layer) const {
    Wkv7MixArgs mix;
    Wkv7PrepareArgs& p = mix.prepare;
    p.w = rows[0].view(), p.a = rows[1].view(), p.b = rows[2].view();
    p.k = rows[3].view(), p.v = rows[4].view();
    if (!first_layer) p.v_gate = rows[5].view(), p.v_first = rows[6].view();
    p.k_k = parameters[0].view(), p.k_a = parameters[1].view(), p.head_dim = dim;
    mix.r = rows[7].view(), mix.g = rows[8].view(), mix.r_k = parameters[2].view();
    mix.norm = {kind, 6.4e-4f, heads, {}, {}};
    if (parameters[3].cols() > 0)
      mix.norm.gain = parameters[3].view(), mix.norm.bias = parameters[4].view();
    return mix;
  }
};

// Decode and other steps over the same states, which begin as NaN: what each leaves shows in the
// next. Devices that record get steps filled up with rows of no sequence, too.
TEST_P(CompoundOps, Wkv7Mix) {
  struct Shape {
    int32_t heads, dim;
    NormKind kind = NormKind::kLayer;
    int norm_cols = 1;  // -1: as many as a head; 0: none
    bool aligned = true;
  };
  struct Step {
    std::vector<RunSpec> runs;
    int32_t padding = 0;  // rows
  };
  const std::vector<Step> steps = {
      {{{0, 1}, {0, 1}, {0, 0}, {0, 1}}},     // not decode by its rows
      {{{1, 1}, {0, 1}, {0, 1}, {1, 1}}},     // decode, two sequences new
      {{{2, 0}, {1, 1}, {1, 0}, {2, 1}}, 2},  // decode of a recorded step: two have ended
      {{{2, 1}, {2, 2}, {1, 0}, {3, 1}}},     // as many rows as sequences, and two of one
      {{{3, 3}, {4, 20}, {1, 1}, {4, 1}}},
      {{{6, 1}, {24, 1}, {0, 1}, {5, 1}}},  // a state is taken over
      {{{7, 0}, {25, 0}, {0, 4}, {6, 0}}},
      {{{7, 0}, {25, 0}, {4, 0}, {6, 0}}, 4},
  };
  uint64_t seed = 1100;
  for (const Shape& s : {Shape{3, 64},
                         {2, 64, NormKind::kRms},
                         {2, 64, NormKind::kLayer, 0},
                         {2, 64, NormKind::kLayer, -1},
                         {2, 64, NormKind::kLayer, 1, false},
                         {2, 24},
                         {1, 128}}) {
    for (bool first_layer : {true, false}) {
      Random random(++seed);
      const int64_t cols = int64_t{s.heads} * s.dim;
      const int64_t state_floats = wkv7_state_bytes(s.heads, s.dim) / 4;
      const States states(*device_, 4, state_floats), want_states(*device_, 4, state_floats);
      for (size_t i = 0; i < steps.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "seed " << seed << ", step " << i << ", heads of "
                                        << s.dim << (first_layer ? ", first layer" : ""));
        const Step& step = steps[i];
        const int32_t padding = GetParam().tensor_cores() ? step.padding : 0;
        std::vector<RunSpec> filled = step.runs;
        filled.push_back({0, padding});
        const Batch batch(*device_, filled);
        Ragged rows = batch.ragged();
        rows.sequences = 4;
        const int64_t norm_cols = s.norm_cols < 0 ? s.dim : s.norm_cols * cols;
        MixInputs in(*device_, random, rows.rows, cols, norm_cols, s.aligned);
        const MixInputs parts(in);
        Mat y(*device_, rows.rows, cols, 4), want = y.clone();
        std::vector<std::vector<float>> before;
        for (int32_t n = 0; n < 4; ++n) before.push_back(states.get(n));

        const Wkv7MixArgs args = parts.args(s.kind, s.heads, s.dim, first_layer);
        ops_.wkv7_prepare(args.prepare);
        ops_.wkv7(args.recurrence(), rows, want_states.rows(), want.view());
        ops_.wkv7_norm_finish(args.norm, args.finish(), want.view());
        ops_.wkv7_mix(in.args(s.kind, s.heads, s.dim, first_layer), rows, states.rows(), y.view());

        y.fetch();
        want.fetch();
        const auto real = static_cast<size_t>(batch.offset(4) * cols);
        std::vector<float> got_rows = y.values(), want_rows = want.values();
        got_rows.resize(real);
        want_rows.resize(real);
        expect_equal(got_rows, want_rows, 1e-5, "y");
        for (int32_t n = 0; n < 4; ++n) {
          const std::string what = "state " + std::to_string(n);
          if (step.runs[static_cast<size_t>(n)].rows == 0) {
            expect_same_bits(states.get(n), before[static_cast<size_t>(n)], what);
          } else {
            expect_equal(states.get(n), want_states.get(n), 1e-5, what);
          }
        }
        if (first_layer) {
          const std::vector<float> given = in.rows[4].values();
          in.rows[4].fetch();
          expect_same_bits(in.rows[4].values(), given, "v of the first layer");
        }
        if (HasFailure()) return;
      }
    }
  }
}

// What was stored shows in what attention reads.
TEST_P(CompoundOps, RopeStore) {
  struct Shape {
    CacheSpec cache;
    int32_t heads, rotated;
    RopeStyle style;
  };
  uint64_t seed = 900;
  for (const Shape& s : {Shape{{2, 16, 16, 0, DType::kF32}, 4, 16, RopeStyle::kHalves},
                         {{1, 20, 7, 0, DType::kBF16}, 3, 8, RopeStyle::kHalves},
                         {{2, 32, 16, 0, DType::kF16}, 2, 16, RopeStyle::kInterleaved},
                         {{1, 7, 4, 0, DType::kF32}, 1, 4, RopeStyle::kInterleaved}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << s.cache.head_dim);
    Random random(seed);
    const std::vector<int32_t> lengths = {30, 1, 9};
    const Batch batch(*device_, std::vector<RunSpec>{{0, 30}, {0, 1}, {0, 9}});
    const int64_t q_cols = int64_t{s.heads} * s.cache.head_dim;
    const int64_t kv_cols = int64_t{s.cache.kv_heads} * s.cache.head_dim;
    Mat q = Mat::random(*device_, random, batch.rows(), q_cols, 3);
    Mat k = Mat::random(*device_, random, batch.rows(), kv_cols, 1);
    Mat v = Mat::random(*device_, random, batch.rows(), kv_cols, 2);
    const Mat cos_sin = Mat::random(*device_, random, batch.rows(), s.rotated);
    Mat want_q = q.clone(), want_k = k.clone();
    Mat out(*device_, batch.rows(), q_cols), want = out.clone();
    Cache cache(*device_, s.cache, lengths, seed), other(*device_, s.cache, lengths, seed + 1);

    const KvView parts = other.view({0, 1, 2}, {0, 0, 0});
    ops_.rope(cos_sin.view(), s.style, s.cache.head_dim, want_q.view());
    ops_.rope(cos_sin.view(), s.style, s.cache.head_dim, want_k.view());
    ops_.store_kv(want_k.view(), v.view(), batch.ragged(), parts);
    ops_.attend(want_q.view(), batch.ragged(), parts, 0.25f, want.view());
    const KvView whole = cache.view({0, 1, 2}, {0, 0, 0});
    ops_.rope_store(cos_sin.view(), s.style, q.view(), k.view(), v.view(), batch.ragged(), whole);
    ops_.attend(q.view(), batch.ragged(), whole, 0.25f, out.view());
    for (Mat* mat : {&q, &k, &want_q, &want_k, &out, &want}) mat->fetch();
    // nvcc fuses one of a rotation's two products into its sum, and not the same one everywhere.
    expect_equal(q.values(), want_q.values(), 1e-6, "q");
    expect_equal(k.values(), want_k.values(), 1e-6, "k");
    expect_equal(out.values(), want.values(), s.cache.dtype == DType::kF32 ? 2e-6 : 1e-2, "out");
  }
}

// Steps of decode, and others; some with a run of two rows beside an empty one. What was stored
// shows in the next step's attention.
TEST_P(CompoundOps, RopeAttend) {
  struct Shape {
    CacheSpec cache;
    int32_t heads, rotated;
    RopeStyle style;
    bool norms = false;
  };
  const Shape shapes[] = {{{2, 64, 16, 0, DType::kBF16}, 8, 64, RopeStyle::kHalves},
                          {{2, 64, 16, 0, DType::kF16}, 6, 64, RopeStyle::kHalves, true},
                          {{1, 96, 16, 0, DType::kBF16}, 3, 32, RopeStyle::kInterleaved, true},
                          {{2, 64, 16, 0, DType::kBF16}, 4, 0, RopeStyle::kHalves, true},
                          {{1, 128, 32, 0, DType::kF16}, 4, 128, RopeStyle::kInterleaved},
                          {{2, 80, 7, 9, DType::kBF16}, 2, 32, RopeStyle::kHalves},
                          {{1, 96, 16, 0, DType::kBF16}, 20, 48, RopeStyle::kInterleaved},
                          {{1, 256, 16, 0, DType::kF16}, 2, 256, RopeStyle::kHalves},
                          {{2, 16, 16, 0, DType::kF32}, 4, 16, RopeStyle::kHalves},
                          {{1, 20, 7, 0, DType::kBF16}, 3, 8, RopeStyle::kHalves}};
  uint64_t seed = 950;
  for (const Shape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", heads of " << s.cache.head_dim);
    Random random(seed);
    const std::vector<int32_t> lengths = {160, 40, 19};
    Cache cache(*device_, s.cache, lengths, seed), other(*device_, s.cache, lengths, seed + 1);
    const int64_t q_cols = int64_t{s.heads} * s.cache.head_dim;
    const int64_t kv_cols = int64_t{s.cache.kv_heads} * s.cache.head_dim;
    const std::vector<std::vector<RunSpec>> steps = {
        {{0, 150}, {0, 33}, {0, 16}},  // a prompt
        {{150, 1}, {33, 1}, {16, 1}},  // decode
        {{151, 1}, {34, 2}, {17, 0}},  // as many rows as sequences, and two of one
        {{152, 1}, {36, 1}, {17, 1}},
    };
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::vector<RunSpec>& runs = steps[i];
      const Batch batch(*device_, runs);
      Mat q = Mat::random(*device_, random, batch.rows(), q_cols, 3);
      Mat k = Mat::random(*device_, random, batch.rows(), kv_cols, 1);
      const Mat v = Mat::random(*device_, random, batch.rows(), kv_cols, 2);
      const Mat q_gain = Mat::parameter(*device_, random, 1, s.cache.head_dim, 0, 0.2f, 1);
      const Mat k_gain = Mat::parameter(*device_, random, 1, s.cache.head_dim, 0, 0.2f, 1);
      const Mat cos_sin = Mat::random(*device_, random, batch.rows(), s.rotated);
      Mat want_q = q.clone(), want_k = k.clone(), again = q.clone();
      Mat out(*device_, batch.rows(), q_cols), want = out.clone(), alone = out.clone();
      const std::vector<int32_t> sequences = {0, 1, 2};
      std::vector<int32_t> firsts;
      for (const RunSpec& run : runs) firsts.push_back(run.first);

      const KvView parts = other.view(sequences, firsts), whole = cache.view(sequences, firsts);
      if (s.norms) {
        NormArgs norm{NormKind::kRms, 1e-3f, s.heads, q_gain.view(), {}};
        ops_.norm(want_q.view(), norm, want_q.view());
        norm.groups = s.cache.kv_heads;
        norm.gain = k_gain.view();
        ops_.norm(want_k.view(), norm, want_k.view());
      }
      if (s.rotated > 0) {
        ops_.rope(cos_sin.view(), s.style, s.cache.head_dim, want_q.view());
        ops_.rope(cos_sin.view(), s.style, s.cache.head_dim, want_k.view());
      }
      ops_.store_kv(want_k.view(), v.view(), batch.ragged(), parts);
      ops_.attend(want_q.view(), batch.ragged(), parts, 0.25f, want.view());
      RopeAttendArgs args{cos_sin.view(), s.style, 0.25f, q.view(), k.view(),
                          v.view(),       1e-3f,   {},    {}};
      if (s.rotated == 0) args.cos_sin = {};
      if (s.norms) args.q_gain = q_gain.view(), args.k_gain = k_gain.view();
      ops_.rope_attend(args, batch.ragged(), whole, out.view());
      // Of q alone, over what is stored by now.
      args.q = again.view();
      args.k = {}, args.v = {}, args.k_gain = {};
      ops_.rope_attend(args, batch.ragged(), whole, alone.view());
      for (Mat* mat : {&out, &want, &alone}) mat->fetch();
      const double tolerance = s.cache.dtype == DType::kF32 ? 2e-6 : 1e-2;
      expect_equal(out.values(), want.values(), tolerance, "step " + std::to_string(i));
      expect_equal(alone.values(), want.values(), tolerance, "q alone, " + std::to_string(i));
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace trireme::contract
