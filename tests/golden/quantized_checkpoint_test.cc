// Models of checkpoints that are quantized: the same bytes as the model whose weights are the same
// numbers in f32, on every mesh that the sizes allow. So what a checkpoint holds comes to the
// products as it stands there: stacked, cut, and multiplied.
#include <algorithm>
#include <fstream>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "kernels/base/quantize.h"
#include "runtime/model/weights/safetensors_writer.h"
#include "tests/golden/golden.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

struct Method {
  std::string name;
  WeightFormat format;
  const char* config;  // its quantization_config
  std::string scale;   // what comes after a weight's name for its scales
};
const Method kMethods[] = {
    {"fp8", {WeightType::kFp8, 0}, R"({"quant_method": "fp8"})", "_scale"},
    {"int8",
     {WeightType::kInt8, 32},
     R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {
         "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int",
         "symmetric": true, "strategy": "group", "group_size": 32}}}})",
     "_scale"},
    // Smaller groups than devices take: its numbers are kept as floats.
    {"int8_in_16",
     {WeightType::kInt8, 16},
     R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {
         "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int",
         "symmetric": true, "strategy": "group", "group_size": 16}}}})",
     "_scale"},
};
void PrintTo(const Method& method, std::ostream* stream) { *stream << method.name; }

bool is_projection(const std::string& name) {
  return name.find("_proj.weight") != std::string::npos;
}

// Two folders: the checkpoint with projections quantized, and the one with their numbers.
class QuantizedCheckpoint : public testing::TestWithParam<Method> {
 protected:
  void make(const Golden& golden) {
    Json config = *read_json_file(golden.path + "/config.json");
    EditedTensors tensors = *read_tensors(golden.path);
    std::vector<TensorToWrite> files;
    std::vector<QuantizedRows> kept;
    std::vector<std::vector<float>> scales;
    kept.reserve(tensors.size());
    scales.reserve(tensors.size());
    for (auto& [name, tensor] : tensors) {
      if (!is_projection(name)) {
        files.push_back({make_tensor_info(name, DType::kF32, tensor.shape),
                         std::as_bytes(std::span(tensor.values))});
        continue;
      }
      const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
      kept.push_back(
          quantize({tensor.values.data(), rows, cols, DType::kF32}, GetParam().format).take());
      const QuantizedRows& q = kept.back();
      for (int64_t r = 0; r < rows; ++r)
        dequantize_row(q.view(), r, tensor.values.data() + r * cols);
      scales.emplace_back();
      for (const GroupScale word : q.scales) scales.back().push_back(scale_of(word));
      TensorInfo codes = make_tensor_info(name, DType::kI8, {rows, cols});
      if (GetParam().format.type == WeightType::kFp8) {
        codes.dtype_name = "F8_E4M3";
        codes.dtype.reset();
      }
      files.push_back({codes, std::as_bytes(std::span(q.codes))});
      files.push_back(
          {make_tensor_info(name + GetParam().scale, DType::kF32, {rows, q.format.groups(cols)}),
           std::as_bytes(std::span(scales.back()))});
    }
    ASSERT_FALSE(kept.empty());
    ASSERT_TRUE(write_model(plain_.path(), config, tensors).ok());
    const Status written = write_safetensors(quantized_.path() + "/model.safetensors", files);
    ASSERT_TRUE(written.ok()) << written.message();
    config.as_object()["quantization_config"] = boost::json::parse(GetParam().config);
    std::ofstream(quantized_.path() + "/config.json") << boost::json::serialize(config);
  }

  static std::vector<float> logits(const std::string& path, const Golden& golden, Mesh mesh) {
    auto logits = score_sequences(path, options_for(golden, mesh), {golden.tokens}, 11);
    EXPECT_TRUE(logits.ok()) << logits.status().message();
    return logits.ok() ? (*logits)[0] : std::vector<float>();
  }

  TempFolder plain_, quantized_;
};

TEST_P(QuantizedCheckpoint, IsTheModelOfItsNumbers) {
  const Golden golden = read_golden("qwen3");
  make(golden);
  for (const Mesh mesh : {Mesh{1, 1}, Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}}) {
    SCOPED_TRACE(testing::Message() << "tp " << mesh.shards << " pp " << mesh.stages);
    const std::vector<float> want = logits(plain_.path(), golden, mesh);
    EXPECT_EQ(logits(quantized_.path(), golden, mesh), want);
    EXPECT_GT(max_difference(golden, want), 1e-3f) << "nothing was quantized";
  }
}

TEST_P(QuantizedCheckpoint, SaysWhatIsMissing) {
  const Golden golden = read_golden("qwen3");
  make(golden);
  auto tensors = open_checkpoint(quantized_.path());
  ASSERT_TRUE(tensors.ok());
  std::vector<TensorToWrite> files;
  for (const TensorInfo& info : (*tensors)->tensors()) {
    if (info.name != "model.layers.1.mlp.down_proj.weight_scale")
      files.push_back({info, *(*tensors)->bytes(info)});
  }
  TempFolder broken;
  ASSERT_TRUE(write_safetensors(broken.path() + "/model.safetensors", files).ok());
  std::ofstream(broken.path() + "/config.json")
      << std::ifstream(quantized_.path() + "/config.json").rdbuf();
  const auto refused = score_sequences(broken.path(), options_for(golden, {1, 1}), {{1, 2}}, 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("down_proj.weight"), std::string::npos)
      << refused.status().message();
}

INSTANTIATE_TEST_SUITE_P(Methods, QuantizedCheckpoint, testing::ValuesIn(kMethods),
                         [](const auto& method) { return method.param.name; });

}  // namespace
}  // namespace trireme::test
