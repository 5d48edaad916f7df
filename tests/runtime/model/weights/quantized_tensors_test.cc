// Quantized checkpoints against what the packages that write them say they mean: each fixture was
// packed and dequantized by AutoGPTQ, GPTQModel, AutoRound, AutoAWQ, compressed-tensors or
// transformers.
#include "runtime/model/weights/quantized_tensors.h"

#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/runtime/model/weights/quantized_fixtures.h"

namespace trireme {
namespace {

const WeightFormat kInt4Rows(WeightType::kInt4, 0);
const WeightFormat kInt8Rows(WeightType::kInt8, 0);
const WeightFormat kFp8Rows(WeightType::kFp8, 0);

WeightFormat int4(int32_t group) { return {WeightType::kInt4, group}; }
WeightFormat fp8(int32_t group) { return {WeightType::kFp8, group}; }

const std::map<std::string, WeightFormat> kFormats = {
    {"gptq_4", int4(128)},          {"gptq_4_rows", kInt4Rows},
    {"gptq_order", DType::kF16},    {"gptq_v1", int4(32)},
    {"gptq_v2", int4(64)},          {"gptq_v1_8", {WeightType::kInt8, 32}},
    {"auto_round", int4(32)},       {"awq_128", int4(128)},
    {"awq_32", int4(32)},           {"ct_pack_4", int4(128)},
    {"ct_pack_4_zeros", int4(32)},  {"ct_pack_4_odd", DType::kBF16},
    {"ct_pack_8_zeros", kInt8Rows}, {"ct_order", DType::kBF16},
    {"ct_int_8", kInt8Rows},        {"ct_int_8_zeros", kInt8Rows},
    {"ct_fp8_tensor", kFp8Rows},    {"ct_fp8_channel", kFp8Rows},
    {"ct_fp8_block", fp8(64)},      {"fp8_block", fp8(128)},
    {"fp8_powers", fp8(64)},        {"fp8_tensor", kFp8Rows},
};

std::vector<float> dequantized(const QuantizedRows& rows) {
  std::vector<float> numbers(static_cast<size_t>(rows.rows * rows.cols));
  for (int64_t r = 0; r < rows.rows; ++r)
    dequantize_row(rows.view(), r, numbers.data() + r * rows.cols);
  return numbers;
}

// Numbers of a whole matrix; `relative` is the difference allowed.
void expect_official(const QuantizedFixture& f, const std::vector<float>& numbers, float relative) {
  ASSERT_EQ(numbers.size(), static_cast<size_t>(f.rows * f.cols));
  ASSERT_EQ(f.expected.size(), (numbers.size() + f.stride - 1) / f.stride);
  for (size_t i = 0; i < f.expected.size(); ++i) {
    const float got = numbers[i * static_cast<size_t>(f.stride)];
    ASSERT_LE(std::abs(got - f.expected[i]), relative * std::abs(f.expected[i]))
        << f.stem << ", number " << i * static_cast<size_t>(f.stride) << ": " << got << ", not "
        << f.expected[i];
  }
}

bool scales_are_f32(const QuantizedFixture& f) {
  for (const auto& [name, tensor] : f.tensors)
    if (name.find("scale") != std::string::npos && tensor.info.dtype == DType::kF32) return true;
  return false;
}

TEST(QuantizedTensors, EveryFixtureHasItsFormat) {
  std::set<std::string> seen;
  for (const QuantizedFixture& f : quantized_fixtures()) {
    const MemoryCheckpoint checkpoint(f.tensors);
    const auto format = f.method()->format(checkpoint, f.weight(), f.rows, f.cols);
    ASSERT_TRUE(format.ok()) << f.stem << ": " << format.status().message();
    ASSERT_TRUE(kFormats.contains(f.stem)) << f.stem;
    EXPECT_EQ(*format, kFormats.at(f.stem)) << f.stem << ": " << weight_format_name(*format);
    seen.insert(f.stem);
  }
  EXPECT_EQ(seen.size(), kFormats.size());
}

// Bit for bit, but for scales of f32, of which our format keeps 16 bits.
TEST(QuantizedTensors, RowsAreWhatTheOfficialDequantizerGives) {
  for (const QuantizedFixture& f : quantized_fixtures()) {
    const MemoryCheckpoint checkpoint(f.tensors);
    const auto method = f.method();
    if (!method->format(checkpoint, f.weight(), f.rows, f.cols)->quantized()) continue;
    const auto rows = method->rows(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
    ASSERT_TRUE(rows.ok()) << f.stem << ": " << rows.status().message();
    EXPECT_EQ(rows->format, kFormats.at(f.stem));
    for (const GroupScale word : rows->scales) EXPECT_EQ(word >> 31, 0u) << f.stem;
    expect_official(f, dequantized(*rows), scales_are_f32(f) ? 0x1p-16f : 0.0f);
  }
}

TEST(QuantizedTensors, FloatsAreWhatTheOfficialDequantizerGives) {
  for (const QuantizedFixture& f : quantized_fixtures()) {
    const MemoryCheckpoint checkpoint(f.tensors);
    const auto floats = f.method()->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
    ASSERT_TRUE(floats.ok()) << f.stem << ": " << floats.status().message();
    expect_official(f, *floats, 0.0f);
  }
}

// Ranges that begin and end inside words, blocks and tiles.
TEST(QuantizedTensors, ARangeOfRowsIsThatPartOfTheWhole) {
  for (const QuantizedFixture& f : quantized_fixtures()) {
    const MemoryCheckpoint checkpoint(f.tensors);
    const auto method = f.method();
    const bool quantized = method->format(checkpoint, f.weight(), f.rows, f.cols)->quantized();
    const auto whole = *method->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
    for (const auto& [first, count] : std::initializer_list<std::pair<int64_t, int64_t>>{
             {0, 0}, {0, 1}, {3, 6}, {f.rows - 1, 1}, {f.rows, 0}, {1, f.rows - 1}}) {
      const std::vector<float> part(whole.begin() + first * f.cols,
                                    whole.begin() + (first + count) * f.cols);
      EXPECT_EQ(*method->floats(checkpoint, f.weight(), f.rows, f.cols, first, count), part)
          << f.stem << " " << first;
      if (!quantized) continue;
      const auto all = *method->rows(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
      const auto rows = *method->rows(checkpoint, f.weight(), f.rows, f.cols, first, count);
      EXPECT_EQ(rows.rows, count);
      const std::vector<uint8_t> codes(all.codes.begin() + first * f.cols,
                                       all.codes.begin() + (first + count) * f.cols);
      EXPECT_EQ(rows.codes, codes) << f.stem << " " << first;
      EXPECT_EQ(dequantized(rows).size(), part.size());
      const int64_t groups = all.format.groups(f.cols);
      EXPECT_TRUE(
          std::equal(rows.scales.begin(), rows.scales.end(), all.scales.begin() + first * groups));
    }
  }
}

TEST(QuantizedTensors, PartsAreTheTensorsOfTheWeight) {
  for (const QuantizedFixture& f : quantized_fixtures()) {
    const auto method = f.method();
    auto tensors = f.tensors;
    for (const char* other : {"a.weight", "a.bias"})
      tensors[other] = {make_tensor_info(other, DType::kF32, {1}), std::vector<std::byte>(4)};
    const MemoryCheckpoint checkpoint(tensors);
    EXPECT_TRUE(method->holds(checkpoint, f.weight())) << f.stem;
    std::vector<std::string> names;
    for (const auto& [name, tensor] : f.tensors) names.push_back(name);
    EXPECT_EQ(method->parts(checkpoint, f.weight()), names) << f.stem;
    for (const char* name : {"a.weight", "a.bias", "b.weight", "", "weight"})
      EXPECT_FALSE(method->holds(checkpoint, name)) << f.stem << ": " << name;
  }
}

// Where the checkpoint's groups are larger than ours, several words are the same.
TEST(QuantizedTensors, LargeGroupsAreRepeated) {
  QuantizedFixture f = quantized_fixture("ct_pack_4");  // 16 x 256 in groups of 128
  f.config.at_pointer("/quantization_config/config_groups/group_0/weights/group_size") = 256;
  MemoryTensor& scales = f.tensors["ct_pack_4.weight_scale"];
  f.cols = 256;
  scales.info.shape = {16, 1};
  scales.info.bytes /= 2;
  scales.bytes.resize(scales.info.bytes);
  EXPECT_EQ(*f.method()->format(MemoryCheckpoint(f.tensors), f.weight(), f.rows, f.cols),
            kInt4Rows);

  QuantizedFixture g = quantized_fixture("fp8_block");  // 20 x 144 in blocks of 16 x 128
  g.config.at_pointer("/quantization_config/weight_block_size/1") = 96;
  const MemoryCheckpoint checkpoint(g.tensors);
  const auto rows = *g.method()->rows(checkpoint, g.weight(), g.rows, g.cols, 0, g.rows);
  EXPECT_EQ(rows.format, fp8(32));
  EXPECT_EQ(rows.scales[0], rows.scales[2]);
  EXPECT_NE(rows.scales[0], rows.scales[3]);
  EXPECT_EQ(rows.scales[3], rows.scales[4]);
  const auto floats = *g.method()->floats(checkpoint, g.weight(), g.rows, g.cols, 0, g.rows);
  const std::vector<float> numbers = dequantized(rows);
  for (size_t i = 0; i < floats.size(); ++i)
    ASSERT_LE(std::abs(numbers[i] - floats[i]), 0x1p-16f * std::abs(floats[i]));
}

// GPTQModel's `dynamic` gives modules widths and groups of their own.
TEST(QuantizedTensors, GptqModulesMayHaveSizesOfTheirOwn) {
  QuantizedFixture f = quantized_fixture("gptq_v1_8");  // 8 bits in groups of 32
  auto& config = f.config.at_pointer("/quantization_config").get_object();
  config["bits"] = 4;
  config["group_size"] = 128;
  const MemoryCheckpoint checkpoint(f.tensors);
  EXPECT_FALSE(f.method()->format(checkpoint, f.weight(), f.rows, f.cols).ok());
  config["dynamic"] = boost::json::object{{"+:.*", boost::json::object{{"bits", 8}}}};
  expect_official(f, *f.method()->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows), 0.0f);
}

// Two groups that differ only in symmetry: whether there are zeros tells, and zeros that a
// symmetric group alone could mean are not read.
TEST(QuantizedTensors, CompressedTensorsOfASymmetricGroupAndOneThatIsNot) {
  QuantizedFixture f = quantized_fixture("ct_pack_4_zeros");
  auto& groups = f.config.at_pointer("/quantization_config/config_groups").get_object();
  const Json with_zeros = groups["group_0"];
  groups["group_0"].at_pointer("/weights/symmetric") = true;
  groups["group_1"] = with_zeros;
  const MemoryCheckpoint checkpoint(f.tensors);
  expect_official(f, *f.method()->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows), 0.0f);
  groups.erase("group_1");
  const auto idle = f.method()->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
  ASSERT_TRUE(idle.ok()) << idle.status().message();
  f.tensors.erase("ct_pack_4_zeros.weight_zero_point");
  EXPECT_EQ(*idle, *f.method()->floats(MemoryCheckpoint(f.tensors), f.weight(), f.rows, f.cols, 0,
                                       f.rows));
}

// The tensors tell which of several config groups is meant.
TEST(QuantizedTensors, CompressedTensorsOfSeveralGroups) {
  QuantizedFixture four = quantized_fixture("ct_pack_4_zeros");
  const QuantizedFixture eight = quantized_fixture("ct_fp8_channel");
  const auto group_of = [](const QuantizedFixture& f) {
    auto group = f.config.at_pointer("/quantization_config/config_groups/group_0").get_object();
    group["format"] = f.config.at_pointer("/quantization_config/format");
    return group;
  };
  auto& config = four.config.at_pointer("/quantization_config").get_object();
  const auto first = group_of(four);
  config["config_groups"] = boost::json::object{{"group_0", group_of(eight)}, {"group_1", first}};
  config["format"] = "mixed-precision";
  auto tensors = four.tensors;
  tensors.insert(eight.tensors.begin(), eight.tensors.end());
  const MemoryCheckpoint checkpoint(tensors);
  const auto method = four.method();
  for (const QuantizedFixture* f : {&std::as_const(four), &eight}) {
    const auto floats = method->floats(checkpoint, f->weight(), f->rows, f->cols, 0, f->rows);
    ASSERT_TRUE(floats.ok()) << floats.status().message();
    expect_official(*f, *floats, 0.0f);
  }
}

TEST(QuantizedTensors, AConfigWithoutQuantizationHasNone) {
  for (const char* text : {R"({})", R"({"quantization_config": null})"}) {
    const auto made = quantized_tensors(*parse_json(text), "config.json");
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(*made, nullptr);
  }
}

// With the fields beside ours that published models have.
TEST(QuantizedTensors, ConfigsAsToolsWriteThemAreRead) {
  const std::pair<const char*, const char*> configs[] = {
      {"gptq", R"({"bits": 4, "dataset": null, "desc_act": false, "exllama_config": {"version": 1},
          "group_size": 128, "modules_in_block_to_quantize": null, "quant_method": "gptq",
          "sym": true, "true_sequential": true, "use_exllama": true})"},
      {"gptq", R"({"bits": 4, "checkpoint_format": "gptq", "desc_act": false, "dynamic": null,
          "format": "gptq", "group_size": 128, "lm_head": false, "meta": {"damp_percent": 0.1,
          "quantizer": ["gptqmodel:2.0.0"]}, "pack_dtype": "int32", "quant_method": "gptq",
          "is_marlin_format": false, "sym": true, "adapter": null})"},
      {"awq", R"({"backend": "autoawq", "bits": 4, "do_fuse": false, "exllama_config": null,
          "group_size": 128, "modules_to_not_convert": null, "quant_method": "awq",
          "version": "gemm", "zero_point": true})"},
      {"gptq", R"({"bits": 4, "group_size": 128, "sym": true, "data_type": "int", "iters": 200,
          "autoround_version": "0.5.1", "quant_method": "auto-round",
          "packing_format": "auto_round:auto_gptq"})"},
      {"compressed-tensors", R"({"config_groups": {"group_0": {"input_activations":
          {"dynamic": true, "num_bits": 8, "strategy": "token", "type": "float"},
          "output_activations": null, "targets": ["Linear"], "weights": {"actorder": null,
          "block_structure": null, "dynamic": false, "group_size": null, "num_bits": 8,
          "observer": "minmax", "observer_kwargs": {}, "strategy": "channel", "symmetric": true,
          "type": "float"}}}, "format": "float-quantized", "global_compression_ratio": 1.5,
          "ignore": ["lm_head"], "kv_cache_scheme": null, "quant_method": "compressed-tensors",
          "quantization_status": "compressed", "sparsity_config": {}, "transform_config": {},
          "version": "0.10.0"})"},
      {"fp8", R"({"activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": [],
          "quant_method": "fp8", "weight_block_size": [128, 128]})"},
  };
  for (const auto& [name, text] : configs) {
    const auto made = quantized_tensors(
        *parse_json(std::string(R"({"quantization_config": )") + text + "}"), "config.json");
    ASSERT_TRUE(made.ok()) << made.status().message();
    ASSERT_NE(*made, nullptr);
    EXPECT_EQ((*made)->name(), name);
  }
}

TEST(QuantizedTensors, WhatIsNotReadIsSaidByFieldAndValue) {
  struct Refused {
    const char* quantization_config;
    const char* said;
  };
  const std::string weights = R"({"quant_method": "compressed-tensors", "config_groups": {"g": )";
  const std::string packed = R"(}, "format": "pack-quantized"})";
  const std::string three = weights + R"({"weights": {"num_bits": 3, "type": "int"}})" + packed;
  const std::string preset = weights + R"(["Linear"])" + packed;
  const std::string strategy =
      weights + R"({"weights": {"num_bits": 4, "strategy": "tensor_group"}})" + packed;
  const std::string group =
      weights + R"({"weights": {"num_bits": 4, "strategy": "group"}})" + packed;
  const std::string nvfp4 = weights + R"({"format": "nvfp4-pack-quantized", "weights": {}}}})";
  const std::string sparse = R"({"quant_method": "compressed-tensors", "config_groups": {},
      "sparsity_config": {"format": "sparse-24-bitmask"}})";
  const Refused refused[] = {
      {R"({"quant_method": "bitsandbytes"})", "'quant_method' is 'bitsandbytes'; what is read is"},
      {R"({"quant_method": "modelopt"})", "'quant_method' is 'modelopt'"},
      {R"({"quant_method": "mxfp4"})", "'quant_method' is 'mxfp4'"},
      {R"({"quant_method": 4})", "'quant_method' is a integer, expected a string"},
      {R"({"bits": 4})", "has no 'quant_method'"},
      {R"([])", "'quantization_config' is a array, expected an object"},
      {R"({"quant_method": "gptq", "bits": 3})", "'bits' is 3"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 0})", "'group_size' is 0"},
      {R"({"quant_method": "gptq", "bits": "4"})", "'bits' is a string, expected an integer"},
      {R"({"quant_method": "gptq", "checkpoint_format": "marlin"})",
       "'checkpoint_format' is 'marlin'"},
      {R"({"quant_method": "gptq", "is_marlin_format": true})", "'is_marlin_format'"},
      {R"({"quant_method": "awq", "bits": 8})", "'bits' is 8"},
      {R"({"quant_method": "awq", "version": "gemv"})", "'version' is 'gemv'"},
      {R"({"quant_method": "awq", "backend": "llm-awq"})", "'backend' is 'llm-awq'"},
      {R"({"quant_method": "fp8", "weight_block_size": [128]})", "'weight_block_size' must be"},
      {R"({"quant_method": "fp8", "weight_block_size": [0, 128]})", "'weight_block_size' must be"},
      {R"({"quant_method": "fp8", "fmt": "e5m2"})", "'fmt' is 'e5m2'"},
      {R"({"quant_method": "auto-round", "packing_format": "auto_round:fp8"})",
       "'packing_format' is 'auto_round:fp8'"},
      {R"({"quant_method": "auto-round", "data_type": "mx_fp"})", "'data_type' is 'mx_fp'"},
      {R"({"quant_method": "compressed-tensors", "format": 4, "config_groups": {}})",
       "'format' is a integer, expected a string"},
      {R"({"quant_method": "compressed-tensors"})", "'config_groups'"},
      {three.c_str(), "'num_bits' is 3"},
      {preset.c_str(), "is the name of a preset"},
      {strategy.c_str(), "'strategy' is 'tensor_group'"},
      {group.c_str(), "'group_size' must be"},
      {nvfp4.c_str(), "'format' is 'nvfp4-pack-quantized'"},
      {sparse.c_str(), "'format' is 'sparse-24-bitmask'; sparse weights"},
  };
  for (const Refused& r : refused) {
    const std::string text =
        std::string(R"({"quantization_config": )") + r.quantization_config + "}";
    const auto made = quantized_tensors(*parse_json(text), "/m/config.json");
    ASSERT_FALSE(made.ok()) << text;
    const std::string& message = made.status().message();
    EXPECT_TRUE(message.starts_with("/m/config.json: ")) << message;
    EXPECT_NE(message.find(r.said), std::string::npos) << message << "\n  lacks " << r.said;
  }
}

// What rows() and floats() say of a damaged weight.
void expect_damaged(const QuantizedFixture& f, StatusCode code, const std::string& said) {
  const MemoryCheckpoint checkpoint(f.tensors);
  const auto floats = f.method()->floats(checkpoint, f.weight(), f.rows, f.cols, 0, f.rows);
  ASSERT_FALSE(floats.ok()) << f.stem << " " << said;
  EXPECT_NE(floats.status().message().find(said), std::string::npos) << floats.status().message();
  EXPECT_TRUE(floats.status().message().starts_with("memory")) << floats.status().message();
  EXPECT_EQ(floats.status().code(), code) << floats.status().message();
}

template <class T>
T* data_of(QuantizedFixture& f, const std::string& part) {
  return reinterpret_cast<T*>(f.tensors.at(f.stem + part).bytes.data());
}

TEST(QuantizedTensors, ImpossibleNumbersAreSaid) {
  QuantizedFixture nan = quantized_fixture("fp8_block");
  data_of<uint8_t>(nan, ".weight")[3 * 144 + 5] = 0xff;
  expect_damaged(nan, StatusCode::kDataLoss,
                 "tensor 'fp8_block.weight' is not a number at row 3, column 5 (code 0xff)");
  QuantizedFixture scale = quantized_fixture("fp8_block");
  data_of<float>(scale, ".weight_scale_inv")[3] = INFINITY;
  expect_damaged(scale, StatusCode::kDataLoss,
                 "'fp8_block.weight_scale_inv' has the scale inf for row 16, group 1");
  QuantizedFixture power = quantized_fixture("fp8_powers");
  data_of<uint8_t>(power, ".weight_scale_inv")[0] = 255;
  expect_damaged(power, StatusCode::kDataLoss, "has the scale nan for row 0, group 0");
  QuantizedFixture half = quantized_fixture("gptq_4");
  data_of<uint16_t>(half, ".scales")[2] = 0x7e00;
  expect_damaged(half, StatusCode::kDataLoss, "'gptq_4.scales' has the scale nan for row 2");
  QuantizedFixture index = quantized_fixture("gptq_order");
  data_of<int32_t>(index, ".g_idx")[7] = 4;
  expect_damaged(index, StatusCode::kDataLoss,
                 "'gptq_order.g_idx' puts input 7 in group 4 and there are 4 groups");
  data_of<int32_t>(index, ".g_idx")[7] = -1;
  expect_damaged(index, StatusCode::kDataLoss, "puts input 7 in group -1");
  QuantizedFixture shape = quantized_fixture("ct_pack_4");
  data_of<int64_t>(shape, ".weight_shape")[1] = 255;
  expect_damaged(shape, StatusCode::kInvalidArgument, "says [16, 255], expected [16, 256]");
}

// Zeros that are not packed, as the first versions of compressed-tensors wrote them.
TEST(QuantizedTensors, ZerosInBytesOutOfRangeAreSaid) {
  QuantizedFixture f = quantized_fixture("ct_pack_4_zeros");  // 12 x 96 in groups of 32
  MemoryTensor zeros{make_tensor_info("ct_pack_4_zeros.weight_zero_point", DType::kI8, {12, 3}),
                     std::vector<std::byte>(36)};
  f.tensors["ct_pack_4_zeros.weight_zero_point"] = zeros;
  EXPECT_TRUE(f.method()->rows(MemoryCheckpoint(f.tensors), f.weight(), 12, 96, 0, 12).ok());
  data_of<int8_t>(f, ".weight_zero_point")[4] = 8;
  expect_damaged(f, StatusCode::kDataLoss, "has the zero point 16 for row 1, group 1");
}

TEST(QuantizedTensors, MissingAndForeignPartsAreSaid) {
  for (const QuantizedFixture& whole : quantized_fixtures()) {
    for (const auto& [name, tensor] : whole.tensors) {
      if (name.ends_with("g_idx")) continue;  // may be missing
      QuantizedFixture f = whole;
      f.tensors.erase(name);
      const MemoryCheckpoint without(f.tensors);
      if (f.method()->holds(without, f.weight())) {
        EXPECT_FALSE(f.method()->format(without, f.weight(), f.rows, f.cols).ok()) << name;
      }
      f.tensors[name] = {make_tensor_info(name, DType::kI64, tensor.info.shape), {}};
      f.tensors[name].bytes.resize(f.tensors[name].info.bytes);
      const MemoryCheckpoint foreign(f.tensors);
      if (name.ends_with("weight_shape") || !f.method()->holds(foreign, f.weight())) continue;
      const auto format = f.method()->format(foreign, f.weight(), f.rows, f.cols);
      ASSERT_FALSE(format.ok()) << name;
      EXPECT_NE(format.status().message().find("'" + name + "' has dtype I64, expected"),
                std::string::npos)
          << format.status().message();
    }
    const MemoryCheckpoint checkpoint(whole.tensors);
    const auto method = whole.method();
    EXPECT_FALSE(method->format(checkpoint, whole.weight(), whole.rows + 1, whole.cols).ok());
    EXPECT_FALSE(method->format(checkpoint, whole.weight(), whole.rows, whole.cols * 2).ok());
  }
}

}  // namespace
}  // namespace trireme
