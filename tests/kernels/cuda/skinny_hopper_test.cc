// Feed-forward nets of 2 to 64 rows by products of warp groups: gates and values meet within a
// tile, whole or cut, and what is between the two products is bf16.
#include <cmath>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

struct Net {
  FeedForward kind;
  int64_t rows, inputs, inner, outputs;
  DType dtype = DType::kBF16;
  bool bias = false;
};

float between(FeedForward kind, double gate, double up) {
  if (kind == FeedForward::kSwiglu) return static_cast<float>(gate / (1 + std::exp(-gate)) * up);
  return static_cast<float>(gate < 0 ? 0 : gate * gate);
}

void expect_net(int multiprocessors, const Net& net) {
  SCOPED_TRACE(testing::Message() << multiprocessors << " multiprocessors, " << net.rows << " x "
                                  << net.inputs << " x " << net.inner << " x " << net.outputs);
  CudaOptions options;
  options.skinny_groups = true;
  emulator::set_multiprocessors(multiprocessors);
  const std::unique_ptr<Device> device = make_cuda_device(options).take();
  emulator::set_multiprocessors(4);
  Random random(6200);
  const int64_t made = net.inner * (net.kind == FeedForward::kSwiglu ? 2 : 1);
  const Weight up(*device, random, made, net.inputs, net.dtype);
  const Weight down(*device, random, net.outputs, net.inner, net.dtype);
  const Mat bias = Mat::parameter(*device, random, 1, made);
  Mat x(*device, net.rows, net.inputs, 4);
  x.set(rounded_to(net.dtype, random.normals(net.rows * net.inputs, 0.1f)).data());
  std::vector<float> hidden;
  const std::vector<double> made_rows =
      products(x.values(), up.rounded, net.inputs, net.bias ? bias.values() : std::vector<float>{})
          .sums;
  for (int64_t row = 0; row < net.rows; ++row) {
    for (int64_t i = 0; i < net.inner; ++i) {
      const double* at = &made_rows[static_cast<size_t>(row * made + i)];
      hidden.push_back(between(net.kind, at[0], made > net.inner ? at[net.inner] : 0));
    }
  }
  std::vector<float> first;
  for (const uint64_t seed : {1, 2, 0}) {
    Mat inner(*device, net.rows, made, 4), y(*device, net.rows, net.outputs, 3);
    WeightView view = up.matrix.view();
    if (net.bias) view.bias = bias.view();
    emulator::set_schedule(seed);
    device->ops().feed_forward(net.kind, x.view(), view, down.matrix.view(), inner.view(),
                               y.view());
    emulator::set_schedule(0);
    y.fetch();
    if (first.empty()) first = y.values();
    EXPECT_EQ(y.values(), first) << "seed " << seed;
  }
  // An inner number may be rounded to either side: 2^-8 of some.
  expect_products(first, products(rounded_to(net.dtype, hidden), down.rounded, net.inner), 4e-4);
}

TEST(CudaSkinnyHopper, FeedForward) {
  for (const int multiprocessors : {1, 3, 40}) {
    expect_net(multiprocessors, {FeedForward::kSwiglu, 2, 200, 72, 40});
    expect_net(multiprocessors, {FeedForward::kSwiglu, 64, 1100, 136, 130});
    expect_net(multiprocessors, {FeedForward::kSwiglu, 33, 640, 560, 20, DType::kBF16, true});
    expect_net(multiprocessors, {FeedForward::kSwiglu, 17, 328, 264, 9, DType::kF16});
    expect_net(multiprocessors, {FeedForward::kReluSquared, 48, 72, 1200, 260});
    expect_net(multiprocessors, {FeedForward::kReluSquared, 9, 328, 264, 9, DType::kF16, true});
    // Rows between the two that are not whole words of bf16.
    expect_net(multiprocessors, {FeedForward::kSwiglu, 5, 64, 77, 30});
  }
}

}  // namespace
}  // namespace trireme::contract
