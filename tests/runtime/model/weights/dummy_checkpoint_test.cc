// Dummy weights: the same for the same seed on every rank, sane in size, never repeating by rows.
#include "runtime/model/weights/dummy_checkpoint.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace trireme {
namespace {

std::string bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto bytes = *checkpoint.bytes(*checkpoint.find(name));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<TensorInfo> some_tensors() {
  return {make_tensor_info("model.norm.weight", DType::kF32, {64}),
          make_tensor_info("model.layers.0.up.weight", DType::kBF16, {96, 64}),
          make_tensor_info("model.layers.1.up.weight", DType::kBF16, {96, 64}),
          make_tensor_info("blocks.0.att.w0", DType::kF16, {1, 1, 64}),
          make_tensor_info("none", DType::kF32, {0, 4})};
}

TEST(DummyCheckpoint, IsAFunctionOfSeedAndName) {
  const auto a = make_dummy_checkpoint(some_tensors(), 1);
  auto reversed = some_tensors();
  std::reverse(reversed.begin(), reversed.end());
  const auto b = make_dummy_checkpoint(reversed, 1);
  const auto other_seed = make_dummy_checkpoint(some_tensors(), 2);
  bytes_of(*b, "blocks.0.att.w0");  // in another order
  for (const TensorInfo& info : a->tensors()) {
    EXPECT_EQ(bytes_of(*a, info.name), bytes_of(*b, info.name)) << info.name;
    if (info.bytes > 0) {
      EXPECT_NE(bytes_of(*a, info.name), bytes_of(*other_seed, info.name)) << info.name;
    }
  }
  EXPECT_NE(bytes_of(*a, "model.layers.0.up.weight"), bytes_of(*a, "model.layers.1.up.weight"));
}

TEST(DummyCheckpoint, AGivenBackTensorComesAgainTheSame) {
  const auto checkpoint = make_dummy_checkpoint(some_tensors(), 1);
  const std::string before = bytes_of(*checkpoint, "model.layers.0.up.weight");
  checkpoint->done_with(*checkpoint->find("model.layers.0.up.weight"));
  EXPECT_EQ(bytes_of(*checkpoint, "model.layers.0.up.weight"), before);
}

TEST(DummyCheckpoint, ValuesHaveTheSizeOfTrainedOnes) {
  const auto checkpoint = make_dummy_checkpoint(some_tensors(), 3);
  const auto moments = [&](const std::string& name, int64_t rows, int64_t cols) {
    const auto m = matrix(*checkpoint, name, rows, cols);
    EXPECT_TRUE(m.ok()) << m.status().message();
    double sum = 0, squares = 0;
    const auto count = static_cast<size_t>(rows * cols);
    for (size_t i = 0; i < count; ++i) {
      const double v = load_f32(m->data, m->dtype, i);
      sum += v;
      squares += v * v;
    }
    const double mean = sum / static_cast<double>(count);
    return std::pair(mean, std::sqrt(squares / static_cast<double>(count) - mean * mean));
  };
  const auto [up_mean, up_deviation] = moments("model.layers.0.up.weight", 96, 64);
  EXPECT_NEAR(up_mean, 0, 0.01);
  EXPECT_NEAR(up_deviation, 0.125, 0.005);  // 1 / sqrt(64)
  const auto [norm_mean, norm_deviation] = moments("model.norm.weight", 1, 64);
  EXPECT_NEAR(norm_mean, 1, 0.02);
  EXPECT_NEAR(norm_deviation, 0.02, 0.01);
  EXPECT_NEAR(moments("blocks.0.att.w0", 1, 64).first, 0, 0.02);
  EXPECT_TRUE(matrix(*checkpoint, "none", 0, 4).ok());
}

// Equal rows of an output matrix would be equal logits for every prompt. 16 MiB, rows of 4096: with
// a block of a power of two they would repeat after 256 rows.
TEST(DummyCheckpoint, RowsOfALargeTensorDiffer) {
  const auto checkpoint =
      make_dummy_checkpoint({make_tensor_info("lm_head.weight", DType::kBF16, {2048, 4096})}, 1);
  const std::string bytes = bytes_of(*checkpoint, "lm_head.weight");
  ASSERT_EQ(bytes.size(), 16u << 20);
  std::set<std::string> rows;
  for (size_t r = 0; r < 2048; ++r) rows.insert(bytes.substr(r * 8192, 64));
  EXPECT_EQ(rows.size(), 2048u);
}

}  // namespace
}  // namespace trireme
