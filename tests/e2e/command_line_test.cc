// The binary as a user runs it: logits of every family at every mesh against the goldens, texts
// that do not depend on the number of ranks, and what the shell sees when something is wrong: one
// sentence and one exit code.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "launcher/exit_code.h"
#include "tests/e2e/program.h"
#include "tests/support/edited_model.h"
#include "tests/support/thread_ranks.h"

namespace trireme::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/tests/golden/data/") + name;
}
std::string demo(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/configs/models/") + name;
}

std::vector<std::string> mesh_flags(int shards, int stages) {
  return {"--tensor-parallel-size",
          std::to_string(shards),
          "--pipeline-parallel-size",
          std::to_string(stages),
          "--threads",
          "1"};
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// ---- logits ----

class Score : public testing::TestWithParam<std::string> {};

TEST_P(Score, LogitsMatchTheGoldenAtEveryMesh) {
  const std::string path = golden(GetParam());
  const auto tokens = read_int64s(path + "/expected.safetensors", "tokens");
  const auto expected = read_floats(path + "/expected.safetensors", "logits");
  ASSERT_TRUE(tokens.ok() && expected.ok());
  const TempFolder folder;
  const std::string token_file = folder.path() + "/tokens.json";
  std::string list;
  for (const int64_t t : *tokens) list += fmt::format("{}{}", list.empty() ? "" : ", ", t);
  std::ofstream(token_file) << "[" << list << "]";

  for (const auto& [shards, stages] : {std::pair{1, 1}, {2, 1}, {1, 2}, {2, 2}}) {
    SCOPED_TRACE(fmt::format("tp {} pp {}", shards, stages));
    const std::string logits_file = folder.path() + "/logits.safetensors";
    const Ended ended =
        run_trireme(std::vector<std::string>{"score", "--model", path, "--tokens-file", token_file,
                                             "--logits", logits_file} +
                    mesh_flags(shards, stages));
    ASSERT_EQ(ended.code, kExitOk) << ended.error;
    const auto logits = read_floats(logits_file, "logits");
    ASSERT_TRUE(logits.ok()) << logits.status().message();
    ASSERT_EQ(logits->size(), expected->size());
    float worst = 0;
    for (size_t i = 0; i < logits->size(); ++i) {
      const float difference = std::abs((*logits)[i] - (*expected)[i]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    }
    EXPECT_LE(worst, 1e-4f);
    std::filesystem::remove(logits_file);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Score,
                         testing::Values("qwen3", "rwkv4-tiny", "rwkv7-tiny", "yoco-gret-tiny",
                                         "yoco-swa-tiny"),
                         [](const testing::TestParamInfo<std::string>& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// ---- texts ----

class Generate : public testing::TestWithParam<std::string> {};

TEST_P(Generate, FourRanksSayWhatOneSays) {
  const std::vector<std::string> args = {
      "generate", "--model", demo(GetParam()), "--dtype",      "float32", "--temperature",
      "0",        "-p",      "The old man",    "--max-tokens", "16"};
  const Ended one = run_trireme(args + mesh_flags(1, 1));
  ASSERT_EQ(one.code, kExitOk) << one.error;
  EXPECT_GT(one.out.size(), std::string("The old man").size() + 8);
  EXPECT_TRUE(one.out.starts_with("The old man")) << one.out;
  const Ended four = run_trireme(args + mesh_flags(2, 2));
  ASSERT_EQ(four.code, kExitOk) << four.error;
  EXPECT_EQ(four.out, one.out);
}

INSTANTIATE_TEST_SUITE_P(Demos, Generate,
                         testing::Values("gqa", "rwkv4", "rwkv7", "yoco-gret", "yoco-swa"),
                         [](const testing::TestParamInfo<std::string>& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GenerateSeeds, TheSameSeedSaysTheSame) {
  const auto say = [](const std::string& seed) {
    const Ended ended = run_trireme({"generate", "-m", demo("gqa"), "-p", "Once", "--max-tokens",
                                     "24", "--temperature", "1", "--seed", seed});
    EXPECT_EQ(ended.code, kExitOk) << ended.error;
    return ended.out;
  };
  EXPECT_EQ(say("7"), say("7"));
  EXPECT_NE(say("7"), say("8"));
}

// ---- what is wrong ----

void expect_message(const Ended& ended, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(ended.code, code) << ended.error;
  EXPECT_EQ(ended.out, "");
  ASSERT_EQ(ended.messages().size(), 1u) << ended.error;
  for (const std::string& part : parts)
    EXPECT_NE(ended.messages()[0].find(part), std::string::npos)
        << "'" << part << "' in: " << ended.messages()[0];
  for (const char* trace : {"terminate called", "what():", "Check failed", "Signal:", "#0 "})
    EXPECT_EQ(ended.error.find(trace), std::string::npos) << ended.error;
}

TEST(Errors, AModelThatIsNotThere) {
  expect_message(run_trireme({"generate", "-m", "/no/such/model", "-p", "x"}), kExitModelInvalid,
                 {"/no/such/model"});
}

TEST(Errors, AMistypedKey) {
  const TempFolder folder;
  std::ofstream(folder.path() + "/deployment.yaml") << "model:\n  pth: x\n";
  expect_message(run_trireme({"generate", "-c", folder.path() + "/deployment.yaml", "-p", "x"}),
                 kExitUsage, {"deployment.yaml:2:3", "'pth'", "'path'"});
}

TEST(Errors, APromptThatIsTooLong) {
  expect_message(run_trireme({"generate", "-m", demo("gqa"), "-p", "a long and winding prompt",
                              "--max-model-len", "4"}),
                 kExitUsage, {"prompt", "context of 4", "max_model_len"});
}

TEST(Errors, AMeshThatDoesNotFitTheModel) {
  expect_message(
      run_trireme({"generate", "-m", demo("gqa"), "-p", "x", "--tensor-parallel-size", "3"}),
      kExitUsage, {"tensor_parallel_size 3", "1, 2, 4, 8"});
}

TEST(Errors, AWorldOfAnotherSize) {
  const Ended ended =
      run_program({TRIREME_MPIRUN, "--oversubscribe", "-n", "3", TRIREME_PROGRAM, "generate", "-m",
                   demo("gqa"), "-p", "x", "--tensor-parallel-size", "2"});
  expect_message(ended, kExitUsage, {"the world has 3 ranks", "mpirun -n 2"});
}

TEST(Errors, ACacheThatHoldsNoSequence) {
  expect_message(run_trireme({"generate", "-m", demo("gqa"), "-p", "x", "--max-tokens", "2000",
                              "--set", "engine.cpu_kv_cache_space=64KiB"}),
                 kExitDoesNotFit, {"cpu_kv_cache_space"});
}

TEST(Errors, ACheckpointThatIsCutShort) {
  const TempFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(demo("gqa")))
    std::filesystem::copy(entry.path(),
                          std::filesystem::path(folder.path()) / entry.path().filename());
  std::filesystem::resize_file(folder.path() + "/model.safetensors", 1000000);
  for (const int shards : {1, 2}) {
    expect_message(
        run_trireme(std::vector<std::string>{"generate", "-m", folder.path(), "-p", "x"} +
                    mesh_flags(shards, 1)),
        kExitModelInvalid, {"model.safetensors", "cut short"});
  }
}

TEST(Errors, AWeightThatIsNotANumber) {
  auto tensors = read_tensors(demo("gqa"));
  ASSERT_TRUE(tensors.ok());
  tensors->at("model.norm.weight").values[5] = std::numeric_limits<float>::quiet_NaN();
  const TempFolder folder;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy(demo("gqa") + "/" + file, folder.path() + "/" + file);
  const auto config = read_json_file(demo("gqa") + "/config.json");
  ASSERT_TRUE(write_model(folder.path(), *config, *tensors).ok());
  const std::string token_file = folder.path() + "/tokens.json";
  std::ofstream(token_file) << "[1, 2, 3]";
  for (const int shards : {1, 2}) {
    expect_message(
        run_trireme(std::vector<std::string>{"generate", "-m", folder.path(), "-p", "x", "--json"} +
                    mesh_flags(shards, 1)),
        kExitRuntime, {"not a number"});
    expect_message(run_trireme(std::vector<std::string>{"score", "-m", folder.path(),
                                                        "--tokens-file", token_file} +
                               mesh_flags(shards, 1)),
                   kExitRuntime, {"not a number"});
  }
}

}  // namespace
}  // namespace trireme::test
