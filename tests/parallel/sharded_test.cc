// Groups and the sliced layers, with ranks as threads, against the layer in one piece.
#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "kernels/base/random.h"
#include "parallel/groups.h"
#include "parallel/sharded_linear.h"
#include "parallel/sharded_vocab.h"

namespace trireme {
namespace {

// Runs body on `size` threads, each with its communicator.
void on_ranks(int size, const std::function<void(Communicator&)>& body) {
  auto world = make_in_process_world(size);
  std::vector<std::thread> threads;
  for (int i = 0; i < size; ++i) {
    threads.emplace_back([&, i] {
      const std::unique_ptr<Communicator> mine = std::move(world[i]);
      body(*mine);
    });
  }
  for (std::thread& t : threads) t.join();
}

std::vector<float> numbers(uint64_t seed, int64_t count) {
  std::vector<float> x;
  for (int64_t i = 0; i < count; ++i) x.push_back(normal(seed, static_cast<uint64_t>(i)));
  return x;
}

ConstTensorView view(const std::vector<float>& x, int64_t rows, int64_t cols) {
  return {x.data(), rows, cols, DType::kF32};
}

// A matrix on the device from rows [r.first, r.end()) and columns c of a [rows, cols] one; rows
// beyond are zeros.
Matrix slice(Device& device, const std::vector<float>& w, int64_t rows, int64_t cols, Range r,
             Range c) {
  Matrix m = std::move(*device.make_matrix(r.count, c.count, DType::kF32));
  const int64_t real = std::clamp<int64_t>(rows - r.first, 0, r.count);
  if (real > 0)
    device.write_rows(m, 0,
                      view(w, rows, cols).row_range(r.first, real).col_range(c.first, c.count));
  if (real < r.count) {
    const std::vector<float> zeros(static_cast<size_t>((r.count - real) * c.count), 0.0f);
    device.write_rows(m, real, view(zeros, r.count - real, c.count));
  }
  return m;
}

std::unique_ptr<Device> checked_device() { return make_checked_device(make_ref_device()); }

TEST(Groups, ShardsAndStages) {
  const Mesh mesh{3, 2};
  on_ranks(6, [&](Communicator& world) {
    const auto groups = make_groups(world, mesh);
    ASSERT_TRUE(groups.ok());
    const Coordinate here = mesh.coordinate(world.rank());
    EXPECT_EQ(groups->here.stage, here.stage);
    EXPECT_EQ(groups->here.shard, here.shard);
    EXPECT_EQ(groups->shards->size(), 2);
    EXPECT_EQ(groups->shards->rank(), here.shard);
    EXPECT_EQ(groups->stages->size(), 3);
    EXPECT_EQ(groups->stages->rank(), here.stage);
    EXPECT_EQ(groups->first_stage(), here.stage == 0);
    EXPECT_EQ(groups->last_stage(), here.stage == 2);
    // They really are those ranks: everybody's world rank, summed over the group.
    float sum = static_cast<float>(world.rank());
    ASSERT_TRUE(groups->shards->all_reduce_sum(tensor(&sum, 1, 1)).ok());
    EXPECT_EQ(sum, static_cast<float>(4 * here.stage + 1));
    sum = static_cast<float>(world.rank());
    ASSERT_TRUE(groups->stages->all_reduce_sum(tensor(&sum, 1, 1)).ok());
    EXPECT_EQ(sum, static_cast<float>(6 + 3 * here.shard));
  });
}

TEST(Groups, TheWorldMustHaveTheMeshsSize) {
  on_ranks(3, [&](Communicator& world) {
    const auto groups = make_groups(world, {2, 2});
    ASSERT_FALSE(groups.ok());
    EXPECT_EQ(groups.status().message(),
              "the mesh needs 4 ranks (tensor_parallel_size 2 x pipeline_parallel_size 2), the "
              "world has 3");
  });
}

// y = relu2(x W1^T + b1) W2^T + b2: column-parallel, then row-parallel, with one all-reduce.
TEST(ShardedLinear, ColumnThenRowIsTheWhole) {
  constexpr int64_t kRows = 5, kIn = 24, kHidden = 30, kOut = 16;
  const auto w1 = numbers(1, kHidden * kIn), b1 = numbers(2, kHidden);
  const auto w2 = numbers(3, kOut * kHidden), b2 = numbers(4, kOut);
  const auto x = numbers(5, kRows * kIn);
  const auto device = checked_device();
  const auto vector = [](Device& d, const std::vector<float>& v, Range r) {
    Buffer b = std::move(*d.allocate(static_cast<size_t>(r.count) * sizeof(float)));
    std::copy_n(v.begin() + r.first, r.count, static_cast<float*>(b.data()));
    return b;
  };
  const auto compute = [&](Device& d, Communicator& shards, std::vector<float>& y) {
    const Range mine = shard_range(kHidden, shards.rank(), shards.size());
    const ColumnParallelLinear up(d.ops(), slice(d, w1, kHidden, kIn, mine, {0, kIn}),
                                  vector(d, b1, mine));
    Matrix down_slice = slice(d, w2, kOut, kHidden, {0, kOut}, mine);
    const RowParallelLinear down(
        shards.rank() == 0 ? Linear(d.ops(), std::move(down_slice), vector(d, b2, {0, kOut}))
                           : Linear(d.ops(), std::move(down_slice)),
        shards);
    EXPECT_EQ(up.outputs(), mine.count);
    EXPECT_EQ(down.inputs(), mine.count);
    std::vector<float> hidden(static_cast<size_t>(kRows * mine.count));
    const TensorView h = tensor(hidden.data(), kRows, mine.count);
    up.forward(view(x, kRows, kIn), h);
    d.ops().activate(Activation::kReluSquared, h, h);
    y.assign(kRows * kOut, -1.0f);
    ASSERT_TRUE(down.forward(h, tensor(y.data(), kRows, kOut)).ok());
  };
  std::vector<float> whole;
  on_ranks(1, [&](Communicator& one) { compute(*device, one, whole); });
  for (const int shards : {2, 3, 5, 7}) {
    std::vector<std::vector<float>> results(static_cast<size_t>(shards));
    on_ranks(shards, [&](Communicator& world) {
      const auto mine = checked_device();
      compute(*mine, world, results[static_cast<size_t>(world.rank())]);
    });
    for (const auto& y : results) {
      EXPECT_EQ(y, results[0]) << "the same bits on every shard";
      for (size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(y[i], whole[i], 2e-4) << shards;
    }
  }
}

struct VocabCase {
  int64_t vocab;
  int shards;
};

// Vocabularies that the shards do not divide, and more shards than some have rows for: 5 words on 4
// shards are 2, 2, 1 and none.
TEST(ShardedVocab, EmbeddingAndHeadAreTheWhole) {
  constexpr int64_t kDim = 12;
  for (const VocabCase c : {VocabCase{8, 2}, VocabCase{9, 2}, VocabCase{97, 3}, VocabCase{5, 4},
                            VocabCase{3, 5}, VocabCase{1, 2}, VocabCase{131, 4}}) {
    SCOPED_TRACE(fmt::format("{} words on {} shards", c.vocab, c.shards));
    const auto words = numbers(7, c.vocab * kDim);
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < c.vocab; ++i) ids.push_back(static_cast<int32_t>((i * 7) % c.vocab));
    const auto rows = static_cast<int64_t>(ids.size());
    on_ranks(c.shards, [&](Communicator& shards) {
      const auto device = checked_device();
      const Range mine = vocab_range(c.vocab, shards.rank(), shards.size());
      auto table = std::make_shared<VocabTable>();
      table->rows = slice(*device, words, c.vocab, kDim, mine, {0, kDim});
      table->vocab = c.vocab;
      // Tied: one table serves both.
      const VocabParallelEmbedding embedding(device->ops(), shards, table, 3.0f);
      const auto made = VocabParallelHead::make(*device, shards, table, rows);
      ASSERT_TRUE(made.ok());
      VocabParallelHead& head = **made;
      EXPECT_EQ(head.rows_max(), rows);
      std::vector<float> x(static_cast<size_t>(rows * kDim), -7.0f);
      ASSERT_TRUE(
          embedding.forward(ids.data(), static_cast<int32_t>(rows), tensor(x.data(), rows, kDim))
              .ok());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t d = 0; d < kDim; ++d)
          ASSERT_EQ(x[r * kDim + d], 3.0f * words[ids[r] * kDim + d]) << "exact: one summand";
      }
      std::vector<float> normed(x.size()), logits(static_cast<size_t>(rows * c.vocab), -7.0f);
      const ResidualNorm in{{},
                            tensor(x.data(), rows, kDim),
                            {NormKind::kRms, 1e-6f, 1, {}, {}},
                            tensor(normed.data(), rows, kDim)};
      ASSERT_TRUE(head.forward(in, tensor(logits.data(), rows, c.vocab)).ok());
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t d = 0; d < kDim; ++d) squares += double{x[r * kDim + d]} * x[r * kDim + d];
        const double scale = 1 / std::sqrt(squares / kDim + 1e-6);
        for (int64_t v = 0; v < c.vocab; ++v) {
          double expected = 0;
          for (int64_t d = 0; d < kDim; ++d)
            expected += scale * double{x[r * kDim + d]} * double{words[v * kDim + d]};
          ASSERT_NEAR(logits[r * c.vocab + v], expected, 1e-3) << "row " << r << " word " << v;
        }
      }
      // Fewer rows than the head was made for.
      std::vector<float> first(static_cast<size_t>(c.vocab), -7.0f);
      const ResidualNorm one{{}, in.x.row_range(0, 1), in.norm, in.y.row_range(0, 1)};
      ASSERT_TRUE(head.forward(one, tensor(first.data(), 1, c.vocab)).ok());
      EXPECT_TRUE(std::equal(first.begin(), first.end(), logits.begin()));
    });
  }
}

}  // namespace
}  // namespace trireme
