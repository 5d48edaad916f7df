// linear(): right within rounding against a double-precision loop, and the Row law bit for bit:
// the same row gives the same bits alone and among 512, in any chunks, with any number of threads,
// on every instruction set that this machine has, through strided views.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/quantize.h"
#include "kernels/base/random.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/packed_quantized.h"

namespace trireme {
namespace {

std::vector<float> draw(uint64_t seed, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(seed, i);
  return values;
}

// Every code that the format has, zeros of all sizes, scales over some powers of two.
QuantizedRows draw_quantized(uint64_t seed, int64_t rows, int64_t cols, WeightFormat format) {
  QuantizedRows q = QuantizedRows::make(rows, cols, format);
  uint64_t at = 0;
  const auto integer = [&](int low, int high) {
    return low + static_cast<int>(philox4x32({static_cast<uint32_t>(seed), 9},
                                             {static_cast<uint32_t>(at++), 0, 0, 0})[0] %
                                  static_cast<uint32_t>(high - low + 1));
  };
  for (uint8_t& code : q.codes) {
    code = static_cast<uint8_t>(integer(0, format.type == WeightType::kInt4 ? 15 : 255));
    if (format.type == WeightType::kFp8 && (code & 0x7f) == 0x7f) code ^= 1;  // NaN
  }
  for (GroupScale& word : q.scales) {
    const int zero = format.type == WeightType::kInt4   ? integer(0, 16)
                     : format.type == WeightType::kInt8 ? integer(-128, 127)
                                                        : 0;
    word =
        make_group_scale(std::ldexp(1.0f + std::abs(normal(seed + 2, at)), integer(-9, -3)), zero);
  }
  return q;
}

// A packed matrix and what it holds, row-major.
struct Weights {
  Weights(int64_t rows, int64_t cols, WeightFormat format, uint64_t seed, bool with_bias)
      : buffer(allocate_host(packed_bytes(rows, cols, format) + 64)),
        values(draw(seed, rows * cols)),
        bias(with_bias ? draw(seed + 1, rows) : std::vector<float>{}) {
    if (cols > 0 && format.quantized()) {
      const QuantizedRows q = draw_quantized(seed, rows, cols, format);
      write_packed_quantized_rows(buffer.data(), rows, cols, 0, q.view());
      for (int64_t r = 0; r < rows; ++r) dequantize_row(q.view(), r, values.data() + r * cols);
    } else if (cols > 0) {
      write_packed_rows(buffer.data(), rows, cols, format.dtype(), 0,
                        ConstTensorView(values.data(), rows, cols, DType::kF32));
      for (float& value : values) {
        uint32_t stored;
        store_f32(&stored, format.dtype(), 0, value);
        value = load_f32(&stored, format.dtype(), 0);
      }
    }
    view = {buffer.data(), rows, cols, format, {}};
    if (with_bias) view.bias = ConstTensorView(bias.data(), 1, rows, DType::kF32);
  }
  Buffer buffer;
  std::vector<float> values;
  std::vector<float> bias;
  WeightView view;
};

constexpr WeightFormat kFormats[] = {DType::kF32,
                                     DType::kBF16,
                                     DType::kF16,
                                     {WeightType::kInt8, 0},
                                     {WeightType::kInt8, 32},
                                     {WeightType::kInt4, 0},
                                     {WeightType::kInt4, 64},
                                     {WeightType::kFp8, 0},
                                     {WeightType::kFp8, 128}};

std::vector<float> multiply(ThreadPool& pool, Isa isa, const std::vector<float>& x, int64_t rows,
                            const WeightView& w) {
  std::vector<float> y(static_cast<size_t>(rows * w.rows), -7.0f);
  linear(pool, isa, ConstTensorView(x.data(), rows, w.cols, DType::kF32), w,
         tensor(y.data(), rows, w.rows));
  return y;
}

// The same numbers with the same bits (so +0 is not -0).
::testing::AssertionResult same_bits(const float* a, const float* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure() << "at " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

std::vector<Isa> supported() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

struct Shape {
  int64_t outputs;
  int64_t inputs;
  bool bias;
};
// One element; less than a panel and a block; exactly two panels and a block; several of each with
// a rest; one input more than blocks.
constexpr Shape kShapes[] = {
    {1, 1, false}, {31, 7, true}, {64, 256, false}, {97, 601, true}, {40, 513, false}};

class LinearTest : public ::testing::TestWithParam<std::tuple<WeightFormat, Shape>> {
 protected:
  WeightFormat format = std::get<0>(GetParam());
  int64_t outputs = std::get<1>(GetParam()).outputs;
  int64_t inputs = std::get<1>(GetParam()).inputs;
  Weights w{outputs, inputs, format, 11, std::get<1>(GetParam()).bias};
};

TEST_P(LinearTest, IsTheProductWithinRounding) {
  constexpr int64_t kRows = 19;
  const std::vector<float> x = draw(5, kRows * inputs);
  for (Isa isa : supported()) {
    ThreadPool pool(2);
    const std::vector<float> y = multiply(pool, isa, x, kRows, w.view);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t j = 0; j < outputs; ++j) {
        double sum = w.bias.empty() ? 0.0 : static_cast<double>(w.bias[static_cast<size_t>(j)]);
        double magnitude = std::abs(sum);
        for (int64_t k = 0; k < inputs; ++k) {
          const double product = static_cast<double>(x[static_cast<size_t>(t * inputs + k)]) *
                                 static_cast<double>(w.values[static_cast<size_t>(j * inputs + k)]);
          sum += product;
          magnitude += std::abs(product);
        }
        // A chain of 256 and the sum of the blocks: each rounding is at most half an ulp.
        const double roundings = std::min<double>(256, static_cast<double>(inputs)) +
                                 static_cast<double>(inputs) / 256 + 2;
        ASSERT_NEAR(y[static_cast<size_t>(t * outputs + j)], sum,
                    magnitude * roundings * 0x1p-24 + 1e-30)
            << isa_name(isa) << " row " << t << " output " << j;
      }
    }
  }
}

TEST_P(LinearTest, IsTheDefinedChainOfFusedMultiplyAdds) {
  constexpr int64_t kRows = 3;
  const std::vector<float> x = draw(6, kRows * inputs);
  ThreadPool pool(1);
  const std::vector<float> y = multiply(pool, best_isa(), x, kRows, w.view);
  for (int64_t t = 0; t < kRows; ++t) {
    for (int64_t j = 0; j < outputs; ++j) {
      float total = 0;
      for (int64_t block = 0; block < inputs; block += kBlockK) {
        float chain = 0;
        for (int64_t k = block; k < std::min(block + kBlockK, inputs); ++k) {
          chain = std::fma(x[static_cast<size_t>(t * inputs + k)],
                           w.values[static_cast<size_t>(j * inputs + k)], chain);
        }
        total = block == 0 ? chain : total + chain;
      }
      if (!w.bias.empty()) total += w.bias[static_cast<size_t>(j)];
      ASSERT_TRUE(same_bits(&y[static_cast<size_t>(t * outputs + j)], &total, 1))
          << "row " << t << " output " << j;
    }
  }
}

TEST_P(LinearTest, RowsThreadsAndInstructionSetsChangeNoBit) {
  constexpr int64_t kRows = 53;
  const std::vector<float> x = draw(7, kRows * inputs);
  ThreadPool one(1);
  std::vector<float> alone;  // each row by itself
  for (int64_t t = 0; t < kRows; ++t) {
    const std::vector<float> row(x.begin() + t * inputs, x.begin() + (t + 1) * inputs);
    const std::vector<float> y = multiply(one, best_isa(), row, 1, w.view);
    alone.insert(alone.end(), y.begin(), y.end());
  }
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (Isa isa : supported()) {
      for (int64_t chunk : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 26, 40, 53}) {
        std::vector<float> y(alone.size(), -7.0f);
        for (int64_t t = 0; t < kRows; t += chunk) {
          const int64_t count = std::min(chunk, kRows - t);
          linear(pool, isa, ConstTensorView(x.data() + t * inputs, count, inputs, DType::kF32),
                 w.view, tensor(y.data() + t * outputs, count, outputs));
        }
        ASSERT_TRUE(same_bits(y.data(), alone.data(), kRows * outputs))
            << isa_name(isa) << ", " << threads << " threads, chunks of " << chunk;
      }
    }
  }
}

TEST_P(LinearTest, StridedViewsGiveTheSameBitsAndNothingElseIsWritten) {
  constexpr int64_t kRows = 9;
  const std::vector<float> x = draw(8, kRows * inputs);
  ThreadPool pool(2);
  const int64_t x_stride = inputs + 3;
  const int64_t y_stride = outputs + 5;
  std::vector<float> wide_x(static_cast<size_t>(kRows * x_stride), NAN);
  for (int64_t t = 0; t < kRows; ++t) {
    std::copy_n(x.begin() + t * inputs, inputs, wide_x.begin() + t * x_stride);
  }
  for (Isa isa : supported()) {
    const std::vector<float> expected = multiply(pool, isa, x, kRows, w.view);
    std::vector<float> wide_y(static_cast<size_t>(kRows * y_stride), 42.0f);
    linear(pool, isa, TensorView{wide_x.data(), kRows, inputs, x_stride, DType::kF32, Place::kHost},
           w.view, TensorView{wide_y.data(), kRows, outputs, y_stride, DType::kF32, Place::kHost});
    for (int64_t t = 0; t < kRows; ++t) {
      const float* row = wide_y.data() + t * y_stride;
      ASSERT_TRUE(same_bits(row, expected.data() + t * outputs, outputs)) << isa_name(isa);
      for (int64_t j = outputs; j < y_stride; ++j) ASSERT_EQ(row[j], 42.0f) << isa_name(isa);
    }
  }
}

std::string shape_name(const ::testing::TestParamInfo<std::tuple<WeightFormat, Shape>>& test) {
  const auto& [format, shape] = test.param;
  std::string name = weight_format_name(format) + "_" + std::to_string(shape.outputs) + "x" +
                     std::to_string(shape.inputs);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Shapes, LinearTest,
                         ::testing::Combine(::testing::ValuesIn(kFormats),
                                            ::testing::ValuesIn(kShapes)),
                         shape_name);

// As many rows as a prefill has, where rows are cut into chunks and shared between threads.
TEST(Linear, A512RowPrefillHasTheBitsOfSingleRows) {
  constexpr int64_t kRows = 512;
  for (const WeightFormat format : kFormats) {
    const Weights w(70, 300, format, 3, true);
    const std::vector<float> x = draw(4, kRows * 300);
    ThreadPool one(1);
    ThreadPool three(3);
    for (Isa isa : supported()) {
      const std::vector<float> y = multiply(three, isa, x, kRows, w.view);
      for (int64_t t = 0; t < kRows; t += 37) {
        const std::vector<float> row(x.begin() + t * 300, x.begin() + (t + 1) * 300);
        const std::vector<float> alone = multiply(one, isa, row, 1, w.view);
        ASSERT_TRUE(same_bits(alone.data(), y.data() + t * 70, 70))
            << weight_format_name(format) << " " << isa_name(isa) << " row " << t;
      }
    }
  }
}

// From subnormal ones to 2^60, with any zero: a weight is one rounding of scale * (code - zero), so
// its product has the bits of the weight kept as f32.
TEST(Linear, ScalesOfAllSizes) {
  constexpr int64_t kOutputs = 64, kInputs = 300;
  for (const WeightFormat format : kFormats) {
    if (!format.quantized()) continue;
    QuantizedRows q = draw_quantized(21, kOutputs, kInputs, format);
    for (size_t i = 0; i < q.scales.size(); ++i) {
      const auto bits = philox4x32({22, 0}, {static_cast<uint32_t>(i), 0, 0, 0});
      const uint32_t exponent = i % 4 == 0 ? bits[0] % 3 : bits[0] % (127 + 60);
      const float scale = std::bit_cast<float>(exponent << 23 | (bits[1] & 0x7fff00u));
      q.scales[i] = make_group_scale(scale, zero_of(q.scales[i]));
    }
    const Buffer codes = allocate_host(packed_bytes(kOutputs, kInputs, format));
    write_packed_quantized_rows(codes.data(), kOutputs, kInputs, 0, q.view());
    std::vector<float> values(kOutputs * kInputs);
    for (int64_t r = 0; r < kOutputs; ++r) dequantize_row(q.view(), r, values.data() + r * kInputs);
    const Buffer plain = allocate_host(packed_bytes(kOutputs, kInputs, DType::kF32));
    write_packed_rows(plain.data(), kOutputs, kInputs, DType::kF32, 0,
                      ConstTensorView(values.data(), kOutputs, kInputs, DType::kF32));
    ThreadPool pool(1);
    for (const int64_t rows : {1, 20}) {
      const std::vector<float> x = draw(23, rows * kInputs);
      const std::vector<float> want =
          multiply(pool, best_isa(), x, rows, {plain.data(), kOutputs, kInputs, DType::kF32, {}});
      for (Isa isa : supported()) {
        const std::vector<float> got =
            multiply(pool, isa, x, rows, {codes.data(), kOutputs, kInputs, format, {}});
        ASSERT_TRUE(same_bits(got.data(), want.data(), rows * kOutputs))
            << weight_format_name(format) << " " << isa_name(isa) << ", " << rows << " rows";
      }
    }
  }
}

TEST(Linear, NoRowsAndNoInputs) {
  ThreadPool pool(2);
  const Weights w(40, 8, DType::kBF16, 3, true);
  linear(pool, best_isa(), ConstTensorView(nullptr, 0, 8, DType::kF32), w.view,
         tensor(nullptr, 0, 40));
  for (const WeightFormat format :
       {WeightFormat(DType::kF32), WeightFormat(WeightType::kInt4, 0)}) {
    const Weights none(40, 0, format, 3, true);
    const std::vector<float> y = multiply(pool, best_isa(), {}, 2, none.view);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], none.bias[i % 40]);
  }
}

TEST(Embed, GathersRowsScalesThemAndZerosForeignIds) {
  ThreadPool pool(2);
  for (const WeightFormat format : kFormats) {
    const Weights table(50, 513, format, 9, false);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 300; ++i) ids.push_back((i * 7) % 80 + 90);  // [90, 170)
    constexpr int32_t kFirst = 100;                                      // the shard: [100, 150)
    const auto count = static_cast<int32_t>(ids.size());
    for (Isa isa : supported()) {
      std::vector<float> y(ids.size() * 513, -7.0f);
      embed(pool, isa, table.view, ids.data(), count, kFirst, 1.25f, tensor(y.data(), count, 513));
      for (int32_t t = 0; t < count; ++t) {
        const int32_t row = ids[static_cast<size_t>(t)] - kFirst;
        for (int64_t k = 0; k < 513; ++k) {
          const float expected = row < 0 || row >= 50
                                     ? 0.0f
                                     : 1.25f * table.values[static_cast<size_t>(row * 513 + k)];
          ASSERT_EQ(y[static_cast<size_t>(t * 513 + k)], expected)
              << weight_format_name(format) << " " << t;
        }
      }
    }
  }
}

}  // namespace
}  // namespace trireme
