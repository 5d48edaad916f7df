// Command lines: what each flag sets, which source wins, and the sentence for each mistake.
#include "launcher/cli.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

using Words = std::vector<std::string>;

Result<CommandLine> parse(const Words& words) {
  return parse_command_line(words, [] { return std::string("VERSION\n"); });
}

CommandLine parsed(const Words& words) {
  Result<CommandLine> line = parse(words);
  EXPECT_TRUE(line.ok()) << line.status().message();
  return line.ok() ? line.take() : CommandLine{};
}

TEST(Cli, GenerateFlagsFillTheDeployment) {
  const CommandLine line = parsed({"generate",
                                   "--model",
                                   "m",
                                   "--tokenizer",
                                   "t",
                                   "-p",
                                   "one",
                                   "--prompt",
                                   "two",
                                   "--max-tokens",
                                   "9",
                                   "--temperature",
                                   "0.5",
                                   "--top-p",
                                   "0.9",
                                   "--top-k",
                                   "-1",
                                   "--min-p",
                                   "0.1",
                                   "--repetition-penalty",
                                   "1.1",
                                   "--presence-penalty",
                                   "-0.5",
                                   "--frequency-penalty",
                                   "0.25",
                                   "--stop",
                                   "a",
                                   "--stop",
                                   "\n",
                                   "--stop-token-id",
                                   "3",
                                   "--stop-token-id",
                                   "4",
                                   "--logit-bias",
                                   "7=-100",
                                   "--logit-bias",
                                   "8=1.5",
                                   "--seed",
                                   "12",
                                   "--ignore-eos",
                                   "--min-tokens",
                                   "2",
                                   "--tensor-parallel-size",
                                   "2",
                                   "--pipeline-parallel-size",
                                   "3",
                                   "--threads",
                                   "4",
                                   "--dtype",
                                   "bf16",
                                   "--quantization",
                                   "int4",
                                   "--kv-cache-dtype",
                                   "float16",
                                   "--load-format",
                                   "dummy",
                                   "--max-model-len",
                                   "100",
                                   "--prefill-chunk",
                                   "16",
                                   "--isa",
                                   "scalar",
                                   "--device",
                                   "cuda",
                                   "--enforce-eager",
                                   "--gpu-memory-utilization",
                                   "0.5",
                                   "--json",
                                   "--stats"});
  EXPECT_EQ(line.command, Command::kGenerate);
  EXPECT_TRUE(line.generate.json && line.generate.stats);
  Deployment d;
  d.model = {"m", "t", DType::kBF16, WeightType::kInt4, LoadFormat::kDummy, 100, {}, {}};
  d.engine.device = DeviceKind::kCuda;
  d.engine.enforce_eager = true;
  d.engine.gpu_memory_utilization = 0.5f;
  d.engine.tensor_parallel_size = 2;
  d.engine.pipeline_parallel_size = 3;
  d.engine.threads = 4;
  d.engine.prefill_chunk = 16;
  d.engine.kv_cache_dtype = DType::kF16;
  d.engine.isa = "scalar";
  d.generate.prompts = {"one", "two"};
  SamplingParams& s = d.sampling;
  s.temperature = 0.5f;
  s.top_p = 0.9f;
  s.top_k = -1;
  s.min_p = 0.1f;
  s.repetition_penalty = 1.1f;
  s.presence_penalty = -0.5f;
  s.frequency_penalty = 0.25f;
  s.stop = {"a", "\n"};
  s.stop_token_ids = {3, 4};
  s.logit_bias = {{7, -100.0f}, {8, 1.5f}};
  s.seed = 12;
  s.ignore_eos = true;
  s.min_tokens = 2;
  s.max_tokens = 9;
  EXPECT_TRUE(line.deployment == d);
}

// What a shell hands over is taken as it is, whatever it looks like.
TEST(Cli, ValuesAreTakenWhole) {
  const CommandLine line =
      parsed({"generate", "--model=m", "--prompt", "- a list", "--prompt", "", "--prompt", "[a,b]",
              "--prompt", "--json", "--prompt", "{}", "--prompt=x=y", "--prompt", "5"});
  EXPECT_EQ(line.deployment.generate.prompts,
            (Words{"- a list", "", "[a,b]", "--json", "{}", "x=y", "5"}));
  EXPECT_FALSE(line.generate.json);
}

TEST(Cli, TheLastOfARepeatedFlagCounts) {
  EXPECT_EQ(parsed({"generate", "-m", "a", "-m", "b", "-p", "x"}).deployment.model.path, "b");
}

TEST(Cli, OtherCommands) {
  CommandLine line = parsed({"score", "-m", "m", "--text-file", "f", "--logits", "o", "--json"});
  EXPECT_EQ(line.command, Command::kScore);
  EXPECT_EQ(line.score.text_file, "f");
  EXPECT_EQ(line.score.logits_file, "o");
  EXPECT_TRUE(line.score.json);
  line = parsed({"inspect", "m", "--tensor-parallel-size", "2"});
  EXPECT_EQ(line.command, Command::kInspect);
  EXPECT_EQ(line.deployment.model.path, "m");
  EXPECT_EQ(line.deployment.engine.mesh_size(), 2);
  line = parsed({"tokenize", "-m", "m", "some text", "--no-special"});
  EXPECT_EQ(line.command, Command::kTokenize);
  EXPECT_EQ(line.tokenize.text, "some text");
  EXPECT_FALSE(line.tokenize.add_special);
  EXPECT_EQ(parsed({"tokenize", "-m", "m"}).tokenize.text, std::nullopt);
  EXPECT_EQ(parsed({"tokenize", "-m", "m", ""}).tokenize.text, "");
  line = parsed({"tokenize", "-m", "m", "--decode", "--ids", "1, 2,3 4"});
  EXPECT_TRUE(line.tokenize.decode);
  EXPECT_EQ(line.tokenize.ids, (std::vector<int32_t>{1, 2, 3, 4}));
  line = parsed({"convert", "rwkv-pth", "in", "out"});
  EXPECT_EQ(line.command, Command::kConvert);
  EXPECT_EQ(line.convert.in + line.convert.out, "inout");
  line = parsed({"doctor", "--json"});
  EXPECT_EQ(line.command, Command::kDoctor);
  EXPECT_TRUE(line.doctor.json);
}

TEST(Cli, HelpAndVersionPrint) {
  EXPECT_EQ(parsed({"--version"}).text, "VERSION\n");
  for (const Words& words : {Words{}, Words{"--help"}, Words{"-h"}}) {
    const CommandLine line = parsed(words);
    EXPECT_EQ(line.command, Command::kPrint);
    for (const char* name :
         {"generate", "score", "serve", "inspect", "tokenize", "convert", "config", "doctor"})
      EXPECT_NE(line.text.find(name), std::string::npos) << name;
  }
  const std::string help = parsed({"generate", "--help"}).text;
  EXPECT_NE(help.find("Usage: trireme generate"), std::string::npos);
  EXPECT_NE(help.find("--tensor-parallel-size"), std::string::npos);
}

TEST(Cli, ServeFlagsFillTheDeployment) {
  const CommandLine line = parsed({"serve",
                                   "m",
                                   "--host",
                                   "0.0.0.0",
                                   "--port",
                                   "9",
                                   "--api-keys-file",
                                   "keys",
                                   "--served-model-name",
                                   "a",
                                   "--served-model-name",
                                   "b",
                                   "--chat-template",
                                   "t",
                                   "--max-num-seqs",
                                   "3",
                                   "--max-num-batched-tokens",
                                   "4",
                                   "--max-queue",
                                   "5",
                                   "--scheduling-policy",
                                   "priority",
                                   "--cpu-kv-cache-space",
                                   "6MiB",
                                   "--kv-cache-memory-bytes",
                                   "7MiB",
                                   "--set",
                                   "engine.preemption=spill",
                                   "--tensor-parallel-size",
                                   "2"});
  EXPECT_EQ(line.command, Command::kServe);
  Deployment d;
  d.model.path = "m";
  d.model.served_model_name = {"a", "b"};
  d.model.chat_template = "t";
  d.engine.max_num_seqs = 3;
  d.engine.max_num_batched_tokens = 4;
  d.engine.max_queue = 5;
  d.engine.scheduling_policy = SchedulingPolicy::kPriority;
  d.engine.cpu_kv_cache_space = 6 << 20;
  d.engine.kv_cache_memory_bytes = 7 << 20;
  d.engine.preemption = PreemptionKind::kSpill;
  d.engine.tensor_parallel_size = 2;
  d.gateway.host = "0.0.0.0";
  d.gateway.port = 9;
  d.gateway.api_keys_file = "keys";
  EXPECT_TRUE(line.deployment == d);
}

class CliFile : public ::testing::Test {
 protected:
  CliFile() {
    std::ofstream(path_) << "version: 1\nmodel: {path: from-file}\ngenerate: {prompt: file}\n"
                            "sampling: {temperature: 0.5, seed: 1, stop: [x]}\n"
                            "engine: {block_size: 16}\n";
  }
  ~CliFile() override { std::filesystem::remove(path_); }
  const std::string path_ = ::testing::TempDir() + "trireme_cli_test_" +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name() +
                            ".yaml";
};

TEST_F(CliFile, FileAlone) {
  const Deployment d = parsed({"generate", "-c", path_}).deployment;
  EXPECT_EQ(d.model.path, "from-file");
  EXPECT_EQ(d.generate.prompts, Words{"file"});
  EXPECT_FLOAT_EQ(d.sampling.temperature, 0.5f);
}

TEST_F(CliFile, FlagsWinOverTheFileAndSetOverFlags) {
  const Deployment d = parsed({"generate", "--seed", "2", "--temperature", "0.7", "--set",
                               "sampling.temperature=0.9", "--config", path_, "-m", "flag", "-p",
                               "a", "--stop", "y", "--set", "engine.block_size=64"})
                           .deployment;
  EXPECT_EQ(d.model.path, "flag");
  EXPECT_EQ(d.generate.prompts, Words{"a"});
  EXPECT_EQ(d.sampling.seed, 2u);
  EXPECT_FLOAT_EQ(d.sampling.temperature, 0.9f);
  EXPECT_EQ(d.sampling.stop, Words{"y"});  // instead of the file's, not besides
  EXPECT_EQ(d.engine.block_size, 64);
}

TEST_F(CliFile, APromptFileReplacesTheFilesPrompt) {
  const Deployment d = parsed({"generate", "-c", path_, "--prompt-file", "p.txt"}).deployment;
  EXPECT_TRUE(d.generate.prompts.empty());
  EXPECT_EQ(d.generate.prompt_file, "p.txt");
}

TEST_F(CliFile, ServeTakesTheFileOrTheModelAsItsWord) {
  EXPECT_EQ(parsed({"serve", path_}).deployment.model.path, "from-file");
  EXPECT_EQ(parsed({"serve", "m"}).deployment.model.path, "m");
  const Deployment d = parsed({"serve", "m", "-c", path_}).deployment;
  EXPECT_EQ(d.model.path, "m");
  EXPECT_EQ(d.engine.block_size, 16);
  EXPECT_EQ(parsed({"serve", path_, "-m", "flag"}).deployment.model.path, "flag");
  EXPECT_EQ(parse({"serve", path_, "-c", path_}).status().message(),
            "'" + path_ + "' and --config are both given: keep one; see trireme serve --help");
  EXPECT_EQ(parse({"serve", "m", "-m", "n"}).status().message(),
            "'m' and --model are both given: keep one; see trireme serve --help");
}

TEST_F(CliFile, ConfigChecksAndPrints) {
  EXPECT_EQ(parsed({"config", "check", path_}).text, "ok: from-file on 1 rank\n");
  EXPECT_EQ(parsed({"config", "check", "-c", path_, "--tensor-parallel-size", "4"}).text,
            "ok: from-file on 4 ranks\n");
  const CommandLine line =
      parsed({"config", "print", path_, "--port", "9", "--set", "engine.block_size=64"});
  EXPECT_EQ(line.command, Command::kPrint);
  EXPECT_NE(line.text.find("\n  port: 9\n"), std::string::npos) << line.text;
  EXPECT_EQ(line.text.find('#'), std::string::npos);
  std::ofstream(path_) << line.text;  // as `trireme config print ... > FILE`
  EXPECT_TRUE(parsed({"serve", path_}).deployment == line.deployment);

  const std::string with_origins = parsed({"config", "print", path_, "--origin"}).text;
  EXPECT_NE(with_origins.find("# " + path_ + ":"), std::string::npos) << with_origins;
}

TEST(Cli, ConfigPrintsItsSchema) {
  const std::string schema = parsed({"config", "schema"}).text;
  EXPECT_TRUE(schema.starts_with("{\"$schema\"")) << schema.substr(0, 100);
}

TEST(Cli, EachMistakeHasItsSentence) {
  const struct {
    Words words;
    const char* message;
  } cases[] = {
      {{"genrate"}, "unknown command 'genrate' (did you mean 'generate'?); see trireme --help"},
      {{"--foo"}, "unknown option '--foo'; see trireme --help"},
      {{"generate", "-p", "x"},
       "no model: give --model PATH or --config FILE.yaml; see trireme generate --help"},
      {{"generate", "-m", "m"},
       "no prompt: give --prompt TEXT or --prompt-file FILE, or generate.prompt in the YAML file; "
       "see trireme generate --help"},
      {{"generate", "-m", "m", "-p", "x", "--prompt-file", "y"},
       "--prompt and --prompt-file are both given: keep one"},
      {{"generate", "-m", "m", "-p", "x", "--tensor-paralel-size", "2"},
       "unknown option '--tensor-paralel-size' (did you mean '--tensor-parallel-size'?); see "
       "trireme generate --help"},
      {{"generate", "-m", "m", "-p", "x", "--tensor-paralel-size=2"},
       "unknown option '--tensor-paralel-size' (did you mean '--tensor-parallel-size'?); see "
       "trireme generate --help"},
      {{"generate", "-m", "m", "-p", "x", "y"},
       "unexpected argument 'y'; see trireme generate --help"},
      {{"generate", "-m", "m", "-p", "x", "--top-k"}, "--top-k needs a value; see trireme --help"},
      {{"generate", "-m", "m", "-p", "x", "--top-k", "many"},
       "--top-k: expected an integer, found 'many'"},
      {{"generate", "-m", "m", "-p", "x", "--temperature", "3"},
       "--temperature: temperature is 3: it must be from 0 (greedy) to 2"},
      {{"generate", "-m", "m", "-p", "x", "--logit-bias", "7"},
       "--logit-bias: expected ID=X, found '7'"},
      {{"generate", "-m", "m", "-p", "x", "--logit-bias", "7=1", "--logit-bias", "7=2"},
       "--logit-bias: logit_bias names token 7 twice: keep one"},
      {{"generate", "-m", "m", "-p", "x", "--min-tokens", "100"},
       "min_tokens is 100: it must not be above max_tokens, 64"},
      {{"generate", "-m", "m", "-p", "x", "--set", "engine.threads"},
       "--set engine.threads: expected KEY=VALUE, as in engine.max_num_seqs=8"},
      {{"generate", "-c", "no/such.yaml"}, "no/such.yaml: cannot open: No such file or directory"},
      {{"score", "-m", "m"},
       "score needs --text-file FILE or --tokens-file FILE.json, one of the two; see trireme score "
       "--help"},
      {{"score", "-m", "m", "--text-file", "a", "--tokens-file", "b"},
       "score needs --text-file FILE or --tokens-file FILE.json, one of the two; see trireme score "
       "--help"},
      {{"inspect"},
       "no model: give --model PATH or --config FILE.yaml; see trireme inspect --help"},
      {{"tokenize", "x"}, "no model: give --model PATH; see trireme tokenize --help"},
      {{"tokenize", "-m", "m", "--decode", "x"},
       "--decode takes --ids or ids on stdin, no TEXT; see trireme tokenize --help"},
      {{"tokenize", "-m", "m", "--ids", "1"},
       "--ids goes with --decode; see trireme tokenize "
       "--help"},
      {{"tokenize", "-m", "m", "--decode", "--ids", "1,x"},
       "--ids: '1,x' is no list of token ids, as in 1,15,7"},
      {{"serve"}, "no model: give --model PATH or --config FILE.yaml; see trireme serve --help"},
      {{"serve", "m", "n"}, "unexpected argument 'n'; see trireme serve --help"},
      {{"serve", "m", "--port", "65536"},
       "--port: expected an integer from 0 to 65535, found '65536'"},
      {{"serve", "m", "--set", "gateway.idle_timeout=30"},
       "--set gateway.idle_timeout: '30' is not a duration: it needs a unit, as in 30s or 500ms"},
      {{"serve", "m", "--set", "groups=[]"},
       "--set groups: groups are described in the file alone: set engine.KEY=VALUE here"},
      {{"serve", "no/such.yaml"}, "no/such.yaml: cannot open: No such file or directory"},
      {{"config"}, "config needs an action: check, print or schema; see trireme config --help"},
      {{"config", "chek"},
       "config does not know 'chek' (did you mean 'check'?): it knows check, print and schema; see "
       "trireme config --help"},
      {{"config", "check"},
       "no model: give --model PATH or --config FILE.yaml; see trireme config --help"},
      {{"config", "check", "no/such"}, "no/such: cannot open: No such file or directory"},
      {{"convert", "rwkv-pth", "a"}, "convert needs KIND IN OUT; see trireme convert --help"},
      {{"convert", "rwkv", "a", "b"},
       "convert does not know 'rwkv': it knows rwkv-pth; see trireme convert --help"},
  };
  for (const auto& c : cases) {
    const Result<CommandLine> line = parse(c.words);
    ASSERT_FALSE(line.ok()) << "expected: " << c.message;
    EXPECT_EQ(line.status().message(), c.message);
    EXPECT_EQ(exit_code(line.status(), Doing::kConfiguring), kExitUsage);
  }
}

TEST(Cli, ClientsHaveOptionsOfTheirOwn) {
  const CommandLine line =
      parsed({"bench", "serve", "--port", "81", "--endpoint", "chat/completions", "--request-rate",
              "2.5", "--goodput", "ttft:500", "tpot:50", "--metric-percentiles", "50,99.9",
              "--sweep-concurrency", "1,4", "--assert", "ttft_p99<500", "--assert", "failed<1"});
  ASSERT_EQ(line.command, Command::kClient);
  const auto& bench = std::get<BenchServeOptions>(line.client);
  EXPECT_EQ(bench.base_url, "http://127.0.0.1:81");
  EXPECT_EQ(bench.endpoint, ApiKind::kChat);
  EXPECT_EQ(bench.arrivals.rate, 2.5);
  EXPECT_EQ(bench.goodput.tpot, 50);
  EXPECT_EQ(bench.percentiles, (std::vector<double>{50, 99.9}));
  EXPECT_EQ(bench.sweep_concurrency, (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(bench.assertions.size(), 2u);
  EXPECT_EQ(std::get<ChatOptions>(parsed({"chat", "h:1", "--seed", "3"}).client).call.seed, 3);
  EXPECT_EQ(std::get<TopOptions>(parsed({"top", "h:1", "--once"}).client).url, "h:1");
  EXPECT_EQ(std::get<TraceOptions>(parsed({"trace", "-o", "f"}).client).file, "f");
  for (const Words& words : {Words{"bench"},
                             {"bench", "serve", "--foo"},
                             {"bench", "serve", "--request-rate", "x"},
                             {"bench", "serve", "--endpoint", "x"},
                             {"bench", "serve", "--num-prompts", "0"},
                             {"bench", "serve", "--sweep-request-rates", "1,,2"},
                             {"trace"},
                             {"top", "--foo"},
                             {"chat", "--seed", "x"}})
    EXPECT_FALSE(parse(words).ok()) << words.back();
  EXPECT_NE(parsed({"bench", "serve", "--help"}).text.find("trireme bench serve"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme
