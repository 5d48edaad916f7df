// Slices of weights as a shard asks for them: stacked, padded, transposed, converted; and the
// reader that only counts, which must count what the other loads.
#include "runtime/model/sublayers/weight_reader.h"

#include <gtest/gtest.h>

#include "runtime/model/sublayers/loading_reader.h"
#include "runtime/model/sublayers/measuring_reader.h"
#include "runtime/model/weights/safetensors_writer.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

class WeightReaderTest : public testing::Test {
 protected:
  WeightReaderTest() {
    EditedTensors tensors;
    const auto counting = [](std::vector<int64_t> shape, float from) {
      int64_t n = 1;
      for (const int64_t d : shape) n *= d;
      EditedTensor t{std::move(shape), {}};
      for (int64_t i = 0; i < n; ++i) t.values.push_back(from + static_cast<float>(i));
      return t;
    };
    tensors["a"] = counting({3, 4}, 0);
    tensors["b"] = counting({2, 4}, 100);
    tensors["t"] = counting({4, 2}, 200);  // the transpose of a [2, 4]
    tensors["v"] = counting({1, 1, 6}, 10);
    CHECK(write_model(folder_.path(), Json(), tensors).ok());
    checkpoint_ = std::move(*open_checkpoint(folder_.path()));
  }

  // A matrix's rows, read back through the embedding.
  std::vector<std::vector<float>> rows_of(const Matrix& m) {
    std::vector<std::vector<float>> rows;
    for (int32_t r = 0; r < m.rows; ++r) {
      std::vector<float> row(static_cast<size_t>(m.cols));
      device_->ops().embed(m.view(), &r, 1, 0, 1.0f, tensor(row.data(), 1, m.cols));
      rows.push_back(row);
    }
    return rows;
  }
  static std::vector<float> floats_of(const Buffer& b) {
    const auto* data = static_cast<const float*>(b.data());
    return {data, data + b.bytes() / sizeof(float)};
  }

  TempFolder folder_;
  std::unique_ptr<Device> device_ = make_checked_device(make_ref_device());
  std::unique_ptr<Checkpoint> checkpoint_;
};

using Rows = std::vector<std::vector<float>>;

TEST_F(WeightReaderTest, StacksSlices) {
  uint64_t bytes = 0;
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr},
                       {{}, 1, [&](uint64_t n) { bytes += n; }});
  const WeightSlice slices[] = {{"a", 3, 4, {1, 2}, {1, 3}}, {"b", 2, 4, {0, 1}, {1, 3}}};
  const auto m = reader.matrix(slices);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(rows_of(*m), (Rows{{5, 6, 7}, {9, 10, 11}, {101, 102, 103}}));
  EXPECT_EQ(bytes, 9u * 4) << "progress counts the slice";
}

TEST_F(WeightReaderTest, PadsRowsBeyondTheTensor) {
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr}, {});
  const auto part = reader.matrix(WeightSlice{"a", 3, 4, {2, 2}, {0, 2}});
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(rows_of(*part), (Rows{{8, 9}, {0, 0}}));
  const auto none = reader.matrix(WeightSlice{"a", 3, 4, {4, 2}, {0, 2}});
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(rows_of(*none), (Rows{{0, 0}, {0, 0}}));
}

TEST_F(WeightReaderTest, TurnsWhatLiesTheOtherWay) {
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr}, {});
  const auto m = reader.matrix(WeightSlice{"t", 2, 4, {0, 2}, {1, 2}, true});
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(rows_of(*m), (Rows{{202, 204}, {203, 205}}));
  const auto upright = reader.matrix(WeightSlice{"b", 2, 4, {0, 2}, {0, 4}, true});
  ASSERT_TRUE(upright.ok());
  EXPECT_EQ(rows_of(*upright)[1], (std::vector<float>{104, 105, 106, 107}));
  EXPECT_FALSE(reader.matrix(WeightSlice{"t", 2, 4, {0, 2}, {0, 4}}).ok()) << "only where asked";
}

TEST_F(WeightReaderTest, Vectors) {
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr}, {});
  const VectorSlice slices[] = {
      {"v", 1, 6, {2, 3}}, {"", 1, 2, {0, 2}}, {"t", 4, 2, {5, 1}, [](float x) { return -x; }}};
  const auto v = reader.vector(slices);
  ASSERT_TRUE(v.ok()) << v.status().message();
  EXPECT_EQ(floats_of(*v), (std::vector<float>{12, 13, 14, 0, 0, -205}));
}

TEST_F(WeightReaderTest, ConvertsToTheTypeAsked) {
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr}, {{DType::kBF16, {}}});
  const auto m = reader.matrix(WeightSlice{"b", 2, 4, {0, 2}, {0, 4}});
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(m->format, DType::kBF16);
  EXPECT_EQ(rows_of(*m)[0], (std::vector<float>{100, 101, 102, 103})) << "exact in bf16";
}

TEST_F(WeightReaderTest, ErrorsNameTheTensor) {
  LoadingReader reader(*device_, {checkpoint_.get(), nullptr}, {});
  const auto missing = reader.matrix(WeightSlice{"c", 2, 4, {0, 2}, {0, 4}});
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("'c'"), std::string::npos);
  const auto misshapen = reader.vector(VectorSlice{"v", 1, 7, {0, 7}});
  EXPECT_EQ(misshapen.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(misshapen.status().message().find("'v'"), std::string::npos);
}

TEST_F(WeightReaderTest, MeasuringCountsWhatLoadingLoads) {
  LoadingReader loading(*device_, {checkpoint_.get(), nullptr}, {});
  MeasuringReader measuring({checkpoint_.get(), nullptr}, {});
  const WeightSlice slices[] = {{"a", 3, 4, {2, 2}, {1, 3}}, {"b", 2, 4, {0, 1}, {1, 3}}};
  const VectorSlice vectors[] = {{"v", 1, 6, {2, 3}}, {"", 1, 2, {0, 2}}};
  const auto m = loading.matrix(slices);
  const auto counted = measuring.matrix(slices);
  ASSERT_TRUE(m.ok() && counted.ok());
  EXPECT_EQ(counted->rows, m->rows);
  EXPECT_EQ(counted->cols, m->cols);
  EXPECT_EQ(counted->format, m->format);
  const auto v = loading.vector(vectors);
  ASSERT_TRUE(v.ok() && measuring.vector(vectors).ok());
  EXPECT_EQ(measuring.bytes(), 3u * 3 * 4 + v->bytes());
  EXPECT_EQ(measuring.parameters(), 2u * 3 + 3) << "neither padding nor zeros";
  EXPECT_EQ(measuring.shapes().at("a"), (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(measuring.shapes().at("v"), std::vector<int64_t>{6});
}

}  // namespace
}  // namespace trireme::test
