// attend() where a device has several kernels for it: sizes of heads that have one of their own,
// contexts that are cut into parts, steps whose runs go to different ones.
#include "tests/contract/ops_attention.h"

namespace trireme::contract {
namespace {

using AttentionKernels = AttentionOps;
INSTANTIATE_TEST_SUITE_P(Devices, AttentionKernels, testing::ValuesIn(attention_cases()),
                         case_name);

struct Shape {
  CacheSpec cache;
  int32_t heads;
};
std::string describe(const Shape& shape) {
  return std::to_string(shape.heads) + "/" + std::to_string(shape.cache.kv_heads) + " heads of " +
         std::to_string(shape.cache.head_dim) + ", blocks of " +
         std::to_string(shape.cache.block_tokens) + ", window " +
         std::to_string(shape.cache.window_tokens) + ", " +
         std::string(dtype_name(shape.cache.dtype));
}

// A prompt, then a step of another prompt's rest, a draft of three tokens and a single one, then
// decode.
TEST_P(AttentionKernels, EverySizeOfHead) {
  const Shape shapes[] = {
      {{1, 64, 16, 0, DType::kBF16}, 71}, {{2, 64, 32, 20, DType::kF16}, 8},
      {{2, 80, 64, 0, DType::kF16}, 2},   {{1, 96, 48, 33, DType::kBF16}, 7},
      {{2, 128, 16, 0, DType::kBF16}, 8}, {{1, 128, 1, 50, DType::kF16}, 4},
      {{1, 256, 32, 70, DType::kF16}, 1}, {{1, 256, 7, 0, DType::kBF16}, 8},
      {{1, 128, 32, 0, DType::kF32}, 4},
  };
  uint64_t seed = 2000;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << describe(shape));
    Random random(seed);
    const std::vector<int32_t> lengths = {61, 90, 2};
    const Sequences all(random, shape.cache, shape.heads, lengths);
    Cache cache(*device_, shape.cache, lengths, seed);
    step(shape.cache, cache, all, {0}, {{0, 57}});
    step(shape.cache, cache, all, {0, 1, 2}, {{57, 3}, {0, 89}, {0, 1}});
    step(shape.cache, cache, all, {1, 0, 2}, {{89, 1}, {60, 1}, {1, 1}});
    if (HasFailure()) return;
  }
}

// Equal scores make every weight exactly one, in every format, and whole numbers make sums exact: a
// position too many, too few or twice shows however many there are. Long enough for several parts.
TEST_P(AttentionKernels, EqualScoresGiveTheMeanOfWhatIsSeen) {
  const Shape shapes[] = {
      {{1, 64, 16, 0, DType::kBF16}, 2},    {{1, 128, 32, 300, DType::kF16}, 4},
      {{2, 80, 48, 1100, DType::kF16}, 4},  {{1, 96, 64, 0, DType::kF16}, 1},
      {{1, 256, 16, 700, DType::kBF16}, 1}, {{2, 32, 16, 600, DType::kF32}, 4},
      {{1, 16, 16, 500, DType::kBF16}, 2},
  };
  uint64_t seed = 2100;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << describe(shape));
    Random random(seed);
    const std::vector<int32_t> lengths = {1400, 330};
    Sequences all(random, shape.cache, shape.heads, lengths);
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (auto& row : all.q[s]) std::fill(row.begin(), row.end(), 0.0f);
      for (auto& row : all.v[s]) {
        for (float& x : row) x = static_cast<float>(random.integer(-8, 8));
      }
    }
    exact_ = true;
    Cache cache(*device_, shape.cache, lengths, seed);
    store(cache, all, lengths);
    const std::vector<std::vector<std::vector<int32_t>>> steps = {
        {{1399}},                           // one line or few: cut into parts
        {{329}, {1023, 1024, 1025, 1399}},  // a draft
        {{0, 1}, range(1330, 1380)},        // a prefill with a long context: cut as well
        {range(100, 330), {5, 700, 1399}},  // several tiles, and gaps
    };
    for (const auto& positions : steps) {
      const Batch batch(*device_, positions);
      std::vector<int32_t> sequences, firsts;
      for (const auto& run : positions) {
        sequences.push_back(run.back() < lengths[1] ? 1 : 0);
        firsts.push_back(run.front());
      }
      attend(shape.cache, cache.view(sequences, firsts), all, sequences, batch);
      if (HasFailure()) return;
    }
  }
}

// The same with scores that differ, where each part has another largest one.
TEST_P(AttentionKernels, PartsOfALongContext) {
  const Shape shapes[] = {
      {{2, 64, 32, 0, DType::kBF16}, 8},
      {{1, 128, 16, 900, DType::kF16}, 8},
      {{1, 64, 16, 1000, DType::kF32}, 4},
  };
  uint64_t seed = 2200;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", " << describe(shape));
    Random random(seed);
    const std::vector<int32_t> lengths = {1500, 700};
    const Sequences all(random, shape.cache, shape.heads, lengths);
    Cache cache(*device_, shape.cache, lengths, seed);
    store(cache, all, lengths);
    const std::vector<std::vector<std::vector<int32_t>>> steps = {
        {{1499}, {699}}, {{1100, 1101}}, {range(1460, 1472), {3, 500}}};
    for (const auto& positions : steps) {
      const Batch batch(*device_, positions);
      const std::vector<int32_t> sequences =
          positions.size() == 1 ? std::vector<int32_t>{0} : std::vector<int32_t>{0, 1};
      std::vector<int32_t> firsts;
      for (const auto& run : positions) firsts.push_back(run.front());
      attend(shape.cache, cache.view(sequences, firsts), all, sequences, batch);
      if (HasFailure()) return;
    }
  }
}

// Between the windows of rows with gaps lie positions that no row sees. Nobody need have written
// them: their bytes are NaN.
TEST_P(AttentionKernels, PositionsBetweenWindowsAreNotRead) {
  const Shape shapes[] = {{{1, 64, 16, 20, DType::kBF16}, 4},
                          {{1, 64, 16, 20, DType::kBF16}, 16},
                          {{1, 128, 7, 9, DType::kF16}, 2},
                          {{1, 20, 16, 20, DType::kF32}, 2},
                          {{1, 18, 16, 20, DType::kF32}, 2}};
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << "seed 2300, " << describe(shape));
    Random random(2300);
    const std::vector<int32_t> lengths = {400};
    const Sequences all(random, shape.cache, shape.heads, lengths);
    Cache cache(*device_, shape.cache, lengths, 2300);
    const std::vector<int32_t> rows = {30, 31, 40, 150, 399};
    std::vector<int32_t> seen;
    for (int32_t p = 0; p < lengths[0]; ++p) {
      for (int32_t row : rows) {
        if (p <= row && p > row - shape.cache.window_tokens) {
          seen.push_back(p);
          break;
        }
      }
    }
    const Batch stored(*device_, std::vector<std::vector<int32_t>>{seen});
    Mat k = Sequences::rows(*device_, all.k, {0}, stored, 0);
    Mat v = Sequences::rows(*device_, all.v, {0}, stored, 0);
    for (int32_t i = 0; i < stored.rows(); ++i) {  // one at a time: positions of a run follow on
      const Batch one(*device_, std::vector<RunSpec>{{stored.position(i), 1}});
      ops_.store_kv(ConstTensorView(k.view()).row_range(i, 1),
                    ConstTensorView(v.view()).row_range(i, 1), one.ragged(), cache.view({0}, {0}));
    }
    const Batch batch(*device_, std::vector<std::vector<int32_t>>{rows});
    attend(shape.cache, cache.view({0}, {rows[0]}), all, {0}, batch);
  }
}

// Scores of thousands, with queries that f16 could not hold, and keys so small that they can. All
// queries are numbers of the cache's format times a power of two, so that their scores are exact.
TEST_P(AttentionKernels, LargeQueriesAndScoresFarApart) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const Shape shape{{1, 64, 16, 0, dtype}, 8};
    SCOPED_TRACE(testing::Message() << "seed 2400, " << describe(shape));
    Random random(2400);
    const std::vector<int32_t> lengths = {150};
    Sequences all(random, shape.cache, shape.heads, lengths);
    const auto round_times = [&](std::vector<float>& row, float before, float after) {
      std::vector<float> stored = row;
      for (float& x : row) x *= before;
      convert_floats(row.data(), DType::kF32, stored.data(), dtype, row.size());
      convert_floats(stored.data(), dtype, row.data(), DType::kF32, row.size());
      for (float& x : row) x *= after;
    };
    for (auto& row : all.q[0]) round_times(row, 1, 0x1p20f);
    for (auto& row : all.k[0]) round_times(row, 0x1p-10f, 1);
    tolerance_ = 2e-3;  // an ulp of a score of 3000 is 2.4e-4
    Cache cache(*device_, shape.cache, lengths, 2400);
    step(shape.cache, cache, all, {0}, {{0, 149}});
    step(shape.cache, cache, all, {0}, {{149, 1}});
  }
}

}  // namespace
}  // namespace trireme::contract
