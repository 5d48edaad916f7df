// Every op on rows, on every device, against its formula in ops.h computed here in f64.
#include <cmath>

#include "tests/contract/ops_support.h"

namespace trireme::contract {
namespace {

class RowOps : public testing::TestWithParam<DeviceCase> {
 protected:
  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
};

INSTANTIATE_TEST_SUITE_P(Devices, RowOps, testing::ValuesIn(product_cases()), case_name);

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activation(Activation kind, double x) {
  switch (kind) {
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kReluSquared:
      return x > 0 ? x * x : 0;
  }
  return NAN;
}

constexpr Activation kActivations[] = {Activation::kSigmoid, Activation::kTanh, Activation::kSilu,
                                       Activation::kReluSquared};

NormArgs norm_args(NormKind kind, float epsilon, int32_t groups) {
  NormArgs args;
  args.kind = kind;
  args.epsilon = epsilon;
  args.groups = groups;
  return args;
}

// The formula of NormArgs.
std::vector<double> normalised(const Mat& x, NormKind kind, double epsilon, int groups,
                               const Mat* gain, const Mat* bias) {
  std::vector<double> want;
  const int64_t n = x.cols() / groups;
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      double mean = 0, variance = 0;
      for (int64_t i = c / n * n; i < (c / n + 1) * n; ++i) mean += x.at(t, i);
      mean = kind == NormKind::kLayer ? mean / static_cast<double>(n) : 0;
      for (int64_t i = c / n * n; i < (c / n + 1) * n; ++i) {
        variance += (x.at(t, i) - mean) * (x.at(t, i) - mean);
      }
      double y = (x.at(t, c) - mean) / std::sqrt(variance / static_cast<double>(n) + epsilon);
      if (gain != nullptr) y *= gain->at(0, gain->cols() == n ? c % n : c);
      if (bias != nullptr) y += bias->at(0, bias->cols() == n ? c % n : c);
      want.push_back(y);
    }
  }
  return want;
}

TEST_P(RowOps, NormOfEveryKindGroupAndParameter) {
  struct Shape {
    int64_t rows, cols;
    int groups;
  };
  uint64_t seed = 100;
  for (const Shape& s : {Shape{1, 1, 1},
                         {3, 24, 1},
                         {5, 100, 1},
                         {2, 2048, 1},
                         {40, 450, 1},
                         {4, 192, 3},
                         {33, 512, 8},
                         {2, 72, 3},
                         {0, 64, 1}}) {
    for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
      for (int parameters = 0; parameters < 3; ++parameters) {  // none, full, one for all groups
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", [" << s.rows << ", " << s.cols
                                        << "] in " << s.groups << ", parameters " << parameters);
        Random random(seed);
        Mat x = Mat::random(*device_, random, s.rows, s.cols, 5, 2, 0.5f);
        const int64_t width = parameters == 1 ? s.cols : s.cols / s.groups;
        Mat gain = Mat::parameter(*device_, random, 1, width),
            bias = Mat::parameter(*device_, random, 1, width);
        NormArgs args = norm_args(kind, 1e-5f, s.groups);
        if (parameters > 0) args.gain = gain.view(), args.bias = bias.view();
        const std::vector<double> want =
            normalised(x, kind, args.epsilon, s.groups, parameters > 0 ? &gain : nullptr,
                       parameters > 0 ? &bias : nullptr);
        Mat y(*device_, s.rows, s.cols, 3);
        ops_.norm(x.view(), args, y.view());
        y.fetch();
        expect_near(y.values(), want, 2e-6 * (s.cols == 1 ? 100 : 1), "norm");
        ops_.norm(x.view(), args, x.view());
        x.fetch();
        expect_same_bits(x.values(), y.values(), "norm in place");
      }
    }
  }
}

// A large mean must not eat the variance; an epsilon above the variance must count.
TEST_P(RowOps, NormOfDifficultRows) {
  Random random(200);
  Mat far = Mat::random(*device_, random, 3, 512, 0, 1, 1000);
  Mat y(*device_, 3, 512);
  ops_.norm(far.view(), norm_args(NormKind::kLayer, 1e-5f, 1), y.view());
  y.fetch();
  expect_near(y.values(), normalised(far, NormKind::kLayer, 1e-5, 1, nullptr, nullptr), 3e-4,
              "mean 1000, deviation 1");

  Mat faint = Mat::random(*device_, random, 3, 512, 0, 1e-3f);
  ops_.norm(faint.view(), norm_args(NormKind::kLayer, 64e-5f, 8), y.view());
  y.fetch();
  expect_near(y.values(), normalised(faint, NormKind::kLayer, 64e-5f, 8, nullptr, nullptr), 1e-6,
              "variance 1e-6, epsilon 64e-5");
}

// x transpose(w) + bias, x of whole rows one after the other; no bias: zeros.
std::vector<double> product(const std::vector<float>& x, const Weight& w,
                            const std::vector<float>& bias) {
  const auto inputs = static_cast<size_t>(w.matrix.cols);
  const auto outputs = static_cast<size_t>(w.matrix.rows);
  std::vector<double> want;
  for (size_t t = 0; t < x.size() / inputs; ++t) {
    for (size_t o = 0; o < outputs; ++o) {
      double sum = bias.empty() ? 0.0 : bias[o];
      for (size_t i = 0; i < inputs; ++i)
        sum += double{x[t * inputs + i]} * w.rounded[o * inputs + i];
      want.push_back(sum);
    }
  }
  return want;
}

// Fails unless `got` is the product of x or, on tensor cores, that of x in the weights' format.
void expect_product(const std::vector<float>& got, const std::vector<float>& x, const Weight& w,
                    const std::vector<float>& bias, double tolerance) {
  const DType dtype = w.matrix.format.dtype();
  if (dtype != DType::kF32 && testing::TestWithParam<DeviceCase>::GetParam().tensor_cores() &&
      all_near(got, product(rounded_to(dtype, x), w, bias), tolerance))
    return;
  expect_near(got, product(x, w, bias), tolerance, "linear");
}

// Rows beyond what f16 holds: a device that rounds them to f16 has to scale them.
TEST_P(RowOps, LinearOfRowsThatF16CannotHold) {
  Random random(350);
  const Weight w(*device_, random, 32, 64, DType::kF16);
  Mat x = Mat::random(*device_, random, 24, 64);
  for (int64_t i = 0; i < 64; ++i) x.at(5, i) *= 1e7f;
  x.put();
  Mat y(*device_, 24, 32);
  ops_.linear(x.view(), w.matrix.view(), y.view());
  y.fetch();
  // Scaled by a power of two, row 5 rounds as it would if f16 had a longer exponent.
  Mat scaled = x.clone();
  for (int64_t i = 0; i < 64; ++i) scaled.at(5, i) /= 1024;
  std::vector<float> rounded = rounded_to(DType::kF16, scaled.values());
  for (size_t i = 0; i < 64; ++i) rounded[5 * 64 + i] *= 1024;
  const std::vector<float> exact = x.values();
  const bool near =
      all_near(y.values(), product(exact, w, {}), 2e-5) ||
      (GetParam().tensor_cores() && all_near(y.values(), product(rounded, w, {}), 2e-5));
  EXPECT_TRUE(near) << "row 5 begins with " << y.at(5, 0) << ", not "
                    << product(exact, w, {})[5 * 32];
}

// Several products at once, of up to 64 rows, 16 of which are a tile of a kernel's: tiles that are
// full and that are not, inputs that go in parts, calls that share rows and calls that do not.
TEST_P(RowOps, LinearsOfTilesOfRows) {
  struct Shape {
    int64_t inputs, outputs;
    std::optional<Activation> activation;
  };
  const Shape shapes[] = {{72, 17, std::nullopt},          {72, 130, Activation::kTanh},
                          {72, 5, std::nullopt},           {3300, 9, std::nullopt},
                          {33, 20, Activation::kSilu},     {65, 6, Activation::kSigmoid},
                          {8, 3, Activation::kReluSquared}};
  uint64_t seed = 380;
  for (int64_t rows : {9, 16, 17, 33, 49, 64, 65}) {
    const DType dtype = rows % 2 == 0 ? DType::kBF16 : DType::kF16;
    SCOPED_TRACE(testing::Message()
                 << "seed " << ++seed << ", " << rows << " rows, " << dtype_name(dtype));
    Random random(seed);
    std::vector<Mat> x, y;
    std::vector<std::vector<float>> bias;
    std::vector<Mat> device_bias;
    std::vector<Weight> weights;
    std::vector<LinearCall> calls;
    for (const Shape& s : shapes) {
      // Numbers that both formats hold, but for one row that f16 has to scale.
      std::vector<float> values = rounded_to(DType::kBF16, random.normals(rows * s.inputs));
      for (int64_t i = 0; i < s.inputs; ++i)
        values[static_cast<size_t>((rows - 2) * s.inputs + i)] *= 0x1p20f;
      x.emplace_back(*device_, rows, s.inputs, 3);
      x.back().set(values.data());
      y.emplace_back(*device_, rows, s.outputs, 2);
      device_bias.push_back(Mat::parameter(*device_, random, 1, s.outputs));
      bias.push_back(device_bias.back().values());
      weights.emplace_back(*device_, random, s.outputs, s.inputs, dtype);
    }
    for (size_t i = 0; i < std::size(shapes); ++i) {
      WeightView w = weights[i].matrix.view();
      if (i % 2 == 0) w.bias = device_bias[i].view();
      if (i % 2 != 0) bias[i].clear();
      const size_t of = i == 1 ? 0 : i;  // the second call has the first one's rows
      calls.push_back({x[of].view(), w, y[i].view(), shapes[i].activation});
    }
    ops_.linears(calls);
    for (size_t i = 0; i < calls.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "call " << i);
      y[i].fetch();
      std::vector<double> want = product(x[i == 1 ? 0 : i].values(), weights[i], bias[i]);
      for (double& sum : want) {
        if (shapes[i].activation) sum = activation(*shapes[i].activation, sum);
      }
      std::vector<float> got = y[i].values();
      // The row of large numbers, to the scale of the others.
      double scale = 0x1p-20;
      if (shapes[i].activation == Activation::kReluSquared) scale = 0x1p-40;
      if (shapes[i].activation == Activation::kSigmoid) scale = 1;
      if (shapes[i].activation == Activation::kTanh) scale = 1;
      for (int64_t o = 0; o < shapes[i].outputs; ++o) {
        const auto at = static_cast<size_t>((rows - 2) * shapes[i].outputs + o);
        got[at] = static_cast<float>(got[at] * scale);
        want[at] *= scale;
      }
      expect_near(got, want, 1e-4, "linears");
    }
  }
}

// Long rows, which a device may share out to many threads and in several turns; outputs that do and
// do not fill its units.
TEST_P(RowOps, LinearOfOneLongRow) {
  struct Shape {
    int64_t inputs, outputs;
  };
  uint64_t seed = 350;
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const Shape& s : {Shape{1100, 37}, {2048, 260}, {4099, 131}, {9000, 70}, {17001, 9}}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << dtype_name(dtype) << ", "
                                      << s.inputs << " x " << s.outputs);
      Random random(seed);
      const Weight w(*device_, random, s.outputs, s.inputs, dtype);
      const Mat x = Mat::random(*device_, random, 1, s.inputs, 0, 0.1f);
      const Mat bias = Mat::parameter(*device_, random, 1, s.outputs);
      Mat y(*device_, 1, s.outputs, 2);
      WeightView view = w.matrix.view();
      view.bias = bias.view();
      ops_.linear(x.view(), view, y.view());
      y.fetch();
      expect_product(y.values(), x.values(), w, bias.values(), 2e-5);
    }
  }
}

TEST_P(RowOps, LinearAndEmbedOfEveryDtype) {
  struct Shape {
    int64_t rows, inputs, outputs;
  };
  uint64_t seed = 300;
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const Shape& s :
         {Shape{1, 64, 96}, {0, 8, 8}, {3, 33, 47}, {19, 300, 70}, {40, 128, 256}}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << dtype_name(dtype) << ", "
                                      << s.rows << " x " << s.inputs << " x " << s.outputs);
      Random random(seed);
      const Weight w(*device_, random, s.outputs, s.inputs, dtype);
      Mat x = Mat::random(*device_, random, s.rows, s.inputs, 7);
      Mat bias = Mat::parameter(*device_, random, 1, s.outputs);
      Mat y(*device_, s.rows, s.outputs, 2);
      WeightView view = w.matrix.view();
      view.bias = bias.view();
      ops_.linear(x.view(), view, y.view());
      y.fetch();
      expect_product(y.values(), x.values(), w, bias.values(), 2e-5);

      // A shard that holds ids [10, 10 + outputs), asked for ids on both sides too.
      const std::vector<int32_t> ids = {
          10, 9, static_cast<int32_t>(s.outputs) + 9, 0, static_cast<int32_t>(s.outputs) + 10, 12};
      Mat rows(*device_, static_cast<int64_t>(ids.size()), s.inputs, 1);
      const Array<int32_t> device_ids(*device_, ids);
      ops_.embed(w.matrix.view(), device_ids.data(), static_cast<int32_t>(ids.size()), 10, 0.5f,
                 rows.view());
      rows.fetch();
      std::vector<double> table_rows;
      for (int32_t id : ids) {
        for (int64_t i = 0; i < s.inputs; ++i) {
          const bool mine = id >= 10 && id < 10 + s.outputs;
          table_rows.push_back(mine ? 0.5 * w.rounded[static_cast<size_t>((id - 10) * s.inputs + i)]
                                    : 0);
        }
      }
      expect_near(rows.values(), table_rows, 0, "embed");
    }
  }
}

TEST_P(RowOps, AddMultiplyAndSwiglu) {
  uint64_t seed = 400;
  for (auto [rows, cols] : {std::pair{1, 1}, {3, 17}, {2, 64}, {50, 700}, {0, 4}}) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", [" << rows << ", " << cols << "]");
    Random random(seed);
    Mat x = Mat::random(*device_, random, rows, cols, 4, 3);
    Mat z = Mat::random(*device_, random, rows, cols, 9);
    std::vector<double> want_sum, want_product, want_swiglu;
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        want_sum.push_back(double{x.at(t, c)} + z.at(t, c));
        want_product.push_back(double{x.at(t, c)} * z.at(t, c));
        want_swiglu.push_back(activation(Activation::kSilu, x.at(t, c)) * z.at(t, c));
      }
    }
    Mat y = z.clone();
    ops_.add(x.view(), y.view());
    y.fetch();
    expect_near(y.values(), want_sum, 1e-7, "add");
    y = z.clone();
    ops_.multiply(x.view(), y.view());
    y.fetch();
    expect_near(y.values(), want_product, 1e-7, "multiply");

    Mat gate = x.clone(), up = z.clone();
    y = Mat(*device_, rows, cols, 3);
    ops_.swiglu(x.view(), z.view(), y.view());
    ops_.swiglu(gate.view(), z.view(), gate.view());
    ops_.swiglu(x.view(), up.view(), up.view());
    for (Mat* result : {&y, &gate, &up}) {
      result->fetch();
      expect_near(result->values(), want_swiglu, 1e-6, "swiglu");
    }
  }
}

// From the smallest to the largest, a few roundings off and no more; in place too.
TEST_P(RowOps, ActivationsOverTheirWholeRange) {
  std::vector<float> points = {0.0f, -0.0f, 1e-30f, -1e-30f, 1e30f, 87.0f, -87.0f, 104.0f};
  for (float x = 1e-6f; x < 85; x *= 1.0037f) points.push_back(x), points.push_back(-x);
  const auto count = static_cast<int64_t>(points.size());
  for (Activation kind : kActivations) {
    Mat x(*device_, 1, count), y(*device_, 1, count);
    std::vector<double> want;
    for (int64_t i = 0; i < count; ++i) {
      x.at(0, i) = points[static_cast<size_t>(i)];
      want.push_back(activation(kind, points[static_cast<size_t>(i)]));
    }
    x.put();
    ops_.activate(kind, x.view(), y.view());
    ops_.activate(kind, x.view(), x.view());
    x.fetch();
    y.fetch();
    for (int64_t i = 0; i < count; ++i) {
      const double exact = want[static_cast<size_t>(i)];
      if (std::abs(exact) > 1e36) continue;  // infinity in f32
      EXPECT_NEAR(y.at(0, i), exact, 4e-7 * std::abs(exact) + 1e-37)
          << "activation " << static_cast<int>(kind) << " of " << points[static_cast<size_t>(i)];
    }
    expect_same_bits(x.values(), y.values(), "activate in place");
  }
}

TEST_P(RowOps, ActivationsAtTheEndsAndOfNaN) {
  Mat x(*device_, 1, 3), y(*device_, 1, 3);
  x.at(0, 0) = -1e30f;
  x.at(0, 1) = 1e30f;
  x.at(0, 2) = NAN;
  x.put();
  const double limits[][2] = {{0, 1}, {-1, 1}};
  for (int kind = 0; kind < 4; ++kind) {
    ops_.activate(static_cast<Activation>(kind), x.view(), y.view());
    y.fetch();
    EXPECT_TRUE(std::isnan(y.at(0, 2))) << "activation " << kind << " hides a NaN";
    if (kind >= 2) continue;
    EXPECT_EQ(y.at(0, 0), limits[kind][0]);
    EXPECT_EQ(y.at(0, 1), limits[kind][1]);
  }
}

TEST_P(RowOps, GatherRowsElsewhereAndInPlace) {
  Random random(500);
  Mat x = Mat::random(*device_, random, 9, 33, 2);
  const Array<int32_t> indices(*device_, {0, 1, 4, 5, 8});
  std::vector<float> want;
  for (int64_t r : {0, 1, 4, 5, 8}) {
    const std::vector<float> row = x.row(r);
    want.insert(want.end(), row.begin(), row.end());
  }
  Mat y(*device_, 5, 33, 6);
  ops_.gather_rows(x.view(), indices.data(), 5, y.view());
  y.fetch();
  expect_same_bits(y.values(), want, "gather_rows");
  ops_.gather_rows(x.view(), indices.data(), 5, x.view());
  x.fetch();
  std::vector<float> first = x.values();
  first.resize(want.size());
  expect_same_bits(first, want, "gather_rows in place");
  ops_.gather_rows(x.view(), indices.data(), 0, y.view());
  y.fetch();
  expect_same_bits(y.values(), want, "gather_rows of nothing");
}

// Angles of a million radians; the product of position and frequency is rounded to f32 first.
TEST_P(RowOps, RopeTableOfNearAndFarPositions) {
  const std::vector<int32_t> positions = {0, 1, 2, 511, 4096, 131071, 1000003};
  const Array<int32_t> device_positions(*device_, positions);
  for (int64_t n : {1, 12, 32}) {
    Mat frequencies(*device_, 1, n);
    for (int64_t i = 0; i < n; ++i) {
      frequencies.at(0, i) =
          static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(n)));
    }
    frequencies.become_parameter();
    Mat table(*device_, static_cast<int64_t>(positions.size()), 2 * n, 1);
    ops_.rope_table(device_positions.data(), static_cast<int32_t>(positions.size()),
                    frequencies.view(), 1.25f, table.view());
    table.fetch();
    std::vector<double> want;
    for (int32_t position : positions) {
      std::vector<double> cosines, sines;
      for (int64_t i = 0; i < n; ++i) {
        const float angle = static_cast<float>(position) * frequencies.at(0, i);
        cosines.push_back(1.25 * std::cos(double{angle}));
        sines.push_back(1.25 * std::sin(double{angle}));
      }
      want.insert(want.end(), cosines.begin(), cosines.end());
      want.insert(want.end(), sines.begin(), sines.end());
    }
    expect_near(table.values(), want, 2e-7, "rope_table");
  }
}

TEST_P(RowOps, RopeOfBothStylesWholeAndPartial) {
  struct Shape {
    int64_t rows, heads, head_dim, rotary_dim;
  };
  uint64_t seed = 600;
  for (const Shape& s :
       {Shape{3, 2, 64, 64}, {1, 5, 24, 24}, {4, 3, 80, 32}, {2, 1, 10, 6}, {70, 4, 128, 128}}) {
    for (RopeStyle style : {RopeStyle::kHalves, RopeStyle::kInterleaved}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", rotary_dim " << s.rotary_dim);
      Random random(seed);
      Mat x = Mat::random(*device_, random, s.rows, s.heads * s.head_dim, 3);
      Mat table = Mat::random(*device_, random, s.rows, s.rotary_dim, 1);
      std::vector<double> want;
      const int64_t half = s.rotary_dim / 2;
      for (int64_t t = 0; t < s.rows; ++t) {
        for (int64_t c = 0; c < x.cols(); ++c) {
          const int64_t in_head = c % s.head_dim, head = c - in_head;
          if (in_head >= s.rotary_dim) {
            want.push_back(x.at(t, c));
            continue;
          }
          const bool halves = style == RopeStyle::kHalves;
          const int64_t pair = halves ? in_head % half : in_head / 2;
          const bool second = halves ? in_head >= half : in_head % 2 == 1;
          const double x0 = x.at(t, head + (halves ? pair : 2 * pair));
          const double x1 = x.at(t, head + (halves ? pair + half : 2 * pair + 1));
          const double cosine = table.at(t, pair), sine = table.at(t, half + pair);
          want.push_back(second ? x1 * cosine + x0 * sine : x0 * cosine - x1 * sine);
        }
      }
      ops_.rope(table.view(), style, static_cast<int32_t>(s.head_dim), x.view());
      x.fetch();
      expect_near(x.values(), want, 5e-7, "rope");
    }
  }
}

}  // namespace
}  // namespace trireme::contract
