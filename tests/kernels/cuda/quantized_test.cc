// Quantized weights on the emulated device: how they lie and what becomes of them in registers, and
// the ways of their products that the contract suite's tolerances cannot tell apart.
#include "kernels/cuda/device/quantized.cuh"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/context.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/ops/product.h"
#include "tests/contract/ops_support.h"

namespace trireme::cuda {
namespace {

using contract::expect_products;
using contract::Mat;
using contract::Products;
using contract::Random;

bool is_number(WeightType type, int code) {
  return type != WeightType::kFp8 || (code & 0x7f) != 0x7f;
}

template <class Q>
void expect_every_element(WeightFormat format, int64_t cols, const std::vector<int>& zeros) {
  const QuantizedLayout layout{format, 1, cols};
  std::vector<uint8_t> codes(static_cast<size_t>(cols)),
      packed(static_cast<size_t>(layout.stride()));
  const int count = format.type == WeightType::kInt4 ? 16 : 256;
  for (int64_t i = 0; i < cols; ++i) {
    const auto code = static_cast<int>(i * 7 % count);
    codes[static_cast<size_t>(i)] = static_cast<uint8_t>(is_number(format.type, code) ? code : 0);
  }
  pack_codes(layout, codes.data(), packed.data());
  for (const int zero : zeros) {
    const GroupScale word = make_group_scale(0.37f, zero);
    for (int64_t i = 0; i < cols; ++i) {
      ASSERT_EQ(element_of<Q>(packed.data(), i, word),
                decode_weight(format.type, codes[static_cast<size_t>(i)], word))
          << weight_format_name(format) << ", zero " << zero << ", input " << i << " of " << cols;
    }
  }
}

// Exactly, whatever the code, its zero and its place.
TEST(CudaQuantized, EveryCodeBecomesItsNumber) {
  for (const int64_t cols : {1, 63, 64, 200, 300, 512}) {
    expect_every_element<Int8>({WeightType::kInt8, 0}, cols, {-128, -1, 0, 5, 127});
    expect_every_element<Int4>({WeightType::kInt4, 0}, cols, {0, 1, 8, 15, 16});
    expect_every_element<Fp8>({WeightType::kFp8, 0}, cols, {0});
  }
}

QuantizedRows random_rows(Random& random, int64_t rows, int64_t cols, WeightFormat format) {
  const std::vector<float> values = random.normals(rows * cols);
  return quantize(ConstTensorView(values.data(), rows, cols, DType::kF32), format).take();
}

Products products_of(const std::vector<float>& x, const QuantizedRows& w) {
  return contract::products(x, contract::dequantized(w), w.cols);
}

// A row as fp8 holds it where its largest number is 448.
std::vector<float> fp8_rounded(std::vector<float> x, int64_t cols) {
  for (auto row = x.begin(); row != x.end(); row += cols) {
    float largest = 0;
    for (int64_t i = 0; i < cols; ++i) largest = std::max(largest, std::abs(row[i]));
    for (int64_t i = 0; i < cols; ++i)
      row[i] = f8_to_f32(f32_to_f8(row[i] * (448.0f / largest))) * (largest / 448.0f);
  }
  return x;
}

Call call_of(const Matrix& w, const Mat& x, const Mat& y) {
  Call call{};
  call.w = w.buffer.data();
  call.x = static_cast<const float*>(x.view().data);
  call.x_stride = x.view().row_stride;
  call.y = static_cast<float*>(y.view().data);
  call.y_stride = y.view().row_stride;
  call.rows = x.rows();
  call.inputs = w.cols;
  call.outputs = w.rows;
  return call;
}

class CudaQuantizedProducts : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = contract::make_device({"emulated", 1});

  Matrix matrix_of(const QuantizedRows& q) {
    Matrix matrix = device_->make_matrix(q.rows, q.cols, q.format).take();
    device_->write_quantized_rows(matrix, 0, q.view());
    return matrix;
  }
};

constexpr double kOfF32 = 1e-5, kOfF16 = 0x1p-11 + 2e-5;  // as the contract suite has them

// With more than 64 rows, products with fp8 by rows are those of rows in fp8; where the library
// does not take them, for their number of outputs or where y lies, those of rows in f16.
TEST_F(CudaQuantizedProducts, Fp8ByRowsMultipliesRowsInFp8) {
  Random random(41);
  const WeightFormat format{WeightType::kFp8, 0};
  for (const int64_t outputs : {48, 44}) {
    for (const int64_t pad : {4, 1}) {
      const QuantizedRows q = random_rows(random, outputs, 100, format);
      const Matrix w = matrix_of(q);
      const Mat x = Mat::random(*device_, random, 70, 100, 3);
      Mat y(*device_, 70, outputs, pad);
      device_->ops().linear(x.view(), w.view(), y.view());
      y.fetch();
      if (outputs == 48 && pad == 4) {
        expect_products(y.values(), products_of(fp8_rounded(x.values(), 100), q), kOfF32);
      } else {
        expect_products(y.values(), products_of(x.values(), q), kOfF16);
      }
    }
  }
}

// Rows that f16 cannot hold, in each kernel that writes rows down as f16; of whole tiles and of
// tiles in parts.
TEST_F(CudaQuantizedProducts, RowsBeyondF16) {
  Random random(42);
  for (const int64_t inputs : {200, 8000}) {
    const QuantizedRows q = random_rows(random, 40, inputs, {WeightType::kInt4, 64});
    const Matrix w = matrix_of(q);
    for (const int64_t rows : {1, 2, 5, 20}) {
      const Mat x = Mat::random(*device_, random, rows, inputs, 0, 3e7f);
      Mat y(*device_, rows, 40);
      device_->ops().linear(x.view(), w.view(), y.view());
      y.fetch();
      expect_products(y.values(), products_of(x.values(), q), kOfF16);
    }
  }
}

// Gate and value of an output meet in the block that adds the parts of a tile: four of them, or
// eight.
TEST_F(CudaQuantizedProducts, GatedTilesInParts) {
  Random random(45);
  constexpr int64_t kInputs = 8000, kOutputs = 20;
  for (const WeightFormat format : {WeightFormat{WeightType::kInt4, 64}, {WeightType::kFp8, 0}}) {
    const QuantizedRows q = random_rows(random, 2 * kOutputs, kInputs, format);
    const Matrix w = matrix_of(q);
    for (const int64_t rows : {1, 2, 8}) {
      const Mat x = Mat::random(*device_, random, rows, kInputs, 0, 0.02f);
      const Products want = products_of(contract::rounded_to(DType::kF16, x.values()), q);
      for (const uint64_t seed : {1, 0}) {
        Result<Context> context = Context::make({});
        ASSERT_TRUE(context.ok());
        Mat y(*device_, rows, kOutputs);
        Call call = call_of(w, x, y);
        call.outputs = kOutputs;
        call.epilogue = Epilogue::kSwiglu;
        ASSERT_TRUE(device_->synchronize().ok());
        emulator::set_schedule(seed);
        quantized_products(*context, format, {&call, 1});
        emulator::set_schedule(0);
        ASSERT_EQ(cudaStreamSynchronize(context->stream()), cudaSuccess);
        y.fetch();
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t o = 0; o < kOutputs; ++o) {
            const auto at = static_cast<size_t>(row * 2 * kOutputs + o);
            const double gate = want.sums[at], value = want.sums[at + kOutputs];
            ASSERT_NEAR(y.at(row, o), gate / (1 + std::exp(-gate)) * value, 1e-4)
                << weight_format_name(format) << ", " << rows << " rows, seed " << seed;
          }
        }
      }
    }
  }
}

// A library that has no algorithm for products with scales.
class GemmWithoutScales final : public Gemm {
 public:
  bool multiply(Context& context, const Product& product) override {
    return product.x_scales == nullptr && gemm_->multiply(context, product);
  }

 private:
  std::unique_ptr<Gemm> gemm_ = make_gemm().take();
};

TEST_F(CudaQuantizedProducts, Fp8WithScalesAfterwards) {
  Random random(44);
  Result<Context> context = Context::make({});
  ASSERT_TRUE(context.ok());
  GemmWithoutScales gemm;
  const WeightFormat format{WeightType::kFp8, 0};
  const QuantizedRows q = random_rows(random, 48, 72, format);
  const Matrix w = matrix_of(q);
  const Mat x = Mat::random(*device_, random, 5, 72);
  Mat y(*device_, 5, 48);
  const Call call = call_of(w, x, y);
  ASSERT_TRUE(device_->synchronize().ok());
  written_out_products(*context, gemm, format, {&call, 1});
  ASSERT_EQ(cudaStreamSynchronize(context->stream()), cudaSuccess);
  y.fetch();
  expect_products(y.values(), products_of(fp8_rounded(x.values(), 72), q), kOfF32);
}

// Matrices that are written out in several slices, of groups and of whole rows.
TEST_F(CudaQuantizedProducts, SlicesOfOutputs) {
  Random random(43);
  Result<Context> context = Context::make({});
  ASSERT_TRUE(context.ok());
  const std::unique_ptr<Gemm> gemm = make_gemm().take();
  for (const WeightFormat format :
       {WeightFormat{WeightType::kInt4, 32}, {WeightType::kInt8, 0}, {WeightType::kFp8, 128}}) {
    const QuantizedRows q = random_rows(random, 300, 72, format);
    const Matrix w = matrix_of(q);
    const Mat x = Mat::random(*device_, random, 3, 72);
    Mat y(*device_, 3, 300);
    const Call call = call_of(w, x, y);
    ASSERT_TRUE(device_->synchronize().ok());
    written_out_products(*context, *gemm, format, {&call, 1}, 128 * 72 * 2);
    ASSERT_EQ(cudaStreamSynchronize(context->stream()), cudaSuccess);
    ASSERT_TRUE(context->status().ok()) << context->status().message();
    y.fetch();
    expect_products(y.values(), products_of(x.values(), q), 2 * kOfF16);
  }
}

}  // namespace
}  // namespace trireme::cuda
