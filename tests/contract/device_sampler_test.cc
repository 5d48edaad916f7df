// A device's sampler against sample(): the same token for the same row, whatever the parameters,
// with logits that tie, that are far apart, and that are forbidden.
#include "kernels/device_sampler.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "runtime/sample/device_batch.h"
#include "runtime/sample/sampler.h"
#include "tests/contract/ops_support.h"

namespace trireme::contract {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

struct Row {
  std::vector<float> logits;
  SamplingParams params;
  PenaltyState penalties;
  std::vector<uint32_t> allowed;
};

class DeviceSamplerTest : public testing::TestWithParam<DeviceCase> {
 protected:
  // The device's tokens of the rows, choice 3 at position 100 + index.
  std::vector<int32_t> choose(const std::vector<Row>& rows) {
    const auto vocab = static_cast<int64_t>(rows.front().logits.size());
    const auto count = static_cast<int64_t>(rows.size());
    const size_t row_bytes = static_cast<size_t>(vocab) * sizeof(float);
    Buffer logits = device_->allocate(row_bytes * rows.size()).take();
    DeviceBatch batch(static_cast<int32_t>(vocab));
    for (size_t i = 0; i < rows.size(); ++i) {
      device_->copy(static_cast<std::byte*>(logits.data()) + i * row_bytes, rows[i].logits.data(),
                    row_bytes);
      batch.add(static_cast<int32_t>(i), rows[i].params, rows[i].penalties, kEos, 3,
                static_cast<uint32_t>(100 + i), rows[i].allowed);
    }
    DeviceSampler& sampler = *device_->sampler();
    EXPECT_TRUE(sampler.sample(float_rows(logits, count, vocab), batch.batch()).ok());
    EXPECT_TRUE(device_->synchronize().ok());
    return {sampler.tokens().begin(), sampler.tokens().end()};
  }

  void expect_host_agrees(const std::vector<Row>& rows) {
    const std::vector<int32_t> tokens = choose(rows);
    ASSERT_EQ(tokens.size(), rows.size());
    SamplerScratch scratch;
    for (size_t i = 0; i < rows.size(); ++i) {
      const Row& r = rows[i];
      const Result<SampledToken> want = sample(r.logits, r.params, r.penalties, kEos, 3,
                                               static_cast<uint32_t>(100 + i), scratch, r.allowed);
      EXPECT_EQ(tokens[i], want.ok() ? want->token : -1)
          << "row " << i << ", temperature " << r.params.temperature << ", top_k " << r.params.top_k
          << ", top_p " << r.params.top_p << ", min_p " << r.params.min_p;
    }
  }

  const std::vector<int32_t> kEos = {7, 11};
  std::unique_ptr<Device> device_ = make_device(GetParam());
};

std::vector<DeviceCase> cases_with_a_sampler() {
  std::vector<DeviceCase> cases;
  for (const DeviceCase& device : device_cases()) {
    if (device.tensor_cores()) cases.push_back(device);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceSamplerTest, testing::ValuesIn(cases_with_a_sampler()),
                         case_name);

TEST(DeviceSamplers, AreThoseOfCudaDevices) {
  for (const DeviceCase& device : device_cases())
    EXPECT_EQ(make_device(device)->sampler() != nullptr, device.tensor_cores()) << device.name();
}

class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  double next() { return uniform(seed_, 0, count_++); }
  int32_t below(int32_t n) { return static_cast<int32_t>(next() * n); }

 private:
  uint64_t seed_;
  uint32_t count_ = 0;
};

// Of a vocabulary of `vocab`, with logits in steps of 1/8, so that many are equal.
Row random_row(Draws& d, int32_t vocab) {
  Row row;
  for (int32_t t = 0; t < vocab; ++t)
    row.logits.push_back(static_cast<float>(d.below(64)) / 8 - (d.below(50) == 0 ? 100 : 0));
  SamplingParams& p = row.params;
  p.seed = static_cast<uint64_t>(d.below(1 << 30));
  p.temperature = d.below(4) == 0 ? 0.0f : static_cast<float>(0.2 + d.next() * 1.5);
  if (d.below(2) == 0) p.top_k = 1 + d.below(d.below(2) == 0 ? 8 : vocab);
  if (d.below(2) == 0) p.top_p = static_cast<float>(0.05 + 0.95 * d.next());
  if (d.below(3) == 0) p.min_p = static_cast<float>(d.next());
  if (d.below(3) == 0) {
    p.repetition_penalty = static_cast<float>(0.5 + d.next());
    p.frequency_penalty = static_cast<float>(d.next() - 0.5);
    p.presence_penalty = static_cast<float>(d.next());
  }
  for (int i = d.below(4); i > 0; --i)
    p.logit_bias.push_back({i * 3, static_cast<float>(d.next() * 20 - 10)});
  if (d.below(4) == 0) p.min_tokens = 100;
  if (d.below(4) == 0) p.bad_words = {{5}, {3, 4}, {9}};
  if (d.below(5) == 0) p.stop_token_ids = {2, 7};
  if (d.below(6) == 0) {
    for (int i = 0; i < 10; ++i) p.allowed_token_ids.push_back(d.below(vocab));
  }
  std::vector<int32_t> prompt;
  for (int i = d.below(20); i > 0; --i) prompt.push_back(d.below(vocab));
  row.penalties = PenaltyState(p, prompt);
  for (int i = d.below(20); i > 0; --i) row.penalties.add_output(d.below(vocab));
  if (d.below(4) == 0) {
    row.allowed.resize((static_cast<size_t>(vocab) + 31) / 32);
    for (uint32_t& word : row.allowed) word = static_cast<uint32_t>(d.below(1 << 30));
  }
  return row;
}

TEST_P(DeviceSamplerTest, ChoosesWhatTheHostChooses) {
  // The last are of two and three blocks a row.
  for (const int32_t vocab : {13, 1000, 2500, 4097, 9000}) {
    Draws draws(static_cast<uint64_t>(vocab));
    std::vector<Row> rows;
    for (int i = 0; i < 40; ++i) rows.push_back(random_row(draws, vocab));
    SCOPED_TRACE(testing::Message() << "vocabulary of " << vocab);
    expect_host_agrees(rows);
  }
}

BestLogit host_best(std::span<const float> logits, int32_t first_token) {
  BestLogit best;
  for (size_t i = 0; i < logits.size(); ++i) {
    const int32_t token = first_token + static_cast<int32_t>(i);
    const bool broken = !(logits[i] < INFINITY);
    if (broken) return {0.0f, BestLogit::kBroken};
    if (logits[i] > -INFINITY) best = best_of(best, {logits[i], token});
  }
  return best;
}

// Parts of a vocabulary as shards have them: from some token on, between other columns, perhaps
// none at all; what is the largest of both halves is the largest of the whole.
TEST_P(DeviceSamplerTest, FindsTheBestOfParts) {
  constexpr int64_t kRows = 7;
  Draws draws(77);
  for (const int32_t vocab : {1, 13, 1000, 4096, 4097, 9000}) {
    SCOPED_TRACE(testing::Message() << "vocabulary of " << vocab);
    Mat logits(*device_, kRows, vocab, 3);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int32_t t = 0; t < vocab; ++t)
        logits.at(row, t) = row == 2 ? -INFINITY : static_cast<float>(draws.below(64)) / 8;
    }
    logits.at(3, draws.below(vocab)) = NAN;
    logits.at(4, draws.below(vocab)) = INFINITY;
    logits.put();
    const int32_t half = vocab / 2;
    const Buffer room = device_->allocate(3 * kRows * sizeof(BestLogit)).take();
    auto* best = static_cast<BestLogit*>(room.data());
    const TensorView all = logits.view();
    ASSERT_TRUE(device_->sampler()->best(all, 0, best).ok());
    ASSERT_TRUE(device_->sampler()->best(all.col_range(0, half), 100, best + kRows).ok());
    ASSERT_TRUE(
        device_->sampler()->best(all.col_range(half, vocab - half), half, best + 2 * kRows).ok());
    std::vector<BestLogit> got(3 * kRows);
    device_->copy(got.data(), best, got.size() * sizeof(BestLogit));
    ASSERT_TRUE(device_->synchronize().ok());
    const std::vector<float> values = logits.values();
    for (size_t row = 0; row < kRows; ++row) {
      SCOPED_TRACE(testing::Message() << "row " << row);
      const std::span<const float> whole(&values[row * static_cast<size_t>(vocab)],
                                         static_cast<size_t>(vocab));
      const auto expect = [&](const BestLogit& mine, const BestLogit& want) {
        EXPECT_EQ(mine.token, want.token);
        EXPECT_EQ(want.token < 0 ? want.logit : mine.logit, want.logit);
      };
      expect(got[row], host_best(whole, 0));
      expect(got[kRows + row], host_best(whole.first(static_cast<size_t>(half)), 100));
      BestLogit first = got[kRows + row];
      if (first.token >= 0) first.token -= 100;
      expect(best_of(first, got[2 * kRows + row]), host_best(whole, 0));
      expect(best_of(got[2 * kRows + row], first), host_best(whole, 0));
    }
  }
}

// Of one row and of a few, which travel with the kernels, and of more.
TEST_P(DeviceSamplerTest, AnyNumberOfRows) {
  Draws draws(77);
  for (const int rows_count : {1, 16, 17, 3}) {
    std::vector<Row> rows;
    for (int i = 0; i < rows_count; ++i) rows.push_back(random_row(draws, 300));
    SCOPED_TRACE(testing::Message() << rows_count << " rows");
    expect_host_agrees(rows);
  }
}

// Bins that hold next to nothing and bins that hold nearly everything: more than is put in order at
// once.
TEST_P(DeviceSamplerTest, AnyShapeOfARow) {
  constexpr int32_t kVocab = 10000;
  const std::vector<std::function<float(Draws&, int32_t)>> shapes = {
      [](Draws&, int32_t) { return 1.0f; },                            // all equal
      [](Draws&, int32_t t) { return t % 2 == 0 ? 1.0f : 0.75f; },     // two values
      [](Draws& d, int32_t) { return static_cast<float>(d.next()); },  // all different
      [](Draws& d, int32_t t) {                                        // far from one
        return t == 5 ? -3e38f : static_cast<float>(d.next() * 0.01);
      },
      [](Draws& d, int32_t t) { return t == 77 ? 60.0f : static_cast<float>(d.next()); },
      [](Draws&, int32_t t) { return t == 77 ? 10.0f : 0.0f; },  // a third of all is far away
      [](Draws& d, int32_t t) { return t < 9000 ? kNever : static_cast<float>(d.below(3)); },
      [](Draws& d, int32_t) { return static_cast<float>(1e4 * d.next() - 5e3); },
      [](Draws& d, int32_t) { return static_cast<float>(3e38 * (2 * d.next() - 1)); },
      [](Draws& d, int32_t) { return static_cast<float>(20 * std::log(d.next())); },
  };
  struct Limits {
    int32_t top_k;
    float top_p, min_p;
  };
  Draws draws(20261127);
  for (size_t shape = 0; shape < shapes.size(); ++shape) {
    std::vector<Row> rows;
    for (const float temperature : {1.0f, 0.01f, 50.0f}) {
      for (const Limits& limits :
           {Limits{0, 1, 0}, {0, 0.7f, 0}, {40, 1, 0}, {6000, 0.9f, 0}, {9999, 0.5f, 1e-3f}}) {
        Row row;
        for (int32_t t = 0; t < kVocab; ++t) row.logits.push_back(shapes[shape](draws, t));
        row.params.temperature = temperature;
        row.params.top_k = limits.top_k;
        row.params.top_p = limits.top_p;
        row.params.min_p = limits.min_p;
        row.params.seed = rows.size() + 100 * shape;
        row.penalties = PenaltyState(row.params, {});
        rows.push_back(std::move(row));
      }
    }
    SCOPED_TRACE(testing::Message() << "shape " << shape);
    expect_host_agrees(rows);
  }
}

// Every draw of a small distribution comes as often as the host draws it.
TEST_P(DeviceSamplerTest, EveryPlaceOfTheDistribution) {
  std::vector<Row> rows;
  for (int i = 0; i < 60; ++i) {
    Row row;
    row.logits = {1.0f, kNever, 0.5f, 0.5f, -2.0f, 1.0f, 0.0f, -30.0f};
    row.params.seed = static_cast<uint64_t>(i);
    if (i % 3 == 1) row.params.top_k = 3;
    if (i % 3 == 2) row.params.top_p = 0.7f;
    row.penalties = PenaltyState(row.params, {});
    rows.push_back(row);
  }
  expect_host_agrees(rows);
}

TEST_P(DeviceSamplerTest, RowsThatTheHostMustLookAt) {
  std::vector<Row> rows(4);
  for (Row& row : rows) {
    row.logits.assign(50, 1.0f);
    row.params.temperature = 0.0f;
    row.penalties = PenaltyState(row.params, {});
  }
  rows[0].logits[49] = NAN;
  rows[1].logits[0] = std::numeric_limits<float>::infinity();
  rows[2].logits.assign(50, kNever);
  EXPECT_EQ(choose(rows), (std::vector<int32_t>{-1, -1, -1, 0}));
}

}  // namespace
}  // namespace trireme::contract
