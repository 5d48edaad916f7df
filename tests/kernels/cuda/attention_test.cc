// What the contract of attend() leaves to the backend: rows that only fill up a step, and steps
// that are recorded once and replayed with other lengths.
#include <cuda_runtime.h>

#include "kernels/cuda/emulator/emulator.h"
#include "tests/contract/ops_cache.h"
#include "tests/contract/ops_tolerance.h"

namespace trireme::contract {
namespace {

constexpr int32_t kHeads = 4;

class CudaAttention : public testing::Test {
 protected:
  void store(Cache& cache, const Sequences& all, const std::vector<int32_t>& lengths) {
    for (size_t s = 0; s < lengths.size(); ++s) {
      const auto sequence = static_cast<int32_t>(s);
      const Batch whole(*device_, std::vector<RunSpec>{{0, lengths[s]}});
      Mat k = Sequences::rows(*device_, all.k, {sequence}, whole, 0);
      Mat v = Sequences::rows(*device_, all.v, {sequence}, whole, 0);
      device_->ops().store_kv(k.view(), v.view(), whole.ragged(), cache.view({sequence}, {0}));
    }
  }

  void expect_rows(const Mat& out, const Sequences& all, const CacheSpec& spec,
                   const std::vector<int32_t>& sequences, const std::vector<int32_t>& positions,
                   double tolerance) {
    for (size_t t = 0; t < sequences.size(); ++t) {
      expect_near(out.row(static_cast<int64_t>(t)),
                  attention_of(all, spec, sequences[t], positions[t], 0.125), tolerance,
                  "row " + std::to_string(t));
    }
  }

  std::unique_ptr<Device> device_ = make_device({"emulated", 1});
};

// A step of eight rows in four sequences, of which the last two are nobody's: their tables and
// positions hold nonsense.
TEST_F(CudaAttention, PaddingIsNeitherReadNorWritten) {
  for (const auto& [prompt, warp_groups] : {std::pair{1, false}, {20, false}, {20, true}}) {
    device_.reset();
    device_ = make_device({"emulated", 1, warp_groups});
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      for (const int32_t head_dim : {64, 18}) {
        const CacheSpec spec{1, head_dim, 16, 0, dtype};
        Random random(3000);
        const std::vector<int32_t> lengths = {100, 50};
        const Sequences all(random, spec, kHeads, lengths);
        Cache cache(*device_, spec, lengths, 3000);
        store(cache, all, lengths);
        std::vector<int32_t> sequences = {0}, positions = {99};
        for (int32_t i = 0; i < prompt; ++i) {
          sequences.push_back(1);
          positions.push_back(30 + i);
        }
        const auto used = static_cast<int32_t>(positions.size());
        constexpr int32_t kPadding = 5;
        std::vector<int32_t> padded = positions;
        padded.resize(positions.size() + kPadding, 1 << 30);
        const Array<int32_t> offsets(*device_, {0, 1, used, used, used});
        const Array<int32_t> rows(*device_, padded);
        const Ragged ragged{offsets.data(), rows.data(), 4, used + kPadding};

        KvView view = cache.view({0, 1}, {99, 30});
        std::vector<int32_t> table(static_cast<size_t>(view.table_stride) * 4, 1 << 30);
        device_->copy(table.data(), view.block_table,
                      static_cast<size_t>(view.table_stride) * 2 * sizeof(int32_t));
        ASSERT_TRUE(device_->synchronize().ok());
        const Array<int32_t> padded_table(*device_, table), first_block(*device_, {0, 0, -7, 9});
        view.block_table = padded_table.data();
        view.first_block = first_block.data();

        Mat q(*device_, ragged.rows, int64_t{kHeads} * head_dim), out = q.clone();
        Mat k(*device_, ragged.rows, head_dim), v = k.clone();
        for (int32_t t = 0; t < used; ++t) {
          const auto s = static_cast<size_t>(sequences[static_cast<size_t>(t)]);
          const auto p = static_cast<size_t>(positions[static_cast<size_t>(t)]);
          for (int64_t c = 0; c < q.cols(); ++c) q.at(t, c) = all.q[s][p][static_cast<size_t>(c)];
          for (int64_t c = 0; c < k.cols(); ++c) {
            k.at(t, c) = all.k[s][p][static_cast<size_t>(c)];
            v.at(t, c) = all.v[s][p][static_cast<size_t>(c)];
          }
        }
        q.put();
        k.put();
        v.put();
        device_->ops().store_kv(k.view(), v.view(), ragged, view);
        device_->ops().attend(q.view(), ragged, view, 0.125f, out.view());
        out.fetch();
        expect_rows(out, all, spec, sequences, positions, 1.2e-2);
        EXPECT_EQ(out.row(used), Mat(*device_, 1, q.cols()).row(0)) << "a row of nobody is written";
        if (HasFailure()) return;
      }
    }
  }
}

// A recorded decode step finds the positions, lengths and blocks that are on the device when it is
// replayed, however its context is cut into parts then.
TEST_F(CudaAttention, ARecordedStepIsReplayedWithOtherLengths) {
  const CacheSpec spec{1, 64, 16, 0, DType::kBF16};
  Random random(3100);
  const std::vector<int32_t> lengths = {1500, 1500};
  const Sequences all(random, spec, kHeads, lengths);
  Cache cache(*device_, spec, lengths, 3100);
  store(cache, all, lengths);
  const KvView view = cache.view({0, 1}, {0, 0});
  const Array<int32_t> offsets(*device_, {0, 1, 2});
  Array<int32_t> positions(*device_, {0, 0});
  const Ragged ragged{offsets.data(), positions.data(), 2, 2};
  Mat q(*device_, 2, kHeads * 64), out(*device_, 2, kHeads * 64);

  const auto put = [&](const std::vector<int32_t>& at) {
    device_->copy(const_cast<int32_t*>(positions.data()), at.data(), at.size() * sizeof(int32_t));
    for (int64_t t = 0; t < 2; ++t) {
      const auto& row =
          all.q[static_cast<size_t>(t)][static_cast<size_t>(at[static_cast<size_t>(t)])];
      for (int64_t c = 0; c < q.cols(); ++c) q.at(t, c) = row[static_cast<size_t>(c)];
    }
    q.put();
  };
  put({3, 5});
  device_->ops().attend(q.view(), ragged, view, 0.125f, out.view());  // scratch grows here
  ASSERT_TRUE(device_->synchronize().ok());

  const auto stream = static_cast<cudaStream_t>(device_->queue());
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  device_->ops().attend(q.view(), ragged, view, 0.125f, out.view());
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  for (const std::vector<int32_t>& at :
       {std::vector<int32_t>{0, 1499}, {700, 255}, {256, 257}, {1499, 63}}) {
    put(at);
    q.view();  // an op puts it there
    ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
    out.fetch();
    expect_rows(out, all, spec, {0, 1}, at, 3e-5);
  }
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// Parts end where a tile of positions does not: a kernel that takes 128 at a time sees none of the
// next part's. Equal scores and values of one have a mean of one, and a position more would show.
TEST_F(CudaAttention, PartsOfAPrefillEndInsideOfATile) {
  constexpr int32_t kContext = 2150, kRows = 33;  // 34 grains, parts of 17
  const CacheSpec spec{1, 64, 16, 0, DType::kBF16};
  Random random(3300);
  Sequences all(random, spec, kHeads, {kContext});
  for (auto& row : all.v[0]) std::fill(row.begin(), row.end(), 1.0f);
  for (const bool warp_groups : {false, true}) {
    device_.reset();
    device_ = make_device({"emulated", 2, warp_groups});
    Cache cache(*device_, spec, {kContext}, 3300);
    store(cache, all, {kContext});
    const Batch batch(*device_, std::vector<RunSpec>{{kContext - kRows, kRows}});
    Mat q(*device_, kRows, kHeads * 64), out = q.clone();
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t c = 0; c < q.cols(); ++c) q.at(t, c) = 0;
    }
    q.put();
    device_->ops().attend(q.view(), batch.ragged(), cache.view({0}, {kContext - kRows}), 0.125f,
                          out.view());
    out.fetch();
    for (int64_t t = 0; t < kRows; ++t)
      EXPECT_EQ(out.row(t), std::vector<float>(kHeads * 64, 1.0f)) << "row " << t;
  }
}

// Which block of a tile ends last, and joins the parts of all, does not change a bit; and it leaves
// the counters as it found them.
TEST_F(CudaAttention, PartsAreJoinedInTheirOrder) {
  for (const int32_t head_dim : {64, 80, 128, 256}) {
    const CacheSpec spec{2, head_dim, 16, 0, DType::kBF16};
    Random random(3200);
    const std::vector<int32_t> lengths = {1500};
    const Sequences all(random, spec, 2 * kHeads, lengths);
    Cache cache(*device_, spec, lengths, 3200);
    store(cache, all, lengths);
    const KvView view = cache.view({0}, {0});
    const Array<int32_t> offsets(*device_, {0, 1}), positions(*device_, {1499});
    const Ragged ragged{offsets.data(), positions.data(), 1, 1};
    Mat q(*device_, 1, int64_t{2} * kHeads * head_dim);
    for (int64_t c = 0; c < q.cols(); ++c) q.at(0, c) = all.q[0][1499][static_cast<size_t>(c)];
    q.put();
    Mat first = q.clone();
    for (uint64_t seed = 0; seed < 6; ++seed) {
      Mat out = q.clone();
      emulator::set_schedule(seed);
      device_->ops().attend(q.view(), ragged, view, 0.125f, out.view());
      emulator::set_schedule(0);
      out.fetch();
      if (seed == 0) {
        expect_rows(out, all, spec, {0}, {1499}, 3e-5);
        first = std::move(out);
      } else {
        EXPECT_EQ(out.row(0), first.row(0)) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace trireme::contract
