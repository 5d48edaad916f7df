// Products of one row and what stands between them in one launch: the same numbers as op by op,
// whatever runs first, and nothing is kept back from whoever looks.
#include "kernels/cuda/row_chain.h"

#include <functional>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_support.h"

namespace trireme::contract {
namespace {

constexpr int64_t kDim = 1040, kInner = 1200;

// Rows and weights of a layer on one device, the same for the same seed.
struct Layer {
  explicit Layer(bool chains, DType dtype = DType::kBF16)
      : device(make_cuda_device({.chains = chains}).take()),
        ops(device->ops()),
        first(*device, random, kDim, kDim, dtype),
        up(*device, random, 2 * kInner, kDim, dtype),
        down(*device, random, kDim, kInner, dtype),
        next(*device, random, 77, kDim, dtype),
        start(Mat::random(*device, random, 1, kDim)),
        gain(Mat::random(*device, random, 1, kDim, 0, 0.1f, 1)),
        bias(Mat::random(*device, random, 1, kDim, 0, 0.1f)),
        mix(Mat::random(*device, random, 3, kDim, 0, 0.5f)),
        x(Mat::random(*device, random, 1, kDim)),
        delta(*device, 1, kDim),
        input(*device, 1, kDim),
        inner(*device, 1, 2 * kInner),
        mixed(*device, 1, 3 * kDim),
        out(*device, 1, 77),
        more(*device, 1, kDim) {
    EXPECT_TRUE(device->synchronize().ok());
  }

  NormArgs norm(NormKind kind = NormKind::kRms) {
    NormArgs args;
    args.kind = kind;
    args.gain = gain.view();
    if (kind == NormKind::kLayer) args.bias = bias.view();
    return args;
  }
  void feed_forward() {
    ops.feed_forward(FeedForward::kSwiglu, input.view(), up.matrix.view(), down.matrix.view(),
                     inner.view(), delta.view());
  }
  // What is left everywhere but in inner, where half of it is nobody's concern.
  std::vector<std::vector<float>> rows() {
    std::vector<std::vector<float>> all;
    for (Mat* each : {&x, &delta, &input, &mixed, &out, &more}) {
      each->fetch();
      all.push_back(each->values());
    }
    return all;
  }

  std::unique_ptr<Device> device;
  Ops& ops;
  Random random{7100};
  Weight first, up, down, next;
  Mat start, gain, bias, mix, x, delta, input, inner, mixed, out, more;
};

using Rows = std::vector<std::vector<float>>;
void expect_near(const Rows& got, const Rows& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t m = 0; m < got.size(); ++m) {
    ASSERT_EQ(got[m].size(), want[m].size());
    for (size_t i = 0; i < got[m].size(); ++i) {
      const float a = got[m][i], b = want[m][i];
      if (std::isnan(a) && std::isnan(b)) continue;
      ASSERT_NEAR(a, b, 3e-5 * std::max(1.0f, std::fabs(b)))
          << what << ": row " << m << " at " << i;
    }
  }
}

// Runs `work` with chains, in several orders of blocks and threads, and op by op; both leave the
// same. Returns how many kernels the chains took, the last time.
uint64_t expect_same(const std::function<void(Layer&)>& work, const std::string& what,
                     DType dtype = DType::kBF16) {
  Layer alone(false, dtype);
  work(alone);
  const Rows want = alone.rows();
  Rows first;
  uint64_t launches = 0;
  for (uint64_t seed = 0; seed < 2; ++seed) {
    Layer chained(true, dtype);
    emulator::set_schedule(seed);
    const uint64_t before = emulator::launches();
    work(chained);
    EXPECT_TRUE(chained.device->synchronize().ok());
    launches = emulator::launches() - before;
    emulator::set_schedule(0);
    const Rows got = chained.rows();
    expect_near(got, want, what);
    if (seed == 0) first = got;
    for (size_t m = 0; m < got.size(); ++m) {
      for (size_t i = 0; i < got[m].size(); ++i) {
        EXPECT_TRUE(got[m][i] == first[m][i] || std::isnan(first[m][i]))
            << what << ": other bits in another order, row " << m << " at " << i;
      }
    }
  }
  return launches;
}

void transformer(Layer& l) {
  l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
  l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
  l.feed_forward();
  l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
  l.ops.linear(l.input.view(), l.next.matrix.view(), l.out.view());
}

TEST(RowChain, ALayerIsOneLaunch) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32})
    EXPECT_EQ(expect_same(transformer, std::string(dtype_name(dtype)), dtype), 1u);
}

TEST(RowChain, BlocksMayBeMoreThanRows) {
  emulator::set_multiprocessors(23);
  EXPECT_EQ(expect_same(transformer, "23 multiprocessors"), 1u);
  emulator::set_multiprocessors(1);
  EXPECT_EQ(expect_same(transformer, "one multiprocessor"), 1u);
  emulator::set_multiprocessors(4);
}

// RWKV's: layer norms, token shift and groups of products of different mixes, with a state that was
// there before, and one that begins.
TEST(RowChain, TokenShiftGoesWithTheNorm) {
  for (const int32_t position : {0, 5}) {
    const auto work = [position](Layer& l) {
      const Batch batch(*l.device, std::vector<RunSpec>{{position, 1}});
      States states(*l.device, 1, kDim);
      if (position > 0) states.set(0, l.random.normals(kDim));
      Mat a(*l.device, 1, kDim), b(*l.device, 1, 77), c(*l.device, 1, kDim);
      l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
      l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(NormKind::kLayer), l.input.view());
      l.ops.shift_mix(l.input.view(), batch.ragged(), states.rows(), l.mix.view(), l.mixed.view());
      const auto row = [&](int i) { return l.mixed.view().col_range(i * kDim, kDim); };
      const std::vector<LinearCall> calls = {
          {row(2), l.first.matrix.view(), a.view(), Activation::kSigmoid},
          {row(0), l.next.matrix.view(), b.view(), std::nullopt},
          {row(1), l.first.matrix.view(), c.view(), Activation::kTanh}};
      l.ops.linears(calls);
      EXPECT_TRUE(l.device->synchronize().ok());
      std::vector<float> left = states.get(0);
      l.input.fetch();
      EXPECT_EQ(left, l.input.values()) << "the state is the norm's row";
      a.fetch(), b.fetch(), c.fetch();
      l.more.set(a.values().data());
      l.out.set(b.values().data());
      for (int64_t i = 0; i < kDim; ++i) EXPECT_FALSE(std::isnan(c.at(0, i)));
      l.delta.set(c.values().data());
    };
    EXPECT_EQ(expect_same(work, "position " + std::to_string(position)), 1u);
  }
}

// Twice: what the first shift leaves is what the second one finds.
TEST(RowChain, StatesPassFromStepToStep) {
  const auto work = [](Layer& l) {
    States states(*l.device, 1, kDim);
    for (int32_t position = 0; position < 3; ++position) {
      const Batch batch(*l.device, std::vector<RunSpec>{{position, 1}});
      l.ops.norm(l.x.view(), l.norm(NormKind::kLayer), l.input.view());
      l.ops.shift_mix(l.input.view(), batch.ragged(), states.rows(), l.mix.view(), l.mixed.view());
      l.ops.linear(l.mixed.view().col_range(kDim, kDim), l.first.matrix.view(), l.delta.view());
      l.ops.add(l.delta.view(), l.x.view());
      EXPECT_TRUE(l.device->synchronize().ok());
    }
    l.more.set(states.get(0).data());
  };
  expect_same(work, "three steps");
}

TEST(RowChain, ARunWithoutRowsKeepsItsState) {
  Layer l(true);
  const Batch batch(*l.device, std::vector<RunSpec>{{7, 0}});
  States states(*l.device, 1, kDim);
  const std::vector<float> before = l.random.normals(kDim);
  states.set(0, before);
  Ragged padded = batch.ragged();
  const Array<int32_t> position(*l.device, {0});
  padded.positions = position.data();
  padded.rows = 1;
  l.ops.norm(l.x.view(), l.norm(), l.input.view());
  l.ops.shift_mix(l.input.view(), padded, states.rows(), l.mix.view(), l.mixed.view());
  l.ops.linear(l.mixed.view().col_range(0, kDim), l.first.matrix.view(), l.delta.view());
  EXPECT_TRUE(l.device->synchronize().ok());
  EXPECT_EQ(states.get(0), before);
}

TEST(RowChain, WhatNoProductReadsIsDoneAlone) {
  const auto norm_alone = [](Layer& l) {
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
  };
  EXPECT_EQ(expect_same(norm_alone, "a norm at the end"), 2u);
  const auto read_by_another_op = [&](Layer& l) {
    norm_alone(l);
    l.ops.add(l.input.view(), l.x.view());
    l.ops.linear(l.x.view(), l.first.matrix.view(), l.delta.view());
  };
  EXPECT_EQ(expect_same(read_by_another_op, "a norm before an addition"), 4u);
  const auto another_row = [&](Layer& l) {
    norm_alone(l);
    l.ops.linear(l.start.view(), l.next.matrix.view(), l.out.view());
  };
  EXPECT_EQ(expect_same(another_row, "a product of another row"), 3u);
}

// Blocks that are late still read what others would overwrite.
TEST(RowChain, NothingIsOverwrittenThatIsStillRead) {
  const auto into_the_sum = [](Layer& l) {
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
    l.ops.linear(l.input.view(), l.first.matrix.view(), l.delta.view());
  };
  expect_same(into_the_sum, "a product that writes what its norm adds");
  const auto reads_the_sum = [](Layer& l) {
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
    l.ops.linear(l.input.view(), l.next.matrix.view(), l.out.view());
    l.ops.linear(l.x.view(), l.first.matrix.view(), l.more.view());
  };
  expect_same(reads_the_sum, "a product of the row that the norm before has written");
  const auto writes_the_norm = [](Layer& l) {
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
    l.ops.linear(l.input.view(), l.first.matrix.view(), l.more.view());
    l.ops.linear(l.more.view(), l.first.matrix.view(), l.input.view());
  };
  expect_same(writes_the_norm, "a product that writes where the norm before has");
  const auto norm_after_norm = [](Layer& l) {
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    l.ops.add_norm(l.delta.view(), l.x.view(), l.norm(), l.input.view());
    l.ops.linear(l.input.view(), l.first.matrix.view(), l.more.view());
    l.ops.add_norm(l.more.view(), l.x.view(), l.norm(), l.input.view());
    l.ops.linear(l.input.view(), l.next.matrix.view(), l.out.view());
  };
  expect_same(norm_after_norm, "a norm of the sum that the norm before has written");
}

TEST(RowChain, AnyNumberOfProducts) {
  const auto many = [](Layer& l) {
    for (int i = 0; i < 9; ++i) {
      l.ops.linear(i == 0 ? l.start.view() : l.delta.view(), l.first.matrix.view(), l.more.view());
      l.ops.norm(l.more.view(), l.norm(), l.input.view());
      l.ops.linear(l.input.view(), l.first.matrix.view(), l.delta.view());
    }
  };
  expect_same(many, "eighteen stages");
  const auto groups = [](Layer& l) {
    Mat y(*l.device, 8, 77);
    for (int i = 0; i < 3; ++i) {
      std::vector<LinearCall> calls;
      for (int64_t n = 0; n < 8; ++n)
        calls.push_back({l.start.view(), l.next.matrix.view(), y.view().row_range(n, 1), {}});
      l.ops.linears(calls);
    }
    l.ops.linear(l.start.view(), l.first.matrix.view(), l.delta.view());
    EXPECT_TRUE(l.device->synchronize().ok());
    y.fetch();
    l.out.set(y.row(7).data());
  };
  expect_same(groups, "groups of eight");
}

TEST(RowChain, GoesIntoARecording) {
  Layer plain(true), recorded(true);
  for (int i = 0; i < 3; ++i) transformer(plain);
  transformer(recorded);  // what it allocates is there then
  const auto recording = recorded.device->record([&] {
    transformer(recorded);
    return Status::ok_status();
  });
  ASSERT_TRUE(recording.ok()) << recording.status().message();
  for (int i = 0; i < 2; ++i) recorded.device->replay(**recording);
  EXPECT_EQ(recorded.rows()[0], plain.rows()[0]);
}

}  // namespace
}  // namespace trireme::contract
