// What a rehearsal says of a device's memory is so: afterwards no step makes it allocate anything.
#include "runtime/engine/rehearsal.h"

#include <gtest/gtest.h>

#include "comm/in_process/in_process.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/device_sampler.h"
#include "runtime/model/families/families.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {
namespace {

// A rank on the emulated GPU, with a golden's model.
struct Loaded {
  explicit Loaded(const std::string& golden, int64_t rows_max) {
    const std::string path = std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + golden;
    device = make_cuda_device({}).take();
    world = std::move(make_in_process_world(1)[0]);
    groups = std::make_unique<Groups>(make_groups(*world, {1, 1}).take());
    const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path).take();
    spec = read_model_spec(path, checkpoint.get()).take();
    ModelLoad load;
    load.weights.choice = {DType::kBF16, std::nullopt};
    load.cache_dtype = DType::kBF16;
    load.rows_max = rows_max;
    load.logit_rows_max = 10;
    load.block_tokens = 8;
    model = Model::load(spec, *checkpoint, *device, *groups, load).take();
  }
  uint64_t used() const {
    EXPECT_TRUE(device->synchronize().ok());
    const DeviceMemory memory = device->memory();
    return memory.bytes_total - memory.bytes_free;
  }
  Result<uint64_t> rehearse(const ExecutorOptions& options) {
    return trireme::rehearse(*device, *world, *groups, *model, options);
  }
  std::unique_ptr<Executor> make_executor(const ExecutorOptions& options) {
    return Executor::make(*device, *world, *groups, *model, options).take();
  }

  ModelSpec spec;  // outlives the model
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> world;
  std::unique_ptr<Groups> groups;
  std::unique_ptr<Model> model;
};

// Draws with edits from every row.
class Drawing final : public LogitsUser {
 public:
  explicit Drawing(DeviceSampler* sampler) : sampler_(sampler) {}
  Status queue(int64_t, ConstTensorView logits, std::vector<uint8_t>& wanted) override {
    std::vector<SampleRow> rows;
    std::vector<LogitEdit> edits(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      SampleRow row;
      row.row = static_cast<int32_t>(i);
      row.top_k = 5;
      row.top_p = 0.9f;
      row.u = 0.3;
      row.first_edit = static_cast<int32_t>(i);
      row.edits = 1;
      rows.push_back(row);
    }
    return sampler_->sample(logits, {rows, edits, {}});
  }
  Status take(int64_t, TensorView) override { return Status::ok_status(); }
  Status take_likeliest(int64_t, std::span<const int32_t>) override { return Status::ok_status(); }

 private:
  DeviceSampler* sampler_;
};

// `sequences` of `tokens` each: their prompts, then a decode.
void run(Executor& executor, size_t sequences, uint32_t tokens) {
  std::vector<BlockPool> pools;
  for (const uint32_t total : executor.blocks_total()) pools.emplace_back(total);
  std::vector<SequenceBlocks> blocks(sequences, SequenceBlocks(executor.layout()));
  const std::vector<int32_t> ids(tokens + 1, 3);
  Drawing user(executor.sampler());
  for (const auto& [first, end] : {std::pair(0u, tokens), {tokens, tokens + 1}}) {
    std::vector<SequenceRun> runs;
    for (SequenceBlocks& b : blocks) {
      ASSERT_TRUE(b.advance(pools, first, end));
      runs.push_back({&b, first, std::span(ids).subspan(first, end - first)});
    }
    for (int times = 0; times < 3; ++times) {
      executor.prepare(runs);
      ASSERT_TRUE(executor.compute(&user).ok());
    }
  }
}

ExecutorOptions ten_sequences(uint32_t tokens, uint32_t chunk) {
  ExecutorOptions options;
  options.tokens_max = tokens;
  options.chunk_max = chunk;
  options.sequences_max = 10;
  options.cache_bytes = uint64_t{32} << 20;
  return options;
}

class Rehearsal : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Families, Rehearsal,
                         testing::Values("llama-gqa", "mistral-window", "rwkv7-tiny", "rwkv4-tiny",
                                         "yoco-gret-tiny"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST_P(Rehearsal, AfterItNoStepTakesMore) {
  Loaded rank(GetParam(), 40);
  const ExecutorOptions options = ten_sequences(50, 24);
  const uint64_t before = rank.used();
  const Result<uint64_t> beside = rank.rehearse(options);
  ASSERT_TRUE(beside.ok()) << beside.status().message();
  const uint64_t after = rank.used();
  EXPECT_GT(after, before);  // scratch memory stays
  const std::unique_ptr<Executor> executor = rank.make_executor(options);
  const uint64_t made = rank.used();
  // Allocations are rounded up to 256 bytes, and there are a few.
  EXPECT_NEAR(static_cast<double>(made),
              static_cast<double>(after + *beside + executor->cache_bytes()), 16 * 256);
  for (const auto& [sequences, tokens] :
       {std::pair(size_t{2}, 20u), {size_t{3}, 13u}, {size_t{10}, 4u}, {size_t{7}, 2u}})
    run(*executor, sequences, tokens);
  EXPECT_EQ(rank.used(), made);
}

TEST(RehearsalShapes, SequencesThatAreShorterThanAStep) {
  Loaded rank("llama-gqa", 40);
  const ExecutorOptions options = ten_sequences(15, 15);
  ASSERT_TRUE(rank.rehearse(options).ok());
  const std::unique_ptr<Executor> executor = rank.make_executor(options);
  const uint64_t made = rank.used();
  run(*executor, 3, 13);
  run(*executor, 10, 2);
  EXPECT_EQ(rank.used(), made);
}

// One sequence does not fit into the cache: the sentence of the executor.
TEST(RehearsalShapes, WhatDoesNotFit) {
  Loaded rank("llama-gqa", 72);
  ExecutorOptions options;
  options.tokens_max = options.chunk_max = 64;
  options.sequences_max = 4;
  options.cache_bytes = 100;
  const uint64_t before = rank.used();
  const Result<uint64_t> beside = rank.rehearse(options);
  EXPECT_EQ(beside.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(beside.status().message().find("one sequence of 64 tokens needs"), std::string::npos)
      << beside.status().message();
  EXPECT_EQ(rank.used(), before);
}

}  // namespace
}  // namespace trireme
