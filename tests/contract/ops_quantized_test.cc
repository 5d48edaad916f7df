// Products and look-ups with quantized weights. Right within rounding of the formula in f64; on the
// CPU the same bits as with the same numbers kept as f32.
#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/base/quantize.h"
#include "tests/contract/ops_support.h"

namespace trireme::contract {
namespace {

constexpr WeightFormat kFormats[] = {
    {WeightType::kInt8, 128}, {WeightType::kInt8, 0},  {WeightType::kInt8, 32},
    {WeightType::kInt4, 128}, {WeightType::kInt4, 64}, {WeightType::kInt4, 32},
    {WeightType::kInt4, 0},   {WeightType::kFp8, 0},   {WeightType::kFp8, 128},
};

class QuantizedOps : public testing::TestWithParam<DeviceCase> {
 protected:
  std::unique_ptr<Device> device_ = make_device(GetParam());
  Ops& ops_ = device_->ops();
  bool on_cpu() const { return GetParam().isa != "ref" && !GetParam().tensor_cores(); }

  void SetUp() override {
    if (!device_->make_matrix(1, 1, kFormats[0]).ok())
      GTEST_SKIP() << GetParam().isa << " has no quantized weights";
  }
};

struct Shape {
  int64_t rows, inputs, outputs;
};
// One row and few, as many as kernels treat alike and one more; inputs that end within a word, a
// group and a block of them; outputs that end within a tile; rows of y on words of 16 bytes and
// not.
constexpr Shape kShapes[] = {{1, 64, 96},   {1, 1000, 33}, {2, 31, 5},    {3, 33, 47},
                             {8, 300, 70},  {9, 264, 31},  {16, 520, 17}, {19, 300, 70},
                             {64, 160, 40}, {70, 144, 65}, {70, 144, 64}, {260, 72, 40},
                             {0, 8, 8}};

// Every code that a format has, zeros of all sizes, scales over eight powers of two: more than
// quantize() would make.
QuantizedRows wild_rows(Random& random, int64_t rows, int64_t cols, WeightFormat format) {
  QuantizedRows q = QuantizedRows::make(rows, cols, format);
  for (uint8_t& code : q.codes) {
    code = static_cast<uint8_t>(random.integer(0, format.type == WeightType::kInt4 ? 15 : 255));
    if (format.type == WeightType::kFp8 && (code & 0x7f) == 0x7f) code ^= 1;  // NaN
  }
  for (GroupScale& word : q.scales) {
    const int zero = format.type == WeightType::kInt4   ? random.integer(0, 16)
                     : format.type == WeightType::kInt8 ? random.integer(-128, 127)
                                                        : 0;
    const float unit = format.type == WeightType::kInt4   ? 0x1p-5f
                       : format.type == WeightType::kInt8 ? 0x1p-9f
                                                          : 0x1p-10f;
    word = make_group_scale(unit * std::exp2(random.normal()), zero);
  }
  return q;
}

// In two parts, as a loader writes a stacked matrix.
Matrix matrix_of(Device& device, const QuantizedRows& q) {
  Matrix matrix = device.make_matrix(q.rows, q.cols, q.format).take();
  const int64_t half = q.rows / 2;
  device.write_quantized_rows(matrix, half, q.view().row_range(half, q.rows - half));
  device.write_quantized_rows(matrix, 0, q.view().row_range(0, half));
  EXPECT_TRUE(device.synchronize().ok());
  return matrix;
}

Matrix matrix_of(Device& device, const std::vector<float>& values, int64_t rows, int64_t cols) {
  Matrix matrix = device.make_matrix(rows, cols, DType::kF32).take();
  device.write_rows(matrix, 0, ConstTensorView(values.data(), rows, cols, DType::kF32));
  EXPECT_TRUE(device.synchronize().ok());
  return matrix;
}

// Of the sum of magnitudes. f32: some roundings in a chain. f16: rows rounded to 11 bits. fp8: rows
// rounded to 4 bits, 2^-4 of each term at most; they may be where they are many and w is fp8.
double tolerance_of(const DeviceCase& device, WeightFormat format, int64_t rows) {
  if (!device.tensor_cores()) return 2e-5;
  if (format == WeightFormat{WeightType::kFp8, 0} && rows > 64) return 0x1p-4;
  return 0x1p-11 + 2e-5;
}

TEST_P(QuantizedOps, LinearOfEveryFormat) {
  uint64_t seed = 900;
  for (const WeightFormat format : kFormats) {
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << weight_format_name(format)
                                      << ", " << s.rows << " x " << s.inputs << " x " << s.outputs);
      Random random(seed);
      const QuantizedRows q = wild_rows(random, s.outputs, s.inputs, format);
      const Matrix w = matrix_of(*device_, q);
      const Mat x = Mat::random(*device_, random, s.rows, s.inputs, seed % 2 == 0 ? 3 : 4);
      const Mat bias = Mat::parameter(*device_, random, 1, s.outputs);
      Mat y(*device_, s.rows, s.outputs, s.outputs % 4 == 0 ? 4 : 2);
      WeightView view = w.view();
      view.bias = bias.view();
      ops_.linear(x.view(), view, y.view());
      y.fetch();
      const std::vector<float> plain = dequantized(q);
      expect_products(y.values(), products(x.values(), plain, s.inputs, bias.values()),
                      tolerance_of(GetParam(), format, s.rows));
      if (!on_cpu()) continue;
      const Matrix as_f32 = matrix_of(*device_, plain, s.outputs, s.inputs);
      Mat want(*device_, s.rows, s.outputs);
      WeightView plain_view = as_f32.view();
      plain_view.bias = bias.view();
      ops_.linear(x.view(), plain_view, want.view());
      want.fetch();
      expect_same_bits(y.values(), want.values(), "as f32");
    }
  }
}

// Two products of many rows, the second queued while the first may still read what it has made for
// itself of its weights.
TEST_P(QuantizedOps, LinearsOneAfterTheOther) {
  constexpr int64_t kRows = 270, kInputs = 128, kOutputs = 72;
  uint64_t seed = 990;
  for (const WeightFormat format : kFormats) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << weight_format_name(format));
    Random random(seed);
    const Mat x = Mat::random(*device_, random, kRows, kInputs);
    std::vector<QuantizedRows> q;
    std::vector<Matrix> w;
    std::vector<Mat> y;
    for (int i = 0; i < 2; ++i) {
      q.push_back(wild_rows(random, kOutputs, kInputs, format));
      w.push_back(matrix_of(*device_, q.back()));
      y.emplace_back(*device_, kRows, kOutputs);
    }
    const TensorView out[] = {y[0].view(), y[1].view()};
    for (size_t i = 0; i < 2; ++i) ops_.linear(x.view(), w[i].view(), out[i]);
    for (size_t i = 0; i < 2; ++i) {
      y[i].fetch();
      expect_products(y[i].values(), products(x.values(), dequantized(q[i]), kInputs),
                      tolerance_of(GetParam(), format, kRows));
    }
  }
}

TEST_P(QuantizedOps, EmbedOfEveryFormat) {
  uint64_t seed = 1000;
  for (const WeightFormat format : kFormats) {
    for (const int64_t cols : {33, 300}) {
      SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << weight_format_name(format));
      Random random(seed);
      const QuantizedRows q = wild_rows(random, 40, cols, format);
      const Matrix table = matrix_of(*device_, q);
      const std::vector<int32_t> ids = {10, 9, 49, 50, 12, 12, 0};  // of a shard that begins at 10
      const Array<int32_t> device_ids(*device_, ids);
      Mat y(*device_, static_cast<int64_t>(ids.size()), cols, 1);
      ops_.embed(table.view(), device_ids.data(), static_cast<int32_t>(ids.size()), 10, 0.5f,
                 y.view());
      y.fetch();
      const std::vector<float> plain = dequantized(q);
      std::vector<float> want;
      for (const int32_t id : ids) {
        for (int64_t c = 0; c < cols; ++c) {
          const bool mine = id >= 10 && id < 50;
          want.push_back(mine ? 0.5f * plain[static_cast<size_t>((id - 10) * cols + c)] : 0.0f);
        }
      }
      expect_same_bits(y.values(), want, "embed");
    }
  }
}

// Groups of products and feed-forward nets, beside linear() and swiglu() one by one.
TEST_P(QuantizedOps, Compounds) {
  uint64_t seed = 1100;
  for (const WeightFormat format : kFormats) {
    for (const int64_t rows : {1, 8, 21, 66}) {
      SCOPED_TRACE(testing::Message()
                   << "seed " << ++seed << ", " << weight_format_name(format) << ", " << rows);
      Random random(seed);
      const Mat x = Mat::random(*device_, random, rows, 96, 0, 0.3f);
      const Matrix up = matrix_of(*device_, wild_rows(random, 2 * 72, 96, format));
      const Matrix down = matrix_of(*device_, wild_rows(random, 50, 72, format));
      const Matrix other = matrix_of(*device_, std::vector<float>(random.normals(20 * 96)), 20, 96);
      Mat inner(*device_, rows, 2 * 72), y(*device_, rows, 50), want = y.clone();
      ops_.linear(x.view(), up.view(), inner.view());
      const TensorView gate = inner.view().col_range(0, 72);
      ops_.swiglu(gate, inner.view().col_range(72, 72), gate);
      ops_.linear(gate, down.view(), want.view());
      want.fetch();
      ops_.feed_forward(FeedForward::kSwiglu, x.view(), up.view(), down.view(), inner.view(),
                        y.view());
      y.fetch();
      // Both round their rows alike, but f16 and fp8 of nearly equal numbers may be neighbours.
      const bool fp8_rows = format == WeightFormat{WeightType::kFp8, 0} && rows > 64;
      const double tolerance = GetParam().tensor_cores() ? (fp8_rows ? 0.2 : 1e-2) : 1e-5;
      double largest = 1;
      for (const float v : want.values()) largest = std::max(largest, double{std::abs(v)});
      for (size_t i = 0; i < y.values().size(); ++i)
        ASSERT_NEAR(y.values()[i], want.values()[i], tolerance * largest) << i;

      Mat ups(*device_, rows, 144), others(*device_, rows, 20), ups_want = ups.clone(),
                                                                others_want = others.clone();
      const LinearCall calls[] = {
          {x.view(), up.view(), ups.view(), Activation::kTanh},
          {x.view(), other.view(), others.view(), std::nullopt},
      };
      ops_.linears(calls);
      ops_.linear(x.view(), up.view(), ups_want.view());
      ops_.activate(Activation::kTanh, ups_want.view(), ups_want.view());
      ops_.linear(x.view(), other.view(), others_want.view());
      for (Mat* mat : {&ups, &others, &ups_want, &others_want}) mat->fetch();
      for (size_t i = 0; i < ups.values().size(); ++i)
        ASSERT_NEAR(ups.values()[i], ups_want.values()[i], fp8_rows ? 0.2 : 1e-2) << i;
      for (size_t i = 0; i < others.values().size(); ++i)
        ASSERT_NEAR(others.values()[i], others_want.values()[i], 1e-3) << i;
    }
  }
}

// What a norm stands before, and what is added to the residual stream: beside the ops one by one.
// Rows that a block can hold whole and one that it cannot; words of 16 bytes and not.
TEST_P(QuantizedOps, OfTheResidualStream) {
  uint64_t seed = 1200;
  const auto expect_near = [](const std::vector<float>& got, const std::vector<float>& want) {
    double largest = 1;
    for (const float v : want) largest = std::max(largest, double{std::abs(v)});
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 4e-3 * largest) << i;
  };
  for (const WeightFormat format : kFormats) {
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{1, 1040}, {1, 333}, {1, 17000}, {3, 264}}) {
      if (cols == 17000 && format.group != 0 && format.group != 64) continue;  // long enough
      for (const bool adds : {true, false}) {
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << weight_format_name(format)
                                        << ", " << rows << " x " << cols);
        Random random(seed);
        const Matrix up = matrix_of(*device_, wild_rows(random, 2 * 40, cols, format));
        const Matrix down = matrix_of(*device_, wild_rows(random, cols, 40, format));
        const Mat gain = Mat::parameter(*device_, random, 1, cols), bias = gain.clone();
        Mat x = Mat::random(*device_, random, rows, cols, 0, 2);
        Mat y(*device_, rows, cols), inner(*device_, rows, 80), want_inner = inner.clone();
        Mat delta(*device_, rows, cols), want = delta.clone();
        NormArgs norm{NormKind::kRms, 1e-5f, 1, {}, {}};
        if (adds) norm.gain = gain.view();
        const ResidualNorm in{{}, x.view(), norm, y.view()};
        ops_.norm(x.view(), norm, y.view());
        ops_.linear(y.view(), up.view(), want_inner.view());
        const LinearCall call{y.view(), up.view(), inner.view(), std::nullopt};
        ops_.norm_linears(in, {&call, 1});
        inner.fetch();
        want_inner.fetch();
        expect_near(inner.values(), want_inner.values());

        const Mat half = Mat::random(*device_, random, rows, 40, 0, 0.1f);
        WeightView view = down.view();
        view.bias = bias.view();
        ops_.linear(half.view(), view, want.view());
        want.fetch();
        Mat stream = x.clone(), sum = adds ? x.clone() : Mat(*device_, rows, cols);
        if (adds) {
          ops_.add(want.view(), sum.view());
        } else {
          sum = want.clone();
        }
        const bool added = ops_.linear_add(half.view(), view, delta.view(), {stream.view(), adds});
        Mat& result = added ? stream : delta;
        const Mat& expected = added ? sum : want;
        result.fetch();
        sum.fetch();
        want.fetch();
        expect_near(result.values(), expected.values());

        ops_.norm(x.view(), norm, y.view());
        ops_.feed_forward(FeedForward::kSwiglu, y.view(), up.view(), down.view(), inner.view(),
                          want.view());
        want.fetch();
        sum = adds ? x.clone() : want.clone();
        if (adds) ops_.add(want.view(), sum.view());
        const bool net_added =
            ops_.norm_feed_forward(in, FeedForward::kSwiglu, up.view(), down.view(), inner.view(),
                                   delta.view(), {x.view(), adds});
        EXPECT_EQ(net_added, added);
        Mat& net = net_added ? x : delta;
        for (Mat* mat : {&net, &sum, &want}) mat->fetch();
        expect_near(net.values(), (net_added ? sum : want).values());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, QuantizedOps, testing::ValuesIn(quantized_cases()), case_name);

}  // namespace
}  // namespace trireme::contract
