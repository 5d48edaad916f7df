// Matrices that are quantized as they are loaded, and matrices that a checkpoint holds quantized:
// whatever a shard takes of one, its numbers are those of the whole.
#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "runtime/model/sublayers/loading_reader.h"
#include "runtime/model/sublayers/measuring_reader.h"
#include "runtime/model/weights/safetensors_writer.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

using Rows = std::vector<std::vector<float>>;

constexpr int64_t kRows = 6, kCols = 320;

// A checkpoint that holds "q" and "r" quantized: int8 in groups of 64, and int4 by rows.
class HeldTensors final : public QuantizedTensors {
 public:
  explicit HeldTensors(ConstTensorView numbers) {
    held_["q"] = quantize(numbers, {WeightType::kInt8, 64}).take();
    held_["p"] = quantize(numbers, {WeightType::kInt8, 0}).take();
    held_["r"] = quantize(numbers, {WeightType::kInt4, 128}).take();
  }
  std::string_view name() const override { return "made up"; }
  bool holds(const Checkpoint&, std::string_view weight) const override {
    return held_.count(std::string(weight)) != 0;
  }
  std::vector<std::string> parts(const Checkpoint&, std::string_view) const override { return {}; }
  Result<WeightFormat> format(const Checkpoint&, std::string_view weight, int64_t,
                              int64_t) const override {
    return held_.at(std::string(weight)).format;
  }
  Result<QuantizedRows> rows(const Checkpoint&, std::string_view weight, int64_t, int64_t,
                             int64_t first, int64_t count) const override {
    const QuantizedRows& all = held_.at(std::string(weight));
    QuantizedRows some = QuantizedRows::make(count, all.cols, all.format);
    const int64_t groups = all.format.groups(all.cols);
    std::copy_n(all.codes.begin() + first * all.cols, count * all.cols, some.codes.begin());
    std::copy_n(all.scales.begin() + first * groups, count * groups, some.scales.begin());
    return some;
  }
  Result<std::vector<float>> floats(const Checkpoint&, std::string_view weight, int64_t, int64_t,
                                    int64_t first, int64_t count) const override {
    std::vector<float> numbers(static_cast<size_t>(count * kCols));
    for (int64_t r = 0; r < count; ++r)
      dequantize_row(held_.at(std::string(weight)).view(), first + r, numbers.data() + r * kCols);
    return numbers;
  }
  Rows numbers(const std::string& weight) const {
    Rows rows(kRows, std::vector<float>(kCols));
    for (int64_t r = 0; r < kRows; ++r)
      dequantize_row(held_.at(weight).view(), r, rows[static_cast<size_t>(r)].data());
    return rows;
  }

 private:
  std::map<std::string, QuantizedRows> held_;
};

class QuantizedWeights : public testing::Test {
 protected:
  QuantizedWeights() {
    EditedTensor plain{{kRows, kCols}, {}};
    for (uint64_t i = 0; i < kRows * kCols; ++i) plain.values.push_back(normal(7, i));
    numbers_ = plain.values;
    EditedTensor bad = plain;
    bad.values[kCols + 3] = INFINITY;
    EditedTensors tensors;
    tensors["a"] = plain;
    tensors["bad"] = bad;
    CHECK(write_model(folder_.path(), Json(), tensors).ok());
    checkpoint_ = std::move(*open_checkpoint(folder_.path()));
    held_ = std::make_unique<HeldTensors>(view());
  }

  ConstTensorView view() const { return {numbers_.data(), kRows, kCols, DType::kF32}; }

  Rows rows_of(const Matrix& m) {
    Rows rows;
    for (int32_t r = 0; r < m.rows; ++r) {
      std::vector<float> row(static_cast<size_t>(m.cols));
      device_->ops().embed(m.view(), &r, 1, 0, 1.0f, tensor(row.data(), 1, m.cols));
      rows.push_back(row);
    }
    return rows;
  }

  // Of a part, loaded with this choice, and of the same part of `whole`.
  void expect_part_of(const Rows& whole, const std::string& name, const WeightChoice& choice,
                      Range rows, Range cols, WeightFormat format) {
    SCOPED_TRACE(testing::Message() << name << ", columns from " << cols.first);
    LoadingReader reader(*device_, source(), {choice, 2});
    const auto part = reader.matrix(WeightSlice{name, kRows, kCols, rows, cols});
    ASSERT_TRUE(part.ok()) << part.status().message();
    EXPECT_EQ(weight_format_name(part->format), weight_format_name(format));
    const Rows got = rows_of(*part);
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t c = 0; c < cols.count; ++c) {
        const bool real = rows.first + r < kRows;
        const float want =
            real ? whole[static_cast<size_t>(rows.first + r)][static_cast<size_t>(cols.first + c)]
                 : 0.0f;
        ASSERT_EQ(got[static_cast<size_t>(r)][static_cast<size_t>(c)], want) << r << ", " << c;
      }
    }
  }

  WeightSource source() const { return {checkpoint_.get(), held_.get()}; }

  TempFolder folder_;
  std::unique_ptr<Device> device_ = make_checked_device(make_ref_device());
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<HeldTensors> held_;
  std::vector<float> numbers_;
};

TEST_F(QuantizedWeights, ArePartsOfTheWholeHoweverTheyAreCut) {
  for (const WeightType type : {WeightType::kInt4, WeightType::kInt8, WeightType::kFp8}) {
    const WeightFormat format = quantizing_format(type);
    const QuantizedRows q = quantize(view(), format).take();
    Rows whole(kRows, std::vector<float>(kCols));
    for (int64_t r = 0; r < kRows; ++r)
      dequantize_row(q.view(), r, whole[static_cast<size_t>(r)].data());
    const WeightChoice choice{std::nullopt, type};
    expect_part_of(whole, "a", choice, {0, kRows}, {0, kCols}, format);
    expect_part_of(whole, "a", choice, {4, 4}, {0, kCols}, format);
    expect_part_of(whole, "a", choice, {1, 2}, {128, 192}, format);
    const WeightFormat smaller{type, format.group == 0 ? 0 : 32};
    expect_part_of(whole, "a", choice, {1, 2}, {160, 160}, smaller);
  }
}

TEST_F(QuantizedWeights, AreTakenFromTheCheckpointThatHoldsThem) {
  expect_part_of(held_->numbers("q"), "q", {}, {0, kRows}, {0, kCols}, {WeightType::kInt8, 64});
  expect_part_of(held_->numbers("q"), "q", {}, {2, 6}, {64, 200}, {WeightType::kInt8, 64});
  expect_part_of(held_->numbers("q"), "q", {}, {2, 3}, {32, 288}, {WeightType::kInt8, 32});
  expect_part_of(held_->numbers("p"), "p", {}, {2, 3}, {7, 100}, {WeightType::kInt8, 0});
}

TEST_F(QuantizedWeights, StackWhereTheirTypesAreAlike) {
  LoadingReader reader(*device_, source(), {});
  const auto slice = [](const char* name) {
    return WeightSlice{name, kRows, kCols, {0, kRows}, {0, kCols}};
  };
  const WeightSlice alike[] = {slice("q"), slice("p")};
  const auto stacked = reader.matrix(alike);
  ASSERT_TRUE(stacked.ok()) << stacked.status().message();
  EXPECT_EQ(stacked->format, (WeightFormat{WeightType::kInt8, 64}));
  EXPECT_EQ(rows_of(*stacked)[kRows + 1], held_->numbers("p")[1]);
  for (const char* other : {"r", "a"}) {  // another type, and none
    const WeightSlice unlike[] = {slice("q"), slice(other)};
    LoadingReader in_f32(*device_, source(), {{DType::kF32, std::nullopt}});
    const auto mixed = in_f32.matrix(unlike);
    ASSERT_TRUE(mixed.ok()) << mixed.status().message();
    EXPECT_EQ(mixed->format, WeightFormat(DType::kF32));
    EXPECT_EQ(rows_of(*mixed)[2], held_->numbers("q")[2]);
  }
}

TEST_F(QuantizedWeights, WhatIsSmallOrSeenByEveryTokenKeepsMore) {
  LoadingReader reader(*device_, source(), {{std::nullopt, WeightType::kInt4}});
  const WeightSlice slice{"a", kRows, kCols, {0, kRows}, {0, kCols}};
  EXPECT_EQ(reader.matrix(slice, MatrixRole::kLowRank)->format, WeightFormat(DType::kF32));
  EXPECT_EQ(reader.matrix(slice, MatrixRole::kVocabulary)->format,
            (WeightFormat{WeightType::kInt8, 128}));
}

TEST_F(QuantizedWeights, ErrorsSayWhatToDo) {
  const auto refused = [&](const WeightChoice& choice, const char* name, Range cols) {
    LoadingReader reader(*device_, source(), {choice, 2});
    const auto matrix = reader.matrix(WeightSlice{name, kRows, kCols, {0, kRows}, cols});
    EXPECT_EQ(matrix.status().code(), StatusCode::kInvalidArgument);
    return std::string(matrix.status().message());
  };
  EXPECT_NE(refused({std::nullopt, WeightType::kInt4}, "a", {16, 64}).find("multiple of 32"),
            std::string::npos);
  EXPECT_NE(refused({std::nullopt, WeightType::kInt4}, "q", {0, 64}).find("quantized already"),
            std::string::npos);
  const std::string bad = refused({std::nullopt, WeightType::kInt8}, "bad", {0, 64});
  EXPECT_NE(bad.find("'bad'"), std::string::npos) << bad;
  EXPECT_NE(bad.find("row 1, column 3 is inf"), std::string::npos) << bad;
}

TEST_F(QuantizedWeights, MeasuringCountsTheirBytes) {
  MeasuringReader measuring(source(), {std::nullopt, WeightType::kInt4});
  ASSERT_TRUE(measuring.matrix(WeightSlice{"a", kRows, kCols, {0, kRows}, {0, kCols}}).ok());
  EXPECT_EQ(measuring.bytes(), weight_bytes(kRows, kCols, {WeightType::kInt4, 64}));
}

}  // namespace
}  // namespace trireme::test
