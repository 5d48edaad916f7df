// Products of one row whose blocks take units as they go: which block computes a unit does not
// change a bit, and the tickets are left as they were found.
#include <cmath>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

// More units than two for each block, several calls in a launch, a gated one among the shapes.
TEST(CudaStream, BitsDoNotDependOnWhichBlockTakesAUnit) {
  const std::unique_ptr<Device> device = make_cuda_device({}).take();
  Ops& ops = device->ops();
  Random random(5100);
  struct Shape {
    int64_t inputs, outputs;
  };
  std::vector<Weight> weights;
  std::vector<Mat> x;
  for (const Shape& s : {Shape{2048, 900}, {1100, 31}, {20000, 50}, {96, 40}}) {
    weights.emplace_back(*device, random, s.outputs, s.inputs, DType::kBF16);
    x.push_back(Mat::random(*device, random, 1, s.inputs, 0, 0.1f));
  }
  const Weight down(*device, random, 24, 450, DType::kBF16);

  std::vector<std::vector<float>> first;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    // All outputs are new: what a block left out would be what was there before.
    std::vector<Mat> y;
    std::vector<LinearCall> calls;
    for (const Weight& w : weights) y.emplace_back(*device, 1, w.matrix.rows);
    for (size_t i = 0; i < weights.size(); ++i)
      calls.push_back({x[i].view(), weights[i].matrix.view(), y[i].view(), std::nullopt});
    Mat inner(*device, 1, 900), out(*device, 1, 24);
    emulator::set_schedule(seed);
    ops.linears(calls);
    ops.feed_forward(FeedForward::kSwiglu, x[0].view(), weights[0].matrix.view(),
                     down.matrix.view(), inner.view(), out.view());
    emulator::set_schedule(0);
    std::vector<std::vector<float>> all;
    for (Mat& each : y) {
      each.fetch();
      all.push_back(each.values());
    }
    out.fetch();
    all.push_back(out.values());
    if (seed == 0) first = all;
    EXPECT_EQ(all, first) << "seed " << seed;
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const Products want = products(x[i].values(), weights[i].rounded, weights[i].matrix.cols);
    expect_products(first[i], want, 2e-6);
  }
  std::vector<float> hidden;
  for (size_t i = 0; i < 450; ++i) {
    const double gate = first[0][i];
    hidden.push_back(static_cast<float>(gate / (1 + std::exp(-gate)) * first[0][450 + i]));
  }
  expect_products(first.back(), products(hidden, down.rounded, 450), 1e-5);
}

}  // namespace
}  // namespace trireme::contract
