// Products of one row: which block computes an output does not change a bit of it, nor in which
// order blocks and threads run.
#include <cmath>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

constexpr int64_t kInner = 450;

// Several calls in a launch, gated and plain ones, rows of 2 KB to 64 KB, and shorter and longer
// ones, which go another way.
class CudaStream : public testing::Test {
 protected:
  // The outputs of all calls, then those of a feed-forward net, on a GPU of so many
  // multiprocessors.
  std::vector<std::vector<float>> outputs(int multiprocessors, uint64_t seed) {
    emulator::set_multiprocessors(multiprocessors);
    const std::unique_ptr<Device> device = make_cuda_device({}).take();
    emulator::set_multiprocessors(4);
    Ops& ops = device->ops();
    Random random(5100);
    struct Shape {
      int64_t inputs, outputs;
    };
    std::vector<Weight> weights;
    std::vector<Mat> x, y;
    for (const Shape& s :
         {Shape{2048, 2 * kInner}, {1100, 31}, {20000, 50}, {96, 40}, {40000, 9}}) {
      weights.emplace_back(*device, random, s.outputs, s.inputs, DType::kBF16);
      x.push_back(Mat::random(*device, random, 1, s.inputs, 0, 0.1f));
      y.emplace_back(*device, 1, s.outputs);  // what a block left out would be NaN
    }
    const Weight down(*device, random, 24, kInner, DType::kBF16);
    Mat inner(*device, 1, 2 * kInner), out(*device, 1, 24);
    std::vector<LinearCall> calls;
    for (size_t i = 0; i < weights.size(); ++i)
      calls.push_back({x[i].view(), weights[i].matrix.view(), y[i].view(), std::nullopt});
    emulator::set_schedule(seed);
    ops.linears(calls);
    ops.feed_forward(FeedForward::kSwiglu, x[0].view(), weights[0].matrix.view(),
                     down.matrix.view(), inner.view(), out.view());
    emulator::set_schedule(0);
    std::vector<std::vector<float>> all;
    y.push_back(std::move(out));
    for (Mat& each : y) {
      each.fetch();
      all.push_back(each.values());
    }
    if (wanted_.empty()) {
      for (size_t i = 0; i < weights.size(); ++i)
        wanted_.push_back(products(x[i].values(), weights[i].rounded, weights[i].matrix.cols));
      std::vector<float> hidden;
      for (size_t i = 0; i < static_cast<size_t>(kInner); ++i) {
        const double gate = all[0][i];
        hidden.push_back(static_cast<float>(gate / (1 + std::exp(-gate)) *
                                            all[0][static_cast<size_t>(kInner) + i]));
      }
      wanted_.push_back(products(hidden, down.rounded, kInner));
    }
    return all;
  }

  std::vector<Products> wanted_;  // of the first outputs
};

TEST_F(CudaStream, BitsDoNotDependOnWhichBlockComputesThem) {
  const auto first = outputs(4, 0);
  for (size_t i = 0; i < wanted_.size(); ++i)
    expect_products(first[i], wanted_[i], i + 1 < wanted_.size() ? 2e-6 : 1e-5);
  for (uint64_t seed = 1; seed < 4; ++seed) EXPECT_EQ(outputs(4, seed), first) << "seed " << seed;
  // As many blocks as some call has groups of rows, more, and one.
  for (const int multiprocessors : {1, 3, 8, 132})
    EXPECT_EQ(outputs(multiprocessors, 0), first) << multiprocessors << " multiprocessors";
}

}  // namespace
}  // namespace trireme::contract
