// What products are told of the next one, and that it changes no bit.
#include "kernels/cuda/read_ahead.h"

#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/cuda_device.h"
#include "tests/contract/ops_support.h"

namespace trireme::cuda {
namespace {

Ahead rows_at(const void* from) {
  Ahead ahead;
  ahead.each[ahead.count++] = {from, 64, 32, 1, 2};
  return ahead;
}

class ReadAheadOrder : public testing::Test {
 protected:
  // What product `i` is told; null: nothing.
  const void* follow(ReadAhead& ahead, size_t i) {
    const Ahead told = ahead.follow(&weights_[i], rows_at(&weights_[i]));
    return told.count == 0 ? nullptr : told.each[0].from;
  }
  int weights_[4] = {};
};

TEST_F(ReadAheadOrder, IsLearnedFromTheStepBefore) {
  ReadAhead ahead(1 << 20);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(follow(ahead, i), nullptr) << "the first step";
  ahead.step_ends();
  EXPECT_EQ(follow(ahead, 0), &weights_[1]);
  EXPECT_EQ(follow(ahead, 1), &weights_[2]);
  EXPECT_EQ(follow(ahead, 2), nullptr) << "nothing follows the last one of a step";
  ahead.step_ends();
  // Another order: told late by one step, and never wrong for long.
  EXPECT_EQ(follow(ahead, 0), &weights_[1]);
  EXPECT_EQ(follow(ahead, 3), nullptr);
  ahead.step_ends();
  EXPECT_EQ(follow(ahead, 0), &weights_[3]);
}

TEST_F(ReadAheadOrder, FreedMemoryIsForgotten) {
  ReadAhead ahead(1 << 20);
  for (int step = 0; step < 2; ++step) {
    for (size_t i = 0; i < 2; ++i) follow(ahead, i);
    ahead.step_ends();
  }
  memory_was_freed();
  EXPECT_EQ(follow(ahead, 0), nullptr);
  EXPECT_EQ(follow(ahead, 1), nullptr);
  ahead.step_ends();
  EXPECT_EQ(follow(ahead, 0), &weights_[1]);
}

TEST_F(ReadAheadOrder, NothingIsSaidWhereNothingIsWanted) {
  ReadAhead ahead;
  for (int step = 0; step < 2; ++step) {
    for (size_t i = 0; i < 2; ++i) EXPECT_EQ(follow(ahead, i), nullptr);
  }
}

// Products of a step, groups, a gated one and one with few rows among them. The emulator touches
// what L2 is asked for, and ends the program where it is not the weights'.
TEST(ReadAheadOfProducts, ChangesNoBit) {
  std::vector<std::vector<float>> without;
  for (const int64_t bytes : {0, 1 << 14, 1 << 30}) {
    CudaOptions options;
    options.ahead_bytes = bytes;
    const std::unique_ptr<Device> device = make_cuda_device(options).take();
    Ops& ops = device->ops();
    contract::Random random(6100);
    const contract::Weight q(*device, random, 1100, 1024, DType::kBF16);
    const contract::Weight k(*device, random, 31, 1024, DType::kBF16);
    const contract::Weight up(*device, random, 2400, 1024, DType::kBF16);
    const contract::Weight down(*device, random, 24, 1200, DType::kBF16);
    const contract::Mat x = contract::Mat::random(*device, random, 1, 1024, 0, 0.1f);
    contract::Mat of_q(*device, 1, 1100), of_k(*device, 1, 31), inner(*device, 1, 2400),
        out(*device, 1, 24);
    for (int step = 0; step < 3; ++step) {
      const std::vector<LinearCall> calls = {
          {x.view(), q.matrix.view(), of_q.view(), std::nullopt},
          {x.view(), k.matrix.view(), of_k.view(), std::nullopt}};
      ops.linears(calls);
      ops.feed_forward(FeedForward::kSwiglu, x.view(), up.matrix.view(), down.matrix.view(),
                       inner.view(), out.view());
      std::vector<std::vector<float>> all;
      for (contract::Mat* each : {&of_q, &of_k, &out}) {
        each->fetch();
        all.push_back(each->values());
      }
      if (without.empty()) without = all;
      EXPECT_EQ(all, without) << bytes << " bytes ahead, step " << step;
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
