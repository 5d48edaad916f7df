// Whole files: what they fill, what they are refused for, and what of file, flag and --set counts.
#include "runtime/config/config_reader.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "runtime/config/schema.h"

namespace trireme {
namespace {

std::string error_of(std::string_view text) {
  Deployment deployment;
  const Status status = read_config(text, "f.yaml", "", deployment);
  if (status.ok()) return "";
  EXPECT_TRUE(deployment == Deployment{}) << "an error must leave it as it was";
  return status.message();
}

Deployment read(std::string_view text) {
  Deployment deployment;
  const Status status = read_config(text, "f.yaml", "", deployment);
  EXPECT_TRUE(status.ok()) << status.message();
  return deployment;
}

TEST(ConfigReader, TheSmallestFile) {
  Deployment expected;
  expected.model.path = "m";
  EXPECT_TRUE(read("version: 1\nmodel: {path: m}\n") == expected);
}

TEST(ConfigReader, ReadsAWholeFile) {
  const Deployment d = read(R"(
version: 1
model:
  path: some/model
  dtype: bfloat16
  load_format: dummy
  max_model_len: 4096
engine:
  tensor_parallel_size: 2
  pipeline_parallel_size: 3
  cpu_kv_cache_space: 1.5GiB
  isa: avx2
generate:
  prompts: [Once upon a time, "2024"]
  max_tokens: 8
sampling:
  temperature: 0.7
  top_k: 40
  stop: "\n\n"
  stop_token_ids: [3, 4]
  logit_bias: {42: -100, "43": 1.5}
  seed: 18446744073709551615
  ignore_eos: true
logging: {level: warning}
)");
  EXPECT_EQ(d.model.path, "some/model");
  EXPECT_EQ(d.model.dtype, DType::kBF16);
  EXPECT_EQ(d.model.load_format, LoadFormat::kDummy);
  EXPECT_EQ(d.model.max_model_len, 4096);
  EXPECT_EQ(d.engine.mesh_size(), 6);
  EXPECT_EQ(d.engine.cpu_kv_cache_space, (uint64_t{3} << 30) / 2);
  EXPECT_EQ(d.engine.isa, "avx2");
  EXPECT_EQ(d.generate.prompts, (std::vector<std::string>{"Once upon a time", "2024"}));
  EXPECT_EQ(d.sampling.max_tokens, 8u);
  EXPECT_FLOAT_EQ(d.sampling.temperature, 0.7f);
  EXPECT_EQ(d.sampling.top_k, 40);
  EXPECT_EQ(d.sampling.stop, std::vector<std::string>{"\n\n"});
  EXPECT_EQ(d.sampling.stop_token_ids, (std::vector<int32_t>{3, 4}));
  ASSERT_EQ(d.sampling.logit_bias.size(), 2u);
  EXPECT_EQ(d.sampling.logit_bias[1], (std::pair<int32_t, float>{43, 1.5f}));
  EXPECT_EQ(d.sampling.seed, ~uint64_t{0});
  EXPECT_TRUE(d.sampling.ignore_eos);
  EXPECT_EQ(d.logging.level, LogLevel::kWarning);
}

TEST(ConfigReader, NullAndEmptySectionsSayNothing) {
  EXPECT_TRUE(read("version: 1\nengine:\nsampling: null\nmodel: {tokenizer: null}\n"
                   "generate: {prompt: null, prompts: null}\n") == Deployment{});
  // null does not undo another prompt source.
  EXPECT_EQ(read("version: 1\ngenerate: {prompt: a, prompts: null}\n").generate.prompts.size(), 1u);
}

TEST(ConfigReader, ErrorsSayWhereWhatAndHow) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"version: 1\nengine:\n  tensor_paralel_size: 2\n",
       "f.yaml:3:3: unknown key 'tensor_paralel_size' in engine (did you mean "
       "'tensor_parallel_size'?)"},
      {"version: 1\nmodle: {path: x}\n", "f.yaml:2:1: unknown key 'modle' (did you mean 'model'?)"},
      {"version: 1\nmodel: {max_tokens: 5}\n",
       "f.yaml:2:9: unknown key 'max_tokens' in model (did you mean 'generate.max_tokens'?)"},
      {"version: 1\nfoo: 5\n", "f.yaml:2:1: unknown key 'foo'"},
      {"version: 1\nmodel.path: x\n",
       "f.yaml:2:1: 'model.path' is written as 'path:' under 'model:'"},
      {"model: {path: x}\n", "f.yaml: no version: begin the file with 'version: 1'"},
      {"version: 2\n",
       "f.yaml:1:10: version 2 of the schema is not known: this program reads version 1"},
      {"version: '1'\n", "f.yaml:1:10: expected an integer, found the string '1'"},
      {"- a\n", "f.yaml:1:1: expected a map of keys, found a list"},
      {"hello\n", "f.yaml:1:1: expected a map of keys, found 'hello'"},
      {"version: 1\nengine: 5\n", "f.yaml:2:9: expected a map of keys under 'engine', found '5'"},
      {"version: 1\nengine: {threads: 010}\n",
       "f.yaml:2:19: '010' has a leading zero, which some "
       "readers take for octal: write 10"},
      {"version: 1\nengine: {threads: -1}\n",
       "f.yaml:2:19: expected an integer from 0 to 4096, found '-1'"},
      {"version: 1\nengine: {device: gpu}\n",
       "f.yaml:2:18: expected one of auto, cpu, cuda, found 'gpu' (did you mean 'cuda'?)"},
      {"version: 1\nengine: {device: cpi}\n",
       "f.yaml:2:18: expected one of auto, cpu, cuda, found 'cpi' (did you mean 'cpu'?)"},
      {"version: 1\nengine: {gpu_memory_utilization: 90}\n",
       "f.yaml:2:34: expected a number above 0, at most 1, found '90'"},
      {"version: 1\nengine: {gpu_memory_utilization: 0}\n",
       "f.yaml:2:34: expected a number above 0, at most 1, found '0'"},
      {"version: 1\nengine: {isa: avx521}\n",
       "f.yaml:2:15: expected one of auto, scalar, avx2, avx512, found 'avx521' (did you mean "
       "'avx512'?)"},
      {"version: 1\nmodel: {dtype: int8}\n",
       "f.yaml:2:16: expected one of auto, float32, bfloat16, float16 (or fp32, bf16, fp16), found "
       "'int8'"},
      {"version: 1\nengine: {cpu_kv_cache_space: 16}\n",
       "f.yaml:2:30: '16' is not a size: it needs a unit, as in 512MiB or 1.5GiB"},
      {"version: 1\nsampling: {temperature: 3}\n",
       "f.yaml:2:25: temperature is 3: it must be from 0 (greedy) to 2"},
      {"version: 1\nsampling: {ignore_eos: yes}\n",
       "f.yaml:2:24: expected true or false, found 'yes'"},
      {"version: 1\nsampling: {stop: [a, 5]}\n",
       "f.yaml:2:22: expected a string, found '5': put it in quotes"},
      {"version: 1\nsampling: {stop_token_ids: 5}\n",
       "f.yaml:2:28: expected a list of token ids, found '5'"},
      {"version: 1\nsampling: {logit_bias: {a: 1}}\n",
       "f.yaml:2:25: expected an integer, found 'a'"},
      {"version: 1\nsampling: {logit_bias: {1: 2, '1': 3}}\n",
       "f.yaml:2:31: duplicate key '1', first at f.yaml:2:25: remove one of them"},
      {"version: 1\ngenerate:\n  prompt: a\n  prompt_file: b\n",
       "f.yaml:4:3: 'generate.prompt' and 'generate.prompt_file' are both given: keep one prompt "
       "source"},
      {"version: 1\ngenerate: {prompts: {a: b}}\n",
       "f.yaml:2:21: expected a string or a list of strings, found a map"},
  };
  for (const auto& c : cases) EXPECT_EQ(error_of(c.text), c.message);
}

// min_tokens before max_tokens: a value is checked alone, the pair at the end.
TEST(ConfigReader, PairsAreCheckedOnceAllIsRead) {
  Deployment d = read("version: 1\nsampling: {min_tokens: 100}\ngenerate: {max_tokens: 200}\n");
  EXPECT_TRUE(validate(d).ok());
  d = read("version: 1\nsampling: {min_tokens: 100}\n");
  EXPECT_EQ(validate(d).message(), "min_tokens is 100: it must not be above max_tokens, 64");
  d = Deployment{};
  d.generate.prompts = {"a"};
  d.generate.prompt_file = "b";
  EXPECT_FALSE(validate(d).ok());
}

TEST(ConfigReader, OverridesWinAndAreCheckedAlike) {
  Deployment d = read("version: 1\nengine: {block_size: 16}\ngenerate: {prompt: a}\n");
  EXPECT_TRUE(apply_override("engine.block_size=64", d).ok());
  EXPECT_EQ(d.engine.block_size, 64);
  EXPECT_TRUE(apply_override("model.path=a=b", d).ok());
  EXPECT_EQ(d.model.path, "a=b");
  EXPECT_TRUE(apply_override("generate.prompt=5", d).ok());  // no quotes needed
  EXPECT_EQ(d.generate.prompts, std::vector<std::string>{"5"});
  EXPECT_TRUE(apply_override("sampling.stop_token_ids=[1, 2]", d).ok());
  EXPECT_EQ(d.sampling.stop_token_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(apply_override("sampling.logit_bias={7: 1}", d).ok());
  EXPECT_TRUE(apply_override("generate.prompt_file=p.txt", d).ok());  // replaces the prompt
  EXPECT_TRUE(d.generate.prompts.empty());
  const std::pair<const char*, const char*> errors[] = {
      {"engine.block_size",
       "--set engine.block_size: expected KEY=VALUE, as in "
       "engine.max_num_seqs=8"},
      {"=1", "--set =1: expected KEY=VALUE, as in engine.max_num_seqs=8"},
      {"engine.blok_size=1",
       "--set engine.blok_size: unknown key 'blok_size' in engine (did you "
       "mean 'block_size'?)"},
      {"block_size=1",
       "--set block_size: unknown key 'block_size' (did you mean 'engine.block_size'?)"},
      {"a.b.c=1", "--set a.b.c: unknown key 'a.b.c'"},
      {"engine=1", "--set engine: a section: set one key of it, as in --set engine.KEY=VALUE"},
      {"engine.block_size=0",
       "--set engine.block_size: expected an integer from 1 to 4096, found "
       "'0'"},
      {"sampling.stop='a", "--set sampling.stop:2:2: not YAML: illegal EOF in scalar"},
  };
  for (const auto& [assignment, message] : errors)
    EXPECT_EQ(apply_override(assignment, d).message(), message);
}

TEST(ConfigReader, PathsAreRelativeToHereThenToTheFile) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "trireme_config_reader_test";
  std::filesystem::create_directories(folder / "beside");
  const std::string file = (folder / "f.yaml").string();
  std::ofstream(file) << "version: 1\nmodel: {path: beside, tokenizer: nowhere}\n"
                         "generate: {prompt_file: /absolute}\n";
  Deployment d;
  const Status status = read_config_file(file, d);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(d.model.path, (folder / "beside").string());
  EXPECT_EQ(d.model.tokenizer, "nowhere");  // in neither place: whoever opens it will say so
  EXPECT_EQ(d.generate.prompt_file, "/absolute");
  // "." exists here, so it is not the file's folder.
  std::ofstream(file) << "version: 1\nmodel: {path: .}\n";
  ASSERT_TRUE(read_config_file(file, d).ok());
  EXPECT_EQ(d.model.path, ".");
  std::filesystem::remove_all(folder);
}

// The deployments that the repository ships are good ones.
TEST(ConfigReader, EveryFileOfConfigsIsRead) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TRIREME_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    Deployment d;
    Status status = read_config_file(entry.path().string(), d);
    if (status.ok()) status = validate(d);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(std::filesystem::exists(d.model.path)) << entry.path() << ": " << d.model.path;
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(ConfigReader, NoFile) {
  Deployment d;
  const Status status = read_config_file("no/such/file.yaml", d);
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_FALSE(read_config_file("/", d).ok());
}

TEST(ConfigReader, AGroupGoesOverTheEngineWhereverItStands) {
  const Deployment d = read(
      "version: 1\ngroups: [{name: all, engine: {max_num_seqs: 3}}]\n"
      "engine: {max_num_seqs: 5, block_size: 16}\n");
  EXPECT_EQ(d.group.name, "all");
  EXPECT_EQ(d.engine.max_num_seqs, 3);
  EXPECT_EQ(d.engine.block_size, 16);
  EXPECT_TRUE(read("version: 1\ngroups: null\n") == Deployment{});
  EXPECT_TRUE(read("version: 1\ngroups: [{engine: null}]\n") == Deployment{});
}

TEST(ConfigReader, GroupsThatThisVersionDoesNotServe) {
  const std::pair<const char*, const char*> cases[] = {
      {"groups: [{role: both}, {role: both}]",
       "f.yaml:2:1: groups has 2 entries, but this version serves one worker: keep one"},
      {"groups: []",
       "f.yaml:2:1: groups has 0 entries, but this version serves one worker: keep one"},
      {"groups: [{role: prefill}, {role: decode}]",
       "f.yaml:2:17: this version serves one worker, which does prefill and decode: write role: "
       "both"},
      {"groups: [{replicas: 2}]",
       "f.yaml:2:21: this version serves one worker, which does prefill and decode: write "
       "replicas: 1"},
      {"groups: [{placement: {nodes: [n1]}}]",
       "f.yaml:2:30: this version starts its ranks on this host: leave the key out, and for others "
       "start mpirun or srun yourself with their names"},
      {"groups: {role: both}", "f.yaml:2:9: expected a list under 'groups', found a map"},
      {"groups: [a]", "f.yaml:2:10: expected a map of keys under 'groups[]', found 'a'"},
      {"groups: [{roles: both}]",
       "f.yaml:2:11: unknown key 'roles' in groups[] (did you mean 'role'?)"},
      {"groups: [{engine: {tensor_paralel_size: 2}}]",
       "f.yaml:2:20: unknown key 'tensor_paralel_size' in engine (did you mean "
       "'tensor_parallel_size'?)"},
      {"groups: [{engine: 3}]", "f.yaml:2:19: expected a map of keys of engine, found '3'"},
      {"'groups[]': {role: both}", "f.yaml:2:1: unknown key 'groups[]' (did you mean 'groups'?)"}};
  for (const auto& [text, message] : cases)
    EXPECT_EQ(error_of(std::string("version: 1\n") + text + "\n"), message);
  Deployment d;
  EXPECT_EQ(apply_override("groups[].name=a", d).message(),
            "--set groups[].name: groups are described in the file alone: set engine.KEY=VALUE "
            "here");
}

TEST(ConfigReader, DurationsNeedTheirUnit) {
  const Deployment d = read(
      "version: 1\nengine: {priority_aging: 500ms, step_timeout: 2m}\n"
      "gateway: {idle_timeout: 1.5s, request_timeout: 1h}\n");
  EXPECT_EQ(d.engine.priority_aging_ms, 500u);
  EXPECT_EQ(d.engine.step_timeout_ms, 120'000u);
  EXPECT_EQ(d.gateway.idle_timeout_ms, 1500u);
  EXPECT_EQ(d.gateway.request_timeout_ms, 3'600'000u);
  EXPECT_EQ(error_of("version: 1\ngateway: {idle_timeout: 30}\n"),
            "f.yaml:2:25: '30' is not a duration: it needs a unit, as in 30s or 500ms");
  EXPECT_EQ(error_of("version: 1\ngateway: {idle_timeout: 30 s}\n"),
            "f.yaml:2:25: '30 s' is not a duration: the units are ms, s, m, h, as in 30s or "
            "500ms");
  EXPECT_EQ(error_of("version: 1\ngateway: {idle_timeout: [30s]}\n"),
            "f.yaml:2:25: expected a duration, as in 30s, found a list");
}

}  // namespace
}  // namespace trireme
