#include "tests/golden/golden.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace trireme::test {

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (std::filesystem::exists(entry.path() / "expected.safetensors"))
      names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Golden read_golden(const std::string& name) {
  Golden golden;
  golden.path = kGoldens + "/" + name;
  const std::string file = golden.path + "/expected.safetensors";
  const auto tokens = read_int64s(file, "tokens");
  CHECK(tokens.ok()) << tokens.status().message();
  golden.tokens.assign(tokens->begin(), tokens->end());
  golden.expected = *read_floats(file, "logits");
  if (auto rows = read_int64s(file, "rows"); rows.ok()) {
    golden.rows = *rows;
  } else {
    for (size_t i = 0; i < golden.tokens.size(); ++i)
      golden.rows.push_back(static_cast<int64_t>(i));
  }
  return golden;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK(a.size() == b.size());
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float d = std::abs(a[i] - b[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

float max_difference(const Golden& golden, const std::vector<float>& logits) {
  const size_t vocab = golden.expected.size() / golden.rows.size();
  CHECK(logits.size() == golden.tokens.size() * vocab);
  float worst = 0;
  for (size_t i = 0; i < golden.rows.size(); ++i) {
    for (size_t v = 0; v < vocab; ++v) {
      const float difference =
          std::abs(logits[golden.rows[i] * vocab + v] - golden.expected[i * vocab + v]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    }
  }
  return worst;
}

std::vector<Mesh> meshes_of(const Golden& golden) {
  const auto checkpoint = open_checkpoint(golden.path);
  const auto spec = read_model_spec(golden.path, checkpoint->get());
  CHECK(spec.ok()) << spec.status().message();
  std::vector<Mesh> meshes;
  for (const Mesh mesh :
       {Mesh{1, 1}, Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}, Mesh{3, 1}, Mesh{1, 3}, Mesh{1, 4}}) {
    if (check_mesh(*spec, mesh).ok()) meshes.push_back(mesh);
  }
  return meshes;
}

RankOptions options_for(const Golden& golden, Mesh mesh) {
  RankOptions options;
  options.mesh = mesh;
  options.rows_max = std::max<int64_t>(static_cast<int64_t>(golden.tokens.size()), 64);
  options.tokens_max = static_cast<uint32_t>(golden.tokens.size());
  return options;
}

std::vector<float> score(const Golden& golden, const RankOptions& options, uint32_t chunk) {
  auto logits = score_sequences(golden.path, options, {golden.tokens}, chunk);
  CHECK(logits.ok()) << logits.status().message();
  return (*logits)[0];
}

}  // namespace trireme::test
