// Every golden (logits of implementations that are not ours, tests/golden/README.md) at every mesh
// that its sizes allow, with ranks as threads; and the Row law on the same models: any chunking,
// any company and any number of pipeline stages give the same bytes.
#include "tests/golden/golden.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

namespace trireme::test {
namespace {

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsMatchAtEveryMesh) {
  const Golden golden = read_golden(GetParam());
  const std::vector<Mesh> meshes = meshes_of(golden);
  EXPECT_GE(meshes.size(), 3u) << "too few meshes fit this golden to prove anything";
  for (const Mesh mesh : meshes) {
    const float difference = max_difference(golden, score(golden, options_for(golden, mesh)));
    EXPECT_LE(difference, kTolerance) << "tp " << mesh.shards << " pp " << mesh.stages;
  }
}

TEST_P(GoldenTest, ReferenceDeviceMatches) {
  const Golden golden = read_golden(GetParam());
  RankOptions options = options_for(golden, {1, 1});
  options.isa = "ref";
  EXPECT_LE(max_difference(golden, score(golden, options)), kTolerance);
}

// Shards and stages on emulated GPUs, which meet by way of the host.
TEST(EmulatedGpus, MatchAtMeshes) {
  for (const std::string name : {"qwen3", "rwkv7-tiny", "yoco-swa-tiny"}) {
    const Golden golden = read_golden(name);
    for (const Mesh mesh : {Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}}) {
      RankOptions options = options_for(golden, mesh);
      options.isa = "emulated";
      EXPECT_LE(max_difference(golden, score(golden, options, 24)), 2e-4f)
          << name << " tp " << mesh.shards << " pp " << mesh.stages;
    }
  }
}

TEST_P(GoldenTest, AnyChunkingAndAnyNumberOfStagesGiveTheSameBytes) {
  const Golden golden = read_golden(GetParam());
  const std::vector<float> whole = score(golden, options_for(golden, {1, 1}));
  for (const uint32_t chunk : {1u, 7u, 64u}) {
    EXPECT_EQ(whole, score(golden, options_for(golden, {1, 1}), chunk)) << "chunk " << chunk;
  }
  for (const Mesh mesh : meshes_of(golden)) {
    if (mesh.shards != 1) continue;
    EXPECT_EQ(whole, score(golden, options_for(golden, mesh), 7)) << "pp " << mesh.stages;
  }
  RankOptions threaded = options_for(golden, {1, 1});
  threaded.threads = 2;
  EXPECT_EQ(whole, score(golden, threaded)) << "two threads";
}

TEST_P(GoldenTest, ManySequencesTogetherEqualEachAlone) {
  const Golden golden = read_golden(GetParam());
  const size_t n = std::min<size_t>(golden.tokens.size(), 60);
  std::vector<std::vector<int32_t>> sequences;
  for (size_t i = 0; i < 4; ++i) {  // different lengths and rotations of the golden's tokens
    std::vector<int32_t> tokens(golden.tokens.begin(),
                                golden.tokens.begin() + static_cast<std::ptrdiff_t>(n - 2 * i));
    std::rotate(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(3 * i % tokens.size()),
                tokens.end());
    sequences.push_back(tokens);
  }
  const Mesh mesh = meshes_of(golden).back();
  const auto together = score_sequences(golden.path, options_for(golden, mesh), sequences, 5);
  ASSERT_TRUE(together.ok()) << together.status().message();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto alone = score_sequences(golden.path, options_for(golden, mesh), {sequences[i]}, 0);
    ASSERT_TRUE(alone.ok()) << alone.status().message();
    EXPECT_EQ((*together)[i], (*alone)[0]) << "sequence " << i;
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& parameter) {
  std::string name = parameter.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(golden_names()), test_name);
// ---- negative controls: mistakes must show ----

struct Control {
  std::string golden, mistake;
  Json edit;
  double difference_min = 0;
};

std::vector<Control> read_controls() {
  const auto json = read_json_file(kGoldens + "/negative_controls.json");
  CHECK(json.ok()) << json.status().message();
  std::vector<Control> controls;
  for (const Json& c : json->get_array()) {
    controls.push_back({std::string(c.at("golden").as_string()),
                        std::string(c.at("mistake").as_string()), c.at("edit"),
                        c.at("expect_min_diff").to_number<double>()});
  }
  return controls;
}

// Sets what a JSON pointer (RFC 6901, without escapes) names, making the last key where it is
// absent.
void set_at(Json& root, std::string_view pointer, const Json& value) {
  Json* here = &root;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const size_t slash = std::min(pointer.find('/'), pointer.size());
    const std::string_view key = pointer.substr(0, slash);
    here = here->is_array() ? &here->as_array()[std::stoul(std::string(key))]
                            : &here->as_object()[key];
    pointer.remove_prefix(slash);
  }
  *here = value;
}

TEST(NegativeControls, EditedConfigsMissTheGoldens) {
  const std::vector<Control> controls = read_controls();
  ASSERT_GE(controls.size(), 80u);
  const std::filesystem::path scratch =
      std::filesystem::temp_directory_path() / ("trireme_controls_" + std::to_string(getpid()));
  for (const Control& control : controls) {
    SCOPED_TRACE(control.golden + ": " + control.mistake);
    const Golden original = read_golden(control.golden);
    Json config = *read_json_file(original.path + "/config.json");
    for (const auto& [pointer, value] : control.edit.as_object()) set_at(config, pointer, value);
    std::filesystem::remove_all(scratch);
    std::filesystem::create_directory(scratch);
    std::filesystem::copy(original.path + "/model.safetensors", scratch / "model.safetensors");
    std::ofstream(scratch / "config.json") << boost::json::serialize(config);
    const auto logits =
        score_sequences(scratch, options_for(original, {1, 1}), {original.tokens}, 0);
    ASSERT_TRUE(logits.ok()) << logits.status().message();
    EXPECT_GE(max_difference(original, (*logits)[0]), control.difference_min);
  }
  std::filesystem::remove_all(scratch);
}

// Mistakes that no config can express, made by editing the spec.
TEST(NegativeControls, WrongRotationMissesTheGoldens) {
  for (const std::string name : {"llama-gqa", "yoco-gret-tiny", "yoco-swa-tiny"}) {
    const Golden golden = read_golden(name);
    RankOptions options = options_for(golden, {1, 1});
    options.edit_spec = [](ModelSpec& spec) {
      for (RopeSpec& rope : spec.ropes) {
        rope.style =
            rope.style == RopeStyle::kHalves ? RopeStyle::kInterleaved : RopeStyle::kHalves;
      }
    };
    EXPECT_GE(max_difference(golden, score(golden, options)), 1e-2f) << name;
  }
}

TEST(NegativeControls, EmbeddingWithoutScaleOrNormMissesTheGoldens) {
  const auto edited = [](const std::string& name, std::function<void(ModelSpec&)> edit) {
    const Golden golden = read_golden(name);
    RankOptions options = options_for(golden, {1, 1});
    options.edit_spec = std::move(edit);
    return max_difference(golden, score(golden, options));
  };
  EXPECT_GE(edited("yoco-gret-tiny", [](ModelSpec& spec) { spec.embedding_scale = 1; }), 1.0f);
  EXPECT_GE(edited("rwkv7-tiny", [](ModelSpec& spec) { spec.embedding_norm.clear(); }), 1.0f);
  EXPECT_GE(edited("rwkv4-tiny", [](ModelSpec& spec) { spec.embedding_norm.clear(); }), 1.0f);
}

TEST(NegativeControls, FeedForwardBranchesSwappedMissTheGoldens) {
  for (const std::string name : {"llama-gqa", "yoco-gret-tiny"}) {
    const Golden golden = read_golden(name);
    RankOptions options = options_for(golden, {1, 1});
    options.edit_spec = [](ModelSpec& spec) {
      for (SublayerSpec& sub : spec.sublayers) {
        if (sub.kind == SublayerKind::kSwiGlu) std::swap(sub.tensors["gate"], sub.tensors["up"]);
      }
    };
    EXPECT_GE(max_difference(golden, score(golden, options)), 1e-2f) << name;
  }
}

}  // namespace
}  // namespace trireme::test
