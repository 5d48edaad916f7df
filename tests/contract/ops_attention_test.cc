// store_kv and attend, on every device, against softmax attention in f64 over the plain sequences.
// The cache's free bytes are NaN, so that a lane beyond a sequence or before a window shows.
#include "tests/contract/ops_attention.h"

#include <cmath>

namespace trireme::contract {
namespace {

INSTANTIATE_TEST_SUITE_P(Devices, AttentionOps, testing::ValuesIn(attention_cases()), case_name);

struct Shape {
  CacheSpec cache;
  int32_t heads;
};

// Every dtype, size of head, grouping, size of block (also such that divide no tile), window.
TEST_P(AttentionOps, PrefillInChunksThenDecodeInARaggedBatch) {
  const Shape shapes[] = {
      {{1, 64, 16, 0, DType::kF32}, 8},    {{2, 24, 32, 0, DType::kBF16}, 2},
      {{2, 32, 64, 0, DType::kF16}, 6},    {{1, 48, 128, 40, DType::kBF16}, 3},
      {{3, 80, 16, 17, DType::kF32}, 3},   {{1, 128, 48, 100, DType::kF16}, 5},
      {{2, 16, 256, 1, DType::kBF16}, 14}, {{1, 20, 7, 0, DType::kF32}, 2},
      {{1, 8, 1, 30, DType::kBF16}, 1},    {{1, 16, 16, 0, DType::kBF16}, 71},
  };
  uint64_t seed = 1000;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message()
                 << "seed " << ++seed << ", " << shape.heads << "/" << shape.cache.kv_heads
                 << " heads of " << shape.cache.head_dim << ", blocks of "
                 << shape.cache.block_tokens << ", window " << shape.cache.window_tokens << ", "
                 << dtype_name(shape.cache.dtype));
    Random random(seed);
    const std::vector<int32_t> lengths = {70, 1, 150, 33};
    const Sequences all(random, shape.cache, shape.heads, lengths);
    Cache cache(*device_, shape.cache, lengths, seed);
    // Chunks of several sequences, an empty run, single tokens: all in the same calls.
    step(shape.cache, cache, all, {0, 2}, {{0, 40}, {0, 90}});
    step(shape.cache, cache, all, {3, 0, 1, 2}, {{0, 32}, {40, 29}, {0, 0}, {90, 59}});
    step(shape.cache, cache, all, {2, 3, 1, 0}, {{149, 1}, {32, 1}, {0, 1}, {69, 1}});
  }
}

// Past the first partial softmax (512 positions), alone and in company.
TEST_P(AttentionOps, LongContext) {
  for (int32_t window : {0, 300, 600}) {
    const CacheSpec spec{2, 16, 32, window, DType::kBF16};
    Random random(1100);
    const std::vector<int32_t> lengths = {1300, 520};
    const Sequences all(random, spec, 4, lengths);
    Cache cache(*device_, spec, lengths, 1100);
    const Batch whole(*device_, std::vector<RunSpec>{{0, 1300}, {0, 520}});
    Mat k = Sequences::rows(*device_, all.k, {0, 1}, whole, 0);
    Mat v = Sequences::rows(*device_, all.v, {0, 1}, whole, 0);
    ops_.store_kv(k.view(), v.view(), whole.ragged(), cache.view({0, 1}, {0, 0}));
    for (const std::vector<int32_t>& positions :
         {std::vector<int32_t>{1299}, {511}, {512}, {1023, 1024, 1025}}) {
      const Batch batch(*device_, std::vector<std::vector<int32_t>>{positions});
      attend(spec, cache.view({0}, {positions[0]}), all, {0}, batch);
    }
    const Batch both(*device_, std::vector<std::vector<int32_t>>{{519}, {700, 701, 1299}});
    attend(spec, cache.view({1, 0}, {519, 700}), all, {1, 0}, both);
  }
}

// YOCO's later layers and speculative drafts ask for some rows of a chunk: any ascending positions.
TEST_P(AttentionOps, RowsWithGapsBetweenTheirPositions) {
  for (int32_t window : {0, 20}) {
    const CacheSpec spec{1, 32, 16, window, DType::kF32};
    Random random(1200);
    const std::vector<int32_t> lengths = {200};
    const Sequences all(random, spec, 2, lengths);
    Cache cache(*device_, spec, lengths, 1200);
    const Batch whole(*device_, std::vector<RunSpec>{{0, 200}});
    Mat k = Sequences::rows(*device_, all.k, {0}, whole, 0);
    Mat v = Sequences::rows(*device_, all.v, {0}, whole, 0);
    ops_.store_kv(k.view(), v.view(), whole.ragged(), cache.view({0}, {0}));
    const Batch some(*device_, std::vector<std::vector<int32_t>>{{0, 3, 63, 64, 150, 199}});
    attend(spec, cache.view({0}, {0}), all, {0}, some);
  }
}

// Scores far apart: weights underflow to nothing, and the largest is found wherever it is. Scores
// of some hundreds have an ulp of 3e-5, and weights relatively as much.
TEST_P(AttentionOps, ExtremeScores) {
  const CacheSpec spec{1, 16, 16, 0, DType::kF32};
  tolerance_ = 1e-4;
  Random random(1300);
  const std::vector<int32_t> lengths = {140};
  Sequences all(random, spec, 3, lengths);
  for (auto& row : all.q[0]) {
    for (float& x : row) x *= 60;
  }
  Cache cache(*device_, spec, lengths, 1300);
  step(spec, cache, all, {0}, {{0, 140}});
}

// Sequences with a common prefix name the same blocks.
TEST_P(AttentionOps, SharedBlocks) {
  const CacheSpec spec{1, 32, 16, 0, DType::kF32};
  Random random(1400);
  const Sequences all(random, spec, 2, {40});
  Cache cache(*device_, spec, {40}, 1400);
  step(spec, cache, all, {0}, {{0, 40}});
  const Batch batch(*device_, std::vector<std::vector<int32_t>>{{39}, {31}, {16, 17}});
  attend(spec, cache.view({0, 0, 0}, {39, 31, 16}), all, {0, 0, 0}, batch);
}

// Nothing to do is done, and no cache is asked for.
TEST_P(AttentionOps, NoRows) {
  Mat none(*device_, 0, 32), out(*device_, 0, 64), q(*device_, 0, 64);
  KvView cache;
  cache.block_tokens = 16;
  cache.kv_heads = 1;
  cache.head_dim = 32;
  cache.block_stride = kv_bytes_per_token(1, 32, DType::kF32) * 16;
  const Batch batch(*device_, std::vector<RunSpec>{{5, 0}, {0, 0}});
  ops_.store_kv(none.view(), none.view(), batch.ragged(), cache);
  ops_.attend(q.view(), batch.ragged(), cache, 1, out.view());
  ops_.attend(q.view(), Ragged{}, cache, 1, out.view());
}

}  // namespace
}  // namespace trireme::contract
