// Recorded steps: when a step is run, recorded and replayed; and on the emulated GPU whole models
// of every family, whose tokens are those of the CPU with and without recording.
#include "runtime/engine/recorded_steps.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "runtime/engine/generator.h"
#include "tests/support/thread_ranks.h"

namespace trireme::test {
namespace {

TEST(RecordedSize, IsAPowerOfTwoOrAMultipleOfEight) {
  const auto sizes = [](int32_t most) {
    std::vector<int32_t> made;
    for (int32_t n = 1; n <= most; ++n) made.push_back(recorded_size(n, most));
    return made;
  };
  EXPECT_EQ(sizes(1), (std::vector<int32_t>{1}));
  EXPECT_EQ(sizes(6), (std::vector<int32_t>{1, 2, 4, 4, 6, 6}));
  EXPECT_EQ(sizes(18),
            (std::vector<int32_t>{1, 2, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 16, 18, 18}));
  EXPECT_EQ(recorded_size(57, 256), 64);
  EXPECT_EQ(recorded_size(65, 256), 72);
  EXPECT_EQ(recorded_size(256, 256), 256);
}

// Records by remembering that it did.
class NotingDevice final : public Device {
 public:
  std::string_view name() const override { return "noting"; }
  Place place() const override { return Place::kHost; }
  int threads() const override { return 1; }
  Ops& ops() override { return ref_->ops(); }
  Result<Buffer> allocate(size_t bytes) override { return ref_->allocate(bytes); }
  void copy(void* target, const void* source, size_t bytes) override {
    ref_->copy(target, source, bytes);
  }
  Status synchronize() override { return {}; }
  Result<Matrix> make_matrix(int64_t rows, int64_t cols, WeightFormat format) override {
    return ref_->make_matrix(rows, cols, format);
  }
  void write_rows(Matrix& matrix, int64_t first_row, ConstTensorView source) override {
    ref_->write_rows(matrix, first_row, source);
  }
  void write_quantized_rows(Matrix& matrix, int64_t first_row,
                            const QuantizedView& source) override {
    ref_->write_quantized_rows(matrix, first_row, source);
  }
  bool can_record() const override { return true; }
  Result<std::unique_ptr<Recording>> record(const std::function<Status()>& work) override {
    if (Status s = work(); !s.ok()) return s;
    if (!failure.empty()) return unavailable(failure);
    log += "r";
    return std::unique_ptr<Recording>(std::make_unique<Recording>());
  }
  void replay(Recording&) override { log += "p"; }

  std::string log, failure;

 private:
  std::unique_ptr<Device> ref_ = make_ref_device();
};

TEST(RecordedSteps, EachSizeRunsOnceIsRecordedOnceAndThenReplayed) {
  NotingDevice device;
  RecordedSteps steps(device);
  const auto run = [&](int32_t size) {
    bool ran = false;
    const auto work = [&]() -> Status {
      device.log += "w";
      return {};
    };
    EXPECT_TRUE(steps.run(size, work, ran).ok());
    device.log += ran ? "+ " : "- ";
  };
  for (const int32_t size : {2, 2, 4, 2, 4, 4, 2}) run(size);
  EXPECT_EQ(device.log, "w+ wrp+ w+ p- wrp+ p- p- ");
  EXPECT_EQ(steps.counts().recorded, 2u);
  EXPECT_EQ(steps.counts().replayed, 5u);
  EXPECT_EQ(steps.counts().plain, 2u);
}

TEST(RecordedSteps, ADeviceThatFailsToRecordIsNotAskedAgain) {
  NotingDevice device;
  RecordedSteps steps(device);
  const auto run = [&](int32_t size) {
    bool ran = false;
    const auto work = [&]() -> Status {
      device.log += "w";
      return {};
    };
    EXPECT_TRUE(steps.run(size, work, ran).ok());
    EXPECT_TRUE(ran || device.log.ends_with("p"));
  };
  for (const int32_t size : {1, 1}) run(size);
  device.failure = "no room";
  for (const int32_t size : {2, 2, 2, 1, 4, 4}) run(size);
  EXPECT_EQ(device.log, "wwrpwwwwpww") << "what was recorded goes on";
  EXPECT_EQ(steps.counts().failure, "no room");
  // What the work itself says is not the device's failure to record.
  bool ran = false;
  EXPECT_EQ(steps
                .run(
                    8, [] { return data_loss("broken"); }, ran)
                .message(),
            "broken");
}

// ---- whole models ----

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}

struct Generated {
  std::vector<std::vector<int32_t>> tokens;
  RecordedSteps::Counts counts;
  Decoder::Counters rows;
};

// Prompts of different lengths, in chunks, more of them than run at a time: decode steps of several
// sizes before, between and after prefills.
Generated generate(const std::string& name, const std::string& isa, bool record,
                   Mesh mesh = {1, 1}) {
  RankOptions ranks;
  ranks.mesh = mesh;
  ranks.isa = isa;
  ranks.rows_max = 16;
  ranks.tokens_max = 32;
  ranks.block_tokens = 4;
  ranks.sequences_max = 6;
  ranks.cache_bytes = uint64_t{4} << 20;
  ranks.record_steps = record;
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < 5; ++i) {
    GenerateRequest r;
    for (size_t t = 0; t < 1 + 9 * i % 16; ++t)
      r.prompt.push_back(static_cast<int32_t>(3 + (11 * t + 5 * i) % 40));
    r.params.temperature = 0.0f;
    r.params.max_tokens = 4 + static_cast<uint32_t>(3 * i % 8);
    r.params.ignore_eos = true;
    requests.push_back(std::move(r));
  }
  Generated generated;
  const Status status = run_ranks(golden(name), ranks, [&](Rank& rank) -> Status {
    GeneratorOptions options;
    options.budget = {16, 4, 7, true};
    options.tokens_max = ranks.tokens_max;
    Generator generator(rank.executor, rank.world, rank.groups, requests, options);
    if (Status s = generator.run([](size_t, int32_t) { return false; }); !s.ok()) return s;
    if (!rank.groups.first_stage()) return Status::ok_status();
    for (const GeneratedSequence& s : generator.results()) generated.tokens.push_back(s.tokens);
    if (rank.executor.recorded_steps() != nullptr)
      generated.counts = rank.executor.recorded_steps()->counts();
    generated.rows = rank.model.counters();
    return Status::ok_status();
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return generated;
}

class EmulatedGpu : public testing::TestWithParam<std::string> {};

TEST_P(EmulatedGpu, SaysWhatTheCpuSaysRecordedOrNot) {
  const Generated cpu = generate(GetParam(), "", true);
  EXPECT_EQ(cpu.counts.replayed, 0u) << "a CPU has nothing to record";
  for (const bool record : {false, true}) {
    if (!record && GetParam() != "llama-tied") continue;  // emulated threads are slow
    const Generated gpu = generate(GetParam(), "emulated", record);
    EXPECT_EQ(gpu.tokens, cpu.tokens) << (record ? "recorded" : "plain");
    EXPECT_EQ(gpu.counts.failure, "");
    EXPECT_EQ(gpu.counts.recorded > 0, record);
    EXPECT_EQ(gpu.counts.replayed > gpu.counts.recorded, record);
    // Padding is counted nowhere.
    EXPECT_EQ(gpu.rows.rows_before_exit, cpu.rows.rows_before_exit);
    EXPECT_EQ(gpu.rows.rows_after_exit, cpu.rows.rows_after_exit);
  }
}

// Each stage records its own steps; what passes between them has no padding.
TEST(EmulatedGpus, StagesRecordToo) {
  for (const std::string name : {"llama-tied", "yoco-gret-tiny"}) {
    const Generated cpu = generate(name, "", true);
    const Generated gpu = generate(name, "emulated", true, {2, 1});
    EXPECT_EQ(gpu.tokens, cpu.tokens) << name;
    EXPECT_GT(gpu.counts.replayed, gpu.counts.recorded) << name;
    EXPECT_EQ(gpu.rows.rows_before_exit, cpu.rows.rows_before_exit) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedGpu,
                         testing::Values("llama-tied", "qwen2-swa-partial", "rwkv4-tiny",
                                         "rwkv7-tiny", "yoco-gret-tiny", "yoco-swa-tiny"),
                         [](const testing::TestParamInfo<std::string>& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace trireme::test
