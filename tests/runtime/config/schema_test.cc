// The table of keys against the Deployment it fills and the page that documents it.
#include "runtime/config/schema.h"

#include <set>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/config/config_reader.h"

namespace trireme {
namespace {

TEST(Schema, KeysAreUniqueAndNoKeyIsASection) {
  std::set<std::string> paths;
  for (const ConfigKey& key : config_schema())
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
  for (const std::string& path : paths) {
    const auto next = paths.upper_bound(path + ".");
    EXPECT_FALSE(next != paths.end() && next->starts_with(path + ".")) << path;
  }
}

// Each default, read as YAML, leaves a fresh Deployment as it is.
TEST(Schema, DocumentedDefaultsAreTheRealOnes) {
  for (const ConfigKey& key : config_schema()) {
    if (key.fallback == "none" || key.fallback == "required") continue;
    const Result<ConfigNode> value = parse_yaml(key.fallback, key.path);
    ASSERT_TRUE(value.ok()) << value.status().message();
    Deployment deployment;
    const Status status = key.set(*value, deployment);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(deployment == Deployment{}) << key.path << " is not " << key.fallback;
  }
}

// Keys whose only value so far is the default, with one that is refused.
constexpr std::pair<const char*, const char*> kRefused[] = {
    {"engine.enable_chunked_prefill", "false"},
    {"groups[].role", "prefill"},
    {"groups[].replicas", "2"},
    {"groups[].placement.nodes", "[a]"}};

void ExpectWrittenValueReadsBack(const ConfigKey& key, const Deployment& deployment) {
  const Result<ConfigNode> written = parse_yaml(key.get(deployment), key.path);
  ASSERT_TRUE(written.ok()) << written.status().message();
  Deployment read;
  const Status set = key.set(*written, read);
  EXPECT_TRUE(set.ok()) << set.message();
  if (key.path == "generate.prompt") return;  // written as generate.prompts
  EXPECT_TRUE(read == deployment) << key.path << ": " << key.get(deployment);
}

// A value that is not the default reaches the Deployment, and null takes it back.
TEST(Schema, EveryKeyIsPutIntoTheDeploymentAndNullTakesItBack) {
  const std::pair<const char*, const char*> values[] = {
      {"model.path", "a"},
      {"model.tokenizer", "a"},
      {"model.dtype", "bf16"},
      {"model.quantization", "int8"},
      {"model.load_format", "dummy"},
      {"model.max_model_len", "7"},
      {"engine.device", "cpu"},
      {"engine.tensor_parallel_size", "2"},
      {"engine.pipeline_parallel_size", "2"},
      {"engine.threads", "3"},
      {"engine.max_num_batched_tokens", "9"},
      {"engine.max_num_seqs", "9"},
      {"engine.prefill_chunk", "9"},
      {"engine.block_size", "9"},
      {"engine.kv_cache_dtype", "fp16"},
      {"engine.cpu_kv_cache_space", "9MiB"},
      {"engine.gpu_memory_utilization", "0.5"},
      {"engine.kv_cache_memory_bytes", "9MiB"},
      {"engine.enforce_eager", "true"},
      {"engine.isa", "scalar"},
      {"engine.seed", "9"},
      {"generate.prompt", "a"},
      {"generate.prompts", "[a, b]"},
      {"generate.prompt_file", "a"},
      {"generate.max_tokens", "9"},
      {"sampling.temperature", "0.5"},
      {"sampling.top_p", "0.5"},
      {"sampling.top_k", "5"},
      {"sampling.min_p", "0.5"},
      {"sampling.repetition_penalty", "1.5"},
      {"sampling.presence_penalty", "0.5"},
      {"sampling.frequency_penalty", "0.5"},
      {"sampling.logit_bias", "{1: 2, '3': -4.5}"},
      {"sampling.stop", "[a]"},
      {"sampling.stop_token_ids", "[3]"},
      {"sampling.include_stop_str_in_output", "true"},
      {"sampling.ignore_eos", "true"},
      {"sampling.min_tokens", "5"},
      {"sampling.seed", "5"},
      {"model.served_model_name", "[a]"},
      {"model.chat_template", "a"},
      {"engine.enable_prefix_caching", "false"},
      {"engine.prefix_granule", "9"},
      {"engine.admission", "optimistic"},
      {"engine.preemption", "spill"},
      {"engine.swap_space", "9MiB"},
      {"engine.priority_aging", "9s"},
      {"engine.pipeline_depth", "9"},
      {"engine.max_queue", "9"},
      {"engine.step_timeout", "9s"},
      {"gateway.host", "0.0.0.0"},
      {"gateway.port", "9"},
      {"gateway.api_keys_file", "a"},
      {"gateway.max_body", "9MiB"},
      {"gateway.max_connections", "9"},
      {"gateway.max_choices", "9"},
      {"gateway.request_timeout", "9s"},
      {"gateway.idle_timeout", "9s"},
      {"gateway.write_timeout", "9s"},
      {"gateway.io_threads", "9"},
      {"gateway.cors_origins", "[a]"},
      {"model.generation_config", "none"},
      {"engine.scheduling_policy", "priority"},
      {"engine.max_logprobs", "9"},
      {"groups[].name", "a"},
      {"gateway.max_prompts", "9"},
      {"admin.enabled", "true"},
      {"admin.host", "::1"},
      {"admin.port", "9"},
      {"metrics.enabled", "false"},
      {"metrics.vllm_names", "false"},
      {"metrics.legacy_names", "true"},
      {"tracing.ring_events", "9"},
      {"logging.requests", "true"},
      {"logging.level", "error"}};
  std::set<std::string> seen = {"version", "groups[].engine"};  // which set nothing of their own
  for (const auto& [path, text] : kRefused) seen.insert(path);
  for (const auto& [path, text] : values) seen.insert(path);
  for (const ConfigKey& key : config_schema())
    EXPECT_TRUE(seen.contains(key.path)) << key.path << " has no value here";
  for (const auto& [path, text] : values) {
    const ConfigKey* key = find_config_key(path);
    ASSERT_NE(key, nullptr) << path;
    const Result<ConfigNode> value = parse_yaml(text, path);
    ASSERT_TRUE(value.ok());
    Deployment deployment;
    const Status set = key->set(*value, deployment);
    EXPECT_TRUE(set.ok()) << set.message();
    EXPECT_FALSE(deployment == Deployment{}) << path << " changed nothing";
    ExpectWrittenValueReadsBack(*key, deployment);
    EXPECT_TRUE(key->set(ConfigNode{}, deployment).ok());
    EXPECT_TRUE(deployment == Deployment{}) << path << ": null did not take it back";
  }
}

TEST(Schema, WhatThisVersionCannotDoIsRefusedInASentence) {
  for (const auto& [path, text] : kRefused) {
    const ConfigKey* key = find_config_key(path);
    ASSERT_NE(key, nullptr) << path;
    const Result<ConfigNode> value = parse_yaml(text, "f.yaml");
    ASSERT_TRUE(value.ok());
    Deployment deployment;
    const Status refused = key->set(*value, deployment);
    EXPECT_FALSE(refused.ok()) << path;
    EXPECT_TRUE(refused.message().starts_with("f.yaml:1:1: ")) << refused.message();
    EXPECT_TRUE(deployment == Deployment{});
    const Result<ConfigNode> fallback = parse_yaml(key->get(Deployment{}), "f.yaml");
    ASSERT_TRUE(fallback.ok());
    EXPECT_TRUE(key->set(*fallback, deployment).ok()) << path;
  }
}

TEST(Schema, TheDocumentationHasEveryKey) {
  const Result<std::string> page = read_file(TRIREME_SOURCE_DIR "/configs/README.md");
  ASSERT_TRUE(page.ok()) << page.status().message();
  EXPECT_NE(page->find(config_table()), std::string::npos)
      << "configs/README.md: replace the rows of its table by\n"
      << config_table();
}

}  // namespace
}  // namespace trireme
