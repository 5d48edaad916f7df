// Rows that an op leaves for the products after it: they are the rows that the products would have
// written down, and they are forgotten as soon as anything else has run.
#include "kernels/cuda/left_rows.h"

#include <cmath>

#include "kernels/cuda/cuda_device.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

constexpr int64_t kRows = 5, kCols = 1040, kOutputs = 24;

class LeftRows : public testing::Test {
 protected:
  LeftRows()
      : weight_(*device_, random_, kOutputs, kCols, DType::kBF16),
        x_(Mat::random(*device_, random_, kRows, kCols, 4)),
        y_(*device_, kRows, kCols, 4),
        product_(*device_, kRows, kOutputs) {
    product(x_.view());  // what products last asked for decides whether ops leave rows
  }

  // Without a copy before it, which would be forgotten for.
  std::vector<float> product(ConstTensorView x) {
    ops_.linear(x, weight_.matrix.view(), product_.view());
    product_.fetch();
    return product_.values();
  }
  // Copies a byte to where it is: nothing changes, but nothing is left either.
  void forget() { device_->copy(y_.view().data, y_.view().data, 1); }

  // No checked device: what it copies would be forgotten for.
  std::unique_ptr<Device> device_ = make_cuda_device({}).take();
  Ops& ops_ = device_->ops();
  Random random_{4100};
  Weight weight_;
  Mat x_, y_, product_;
};

TEST_F(LeftRows, ChangeNoBitOfAProduct) {
  NormArgs norm;
  ops_.norm(x_.view(), norm, y_.view());
  const std::vector<float> left = product(y_.view());
  ops_.norm(x_.view(), norm, y_.view());
  forget();
  EXPECT_EQ(left, product(y_.view()));
}

TEST_F(LeftRows, OfSomeColumnsToo) {
  Mat mix = Mat::parameter(*device_, random_, 2, kCols / 2, 0);
  Mat out(*device_, kRows, kCols, 0);
  const Batch batch(*device_, std::vector<RunSpec>{{0, kRows}});
  const States states(*device_, 1, kCols / 2);
  Weight narrow(*device_, random_, kOutputs, kCols / 2, DType::kBF16);
  const auto shift = [&] {
    ops_.shift_mix(x_.view().col_range(0, kCols / 2), batch.ragged(), states.rows(), mix.view(),
                   out.view());
  };
  const auto second = [&] {
    ops_.linear(out.view().col_range(kCols / 2, kCols / 2), narrow.matrix.view(), product_.view());
    product_.fetch();
    return product_.values();
  };
  shift();
  const std::vector<float> left = second();
  shift();
  forget();
  EXPECT_EQ(left, second());
}

// A kernel that leaves numbers one by one.
TEST_F(LeftRows, OfRwkvsTimeMixing) {
  constexpr int32_t kHeads = 2, kDim = 64;
  std::vector<Mat> in;  // w, a, b, k, v, r, g, out
  for (int i = 0; i < 8; ++i) in.push_back(Mat::random(*device_, random_, kRows, kHeads * kDim));
  const Mat parameters = Mat::parameter(*device_, random_, 1, kHeads * kDim);
  const Batch batch(*device_, std::vector<RunSpec>(kRows, RunSpec{0, 1}));
  const States states(*device_, kRows, kHeads * kDim * kDim);
  const Weight narrow(*device_, random_, kOutputs, kHeads * kDim, DType::kBF16);
  Wkv7MixArgs mix;
  mix.prepare.w = in[0].view(), mix.prepare.a = in[1].view(), mix.prepare.b = in[2].view();
  mix.prepare.k = in[3].view(), mix.prepare.v = in[4].view(), mix.prepare.head_dim = kDim;
  mix.prepare.k_k = mix.prepare.k_a = mix.r_k = parameters.view();
  mix.r = in[5].view(), mix.g = in[6].view(), mix.norm.groups = kHeads;
  const TensorView y = in[7].view();
  ops_.wkv7_mix(mix, batch.ragged(), states.rows(), y);
  ops_.linear(y, narrow.matrix.view(), product_.view());
  product_.fetch();
  const std::vector<float> left = product_.values();
  forget();
  ops_.linear(y, narrow.matrix.view(), product_.view());
  product_.fetch();
  EXPECT_EQ(left, product_.values());
}

// Two products in one launch, whose last step of inputs goes beyond their columns.
TEST_F(LeftRows, WhateverStandsBesideTheColumns) {
  const Batch batch(*device_, std::vector<RunSpec>{{0, kRows}});
  const States states(*device_, 1, kCols / 2);
  const Weight narrow(*device_, random_, kOutputs, kCols / 2, DType::kBF16);
  Mat mix = Mat::parameter(*device_, random_, 2, kCols / 2, 0);
  Mat out(*device_, kRows, kCols, 0), other(*device_, kRows, kOutputs);
  const TensorView of_other = other.view();  // an op, which would be forgotten for
  const auto both = [&] {
    ops_.shift_mix(x_.view().col_range(0, kCols / 2), batch.ragged(), states.rows(), mix.view(),
                   out.view());
    const ConstTensorView first = out.view().col_range(0, kCols / 2);
    const WeightView w = narrow.matrix.view();
    const LinearCall calls[] = {{first, w, product_.view(), std::nullopt},
                                {first, w, of_other, std::nullopt}};
    ops_.linears(calls);
    product_.fetch();
    return product_.values();
  };
  const std::vector<float> alone = both();
  for (int64_t col = 0; col < mix.cols(); ++col) mix.at(1, col) = NAN;
  mix.put();
  EXPECT_EQ(alone, both());
}

// Products of low rank, which leave rows for each other while they read what a norm has left; one
// beside them, which is large, leaves none.
TEST(LeftRowsOfProducts, ChangeNoBitOfTheNext) {
  constexpr int64_t kRanks[] = {16, 40, 8};
  for (const bool groups : {false, true}) {
    CudaOptions options;
    options.skinny_groups = groups;
    const std::unique_ptr<Device> device = make_cuda_device(options).take();
    Random random(4200);
    const Mat x = Mat::random(*device, random, kRows, kCols, 4);
    Mat normed(*device, kRows, kCols), low(*device, kRows, 64);
    Mat large(*device, kRows, 300);
    const Weight w(*device, random, 300, kCols, DType::kBF16);
    std::vector<Weight> downs, ups;
    std::vector<Mat> y;
    for (const int64_t rank : kRanks) {
      downs.emplace_back(*device, random, rank, kCols, DType::kBF16);
      ups.emplace_back(*device, random, kOutputs, rank, DType::kBF16);
      y.emplace_back(*device, kRows, kOutputs);
    }
    // What the ups make of them; `forgotten`: of what they have written down themselves.
    const auto run = [&](bool forgotten) {
      NormArgs norm;
      device->ops().norm(x.view(), norm, normed.view());
      std::vector<LinearCall> down_calls = {
          {normed.view(), w.matrix.view(), large.view(), std::nullopt}};
      std::vector<LinearCall> up_calls;
      int64_t first = 0;
      for (size_t i = 0; i < std::size(kRanks); first += kRanks[i++]) {
        const TensorView rows = low.view().col_range(first, kRanks[i]);
        down_calls.push_back({normed.view(), downs[i].matrix.view(), rows, Activation::kTanh});
        up_calls.push_back({rows, ups[i].matrix.view(), y[i].view(), std::nullopt});
      }
      device->ops().linears(down_calls);
      if (forgotten) device->copy(low.view().data, low.view().data, 1);
      device->ops().linears(up_calls);
      std::vector<std::vector<float>> all;
      for (Mat& each : y) {
        each.fetch();
        all.push_back(each.values());
      }
      return all;
    };
    run(false);  // what products last asked for decides whether rows are left
    EXPECT_EQ(run(false), run(true)) << (groups ? "by warp groups" : "");
  }
}

TEST_F(LeftRows, AreForgottenWhenAnOpChangesTheOutput) {
  NormArgs norm;
  ops_.norm(x_.view(), norm, y_.view());
  ops_.add(x_.view(), y_.view());
  const std::vector<float> changed = product(y_.view());
  ops_.norm(x_.view(), norm, y_.view());
  EXPECT_NE(changed, product(y_.view()));
  ops_.norm(x_.view(), norm, y_.view());
  ops_.add(x_.view(), y_.view());
  forget();
  EXPECT_EQ(changed, product(y_.view()));
}

TEST_F(LeftRows, FindsWholeWordsOfItsColumnsOnly) {
  float numbers[8] = {};
  cuda::Bf16 room[8] = {};
  const cuda::LeftRows left{numbers, 64, 4, 32, {room, 32}};
  EXPECT_EQ(left.find(numbers, 64, 4, 32).data, room);
  EXPECT_EQ(left.find(numbers + 8, 64, 3, 16).data, room + 8);
  EXPECT_EQ(left.find(numbers + 8, 64, 3, 16).stride, 32);
  EXPECT_EQ(left.find(numbers, 63, 4, 32).data, nullptr);      // other rows
  EXPECT_EQ(left.find(numbers, 64, 5, 32).data, nullptr);      // more of them
  EXPECT_EQ(left.find(numbers + 8, 64, 4, 32).data, nullptr);  // beyond the last column
  EXPECT_EQ(left.find(numbers + 4, 64, 4, 16).data, nullptr);  // within a word
  EXPECT_EQ(left.find(numbers, 64, 4, 12).data, nullptr);
  EXPECT_EQ(left.find(numbers - 8, 64, 4, 8).data, nullptr);
  EXPECT_EQ(cuda::LeftRows{}.find(numbers, 64, 4, 32).data, nullptr);
}

}  // namespace
}  // namespace trireme::contract
