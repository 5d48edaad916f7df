// `config print` against the reader, and the JSON Schema against both.
#include "runtime/config/config_writer.h"

#include <filesystem>
#include <regex>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/config/config_reader.h"
#include "runtime/config/schema.h"

namespace trireme {
namespace {

Deployment read(std::string_view text) {
  Deployment deployment;
  const Status status = read_config(text, "f.yaml", "", deployment);
  EXPECT_TRUE(status.ok()) << status.message() << "\n" << text;
  return deployment;
}

constexpr std::string_view kWhole = R"(version: 1
model: {path: m, served_model_name: [a, "b c"], dtype: bfloat16, max_model_len: 4096}
engine: {threads: 3, cpu_kv_cache_space: 1.5GiB, priority_aging: 1.5s, admission: optimistic}
groups:
  - name: all
    role: both
    replicas: 1
    engine: {max_num_seqs: 7, threads: 4}
    placement: {nodes: []}
generate: {prompt: "one: \"two\"\n", max_tokens: 8}
sampling: {temperature: 0.7, stop: ["\n"], logit_bias: {42: -100, "43": 1.5}, top_k: -1}
gateway: {host: "::1", port: 0, cors_origins: ["*"], max_body: 1KB}
metrics: {legacy_names: true}
logging: {level: warning, requests: true}
)";

TEST(ConfigWriter, WhatIsPrintedReadsBackAsTheSame) {
  for (const std::string_view text : {kWhole, std::string_view("version: 1\nmodel: {path: m}\n")}) {
    const Deployment deployment = read(text);
    for (const bool origins : {false, true}) {
      const std::string printed = write_config(deployment, origins);
      EXPECT_TRUE(read(printed) == deployment) << printed;
    }
  }
  // Without a model too: `config print` of nothing is a list of all defaults.
  EXPECT_TRUE(read(write_config(Deployment{}, false)) == Deployment{});
}

TEST(ConfigWriter, TheExampleDeploymentsReadBackAsTheSame) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TRIREME_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    Deployment deployment;
    const Status status = read_config_file(entry.path().string(), deployment);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(read(write_config(deployment, true)) == deployment) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 5);
}

// The line of `config print --origin` that has the key.
std::string line_of(const std::string& printed, const std::string& key) {
  const size_t begin = printed.find(" " + key + ":");
  return begin == std::string::npos ? "" : printed.substr(begin, printed.find('\n', begin) - begin);
}

TEST(ConfigWriter, OriginsSayWhereEachValueStands) {
  Deployment deployment = read(
      "version: 1\nmodel: {path: m}\nengine:\n  threads: 2\n  seed: null\n"
      "generate: {prompt: a}\ngroups:\n  - engine: {block_size: 16}\n");
  ASSERT_TRUE(apply_override("engine.max_num_seqs=3", deployment).ok());
  ASSERT_TRUE(set_config_key("gateway.port", ConfigNode::argument("9", "--port"), deployment).ok());
  const std::string printed = write_config(deployment, true);
  const std::pair<const char*, const char*> lines[] = {
      {"threads", "2 # f.yaml:4:3"},
      {"seed", "0 # f.yaml:5:3"},
      {"block_size", "16 # f.yaml:8:14"},
      {"max_num_seqs", "3 # --set engine.max_num_seqs"},
      {"port", "9 # --port"},
      {"max_body", "64MiB # default"},
      {"prompts", "[\"a\"] # f.yaml:6:12"}};
  for (const auto& [key, rest] : lines) {
    const std::string line = std::regex_replace(line_of(printed, key), std::regex(" +"), " ");
    EXPECT_EQ(line, " " + std::string(key) + ": " + rest);
  }
}

TEST(ConfigWriter, APromptOfTheCommandLineIsTheOnlyOneThatIsSaid) {
  Deployment deployment = read("version: 1\ngenerate: {prompt_file: f}\n");
  ASSERT_TRUE(
      set_config_key("generate.prompts", ConfigNode::argument("a", "--prompt"), deployment).ok());
  const std::string printed = write_config(deployment, true);
  EXPECT_EQ(printed.find("prompt_file"), std::string::npos);
  EXPECT_NE(line_of(printed, "prompts").find("# --prompt"), std::string::npos);
}

// Follows "properties" down the schema.
const Json* at(const Json& schema, std::string_view path) {
  const Json* node = &schema;
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    std::string_view word = path.substr(0, dot);
    const bool list = word.ends_with("[]");
    if (list) word.remove_suffix(2);
    node = find(*node, "properties");
    if (node != nullptr) node = find(*node, word);
    if (node != nullptr && list) node = find(*node, "items");
    if (node == nullptr) return nullptr;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return node;
}

TEST(ConfigWriter, TheJsonSchemaHasEveryKeyAndNoOther) {
  const Result<Json> schema = parse_json(config_json_schema());
  ASSERT_TRUE(schema.ok()) << schema.status().message();
  size_t leaves = 0;
  const std::function<void(const Json&)> count = [&](const Json& node) {
    const Json* properties = find(node, "properties");
    if (properties == nullptr) {
      ++leaves;
      return;
    }
    EXPECT_EQ(node.at("additionalProperties"), Json(false));
    for (const auto& [name, value] : properties->as_object()) {
      const Json* items = find(value, "items");
      count(items != nullptr ? *items : value);
    }
  };
  count(*schema);
  EXPECT_EQ(leaves, config_schema().size());
  for (const ConfigKey& key : config_schema()) {
    const Json* node = at(*schema, key.path);
    ASSERT_NE(node, nullptr) << key.path;
    const Json* description = find(*node, "description");
    ASSERT_NE(description, nullptr) << key.path;
    EXPECT_TRUE(std::string_view(description->as_string()).starts_with(key.meaning)) << key.path;
  }
  // A group's engine is the engine.
  const Json* group = at(*schema, "groups[].engine");
  EXPECT_EQ(*find(group->at("anyOf").at(0), "properties"),
            *find(*at(*schema, "engine"), "properties"));
}

}  // namespace
}  // namespace trireme
