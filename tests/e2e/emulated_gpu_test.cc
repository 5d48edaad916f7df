// The whole program on the CUDA backend, without a GPU: the real binary beside a
// libtrireme_cuda.so whose GPUs are emulated (tests/support/emulated_plugin), under the real mpirun
// and over HTTP. Kernels, recorded steps, the device's sampler, copies beside the steps and tensors
// between ranks are the real ones; what comes out is what comes out on the CPU.
//
// Both compute in f32 where chances are compared: in bf16 they round differently, and a number
// between two tokens chooses another one.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <list>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "launcher/exit_code.h"
#include "tests/e2e/installed.h"
#include "tests/e2e/server.h"
#include "tests/support/http_client.h"

namespace trireme::test {
namespace {

using Words = std::vector<std::string>;

const std::string kLongPrompt =
    "And the LORD spake unto Moses, saying, Speak unto the children of Israel, and say unto them, "
    "When ye come into the land which I give unto you, then shall the land keep a sabbath unto "
    "the LORD. Six years thou shalt sow thy field, and";

std::string demo(const std::string& name) { return TRIREME_SOURCE_DIR "/configs/models/" + name; }

void operator+=(Words& a, const Words& b) { a.insert(a.end(), b.begin(), b.end()); }
Words operator+(Words a, const Words& b) {
  a += b;
  return a;
}

class EmulatedGpu : public testing::Test {
 protected:
  ~EmulatedGpu() override {
    unsetenv("TRIREME_EMULATED_GPUS");
    unsetenv("TRIREME_EMULATED_NCCL");
  }
  static void have_gpus_with_nccl() {
    setenv("TRIREME_EMULATED_GPUS", "4", 1);
    setenv("TRIREME_EMULATED_NCCL", "1", 1);
  }

  // The same greedy words on CPU and GPU; returns what the GPU's run said of itself.
  std::string expect_words_of_the_cpu(const std::string& model, const Words& more,
                                      const std::string& prompt = "The old man") const {
    // A rehearsal runs a step of all the rows that there may be.
    const Words small = {"--set", "engine.max_num_batched_tokens=24", "--set",
                         "engine.max_num_seqs=4"};
    const Words args =
        Words{"generate", "-m",      demo(model),     "-p", prompt,      "--max-tokens",
              "8",        "--stats", "--temperature", "0",  "--threads", "1"} +
        small + more;
    const Ended cpu = installed_.run(args + Words{"--device", "cpu"});
    EXPECT_EQ(cpu.code, kExitOk) << cpu.error;
    EXPECT_GT(cpu.out.size(), prompt.size() + 8) << cpu.out;
    const Ended gpu = installed_.run(args + Words{"--device", "cuda"});
    EXPECT_EQ(gpu.code, kExitOk) << gpu.error;
    EXPECT_EQ(gpu.out, cpu.out);
    EXPECT_NE(gpu.error.find(", cuda/0"), std::string::npos) << gpu.error;
    return gpu.error;
  }

  const Installed installed_{TRIREME_BINARY_DIR "/tests/emulated_plugin"};
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(EmulatedGpu, DoctorShowsIt) {
  const Ended ended = installed_.run({"doctor"});
  EXPECT_EQ(ended.code, kExitOk) << ended.error;
  for (const char* line :
       {"\ncuda      CUDA 13.0 (emulated)\n", "\nnccl      emulated GPUs have no",
        "\ngpu 0     emulated GPU, compute capability 9.0, 4 multiprocessors",
        "\nauto      cuda: GPU 0 of 1\n"})
    EXPECT_TRUE(has(ended.out, line)) << line << " in:\n" << ended.out;
}

class EmulatedGpuDemos : public EmulatedGpu, public testing::WithParamInterface<const char*> {};

TEST_P(EmulatedGpuDemos, SayWhatTheCpuSays) {
  const std::string stats = expect_words_of_the_cpu(GetParam(), {});
  EXPECT_TRUE(has(stats, "recorded 1 sizes of steps, replayed 6 steps")) << stats;
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedGpuDemos,
                         testing::Values("gqa", "rwkv4", "rwkv7", "yoco-gret", "yoco-swa"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST_F(EmulatedGpu, ChunksOfALongPrompt) {
  for (const char* model : {"gqa", "rwkv7", "yoco-gret"}) {
    SCOPED_TRACE(model);
    const std::string stats = expect_words_of_the_cpu(
        model, {"--prefill-chunk", "40", "--dtype", "float32"}, kLongPrompt);
    EXPECT_FALSE(has(stats, "tokens in 1 steps")) << stats;
  }
}

TEST_F(EmulatedGpu, QuantizedWeights) {
  for (const char* type : {"int8", "int4", "fp8"}) {
    SCOPED_TRACE(type);
    expect_words_of_the_cpu("gqa", {"--quantization", type});
  }
}

TEST_F(EmulatedGpu, StepsOpByOp) {
  for (const char* model : {"gqa", "rwkv7"}) {
    const std::string stats = expect_words_of_the_cpu(model, {"--enforce-eager"});
    EXPECT_FALSE(has(stats, "replayed")) << stats;
  }
}

TEST_F(EmulatedGpu, RanksShareOne) {
  for (const char* model : {"gqa", "rwkv7"}) {
    for (const Words& mesh :
         {Words{"--tensor-parallel-size", "2"}, Words{"--pipeline-parallel-size", "2"}}) {
      SCOPED_TRACE(fmt::format("{} {}", model, mesh[0]));
      const std::string stats = expect_words_of_the_cpu(model, mesh);
      EXPECT_TRUE(has(stats, "(tensors of the GPUs go through host memory: rank 0 has no NCCL)"))
          << stats;
    }
  }
}

TEST_F(EmulatedGpu, RanksHaveOneEach) {
  setenv("TRIREME_EMULATED_GPUS", "2", 1);
  EXPECT_TRUE(has(installed_.run({"doctor"}).out, "\nauto      cuda: GPU 0 of 2\n"));
  expect_words_of_the_cpu("yoco-swa",
                          {"--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"});
}

TEST_F(EmulatedGpu, RanksHaveOneEachAndNccl) {
  have_gpus_with_nccl();
  EXPECT_TRUE(has(installed_.run({"doctor"}).out, "\nnccl      NCCL 2.28.9 (emulated)\n"));
  for (const char* model : {"gqa", "rwkv7"}) {
    for (const Words& mesh :
         {Words{"--tensor-parallel-size", "2"}, Words{"--pipeline-parallel-size", "2"},
          Words{"--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"}}) {
      SCOPED_TRACE(fmt::format("{} {}", model, fmt::join(mesh, " ")));
      const std::string stats = expect_words_of_the_cpu(model, mesh);
      EXPECT_TRUE(has(stats, "(tensors of the GPUs go over NCCL 2.28.9: each of the ")) << stats;
      EXPECT_TRUE(has(stats, "recorded 1 sizes of steps, replayed 6 steps")) << stats;
    }
  }
}

TEST_F(EmulatedGpu, WhatDoesNotFitIsOneSentence) {
  const auto fails = [&](const Words& more, const std::string& message) {
    Server server(Words{demo("gqa"), "--device", "cuda"} + more, installed_.program());
    EXPECT_EQ(server.port(), 0);
    server.signal(SIGTERM);  // where it serves after all
    EXPECT_EQ(server.exit_code(), kExitDoesNotFit) << server.said();
    EXPECT_TRUE(server.said().starts_with("trireme: ") && has(server.said(), message))
        << server.said();
    EXPECT_EQ(std::count(server.said().begin(), server.said().end(), '\n'), 1) << server.said();
  };
  fails({"--gpu-memory-utilization", "0.001"},
        "no memory of the GPU is left for the cache: of 256 MiB");
  fails({"--set", "engine.kv_cache_memory_bytes=1KiB"}, "the cache has 1024");
  fails({"--set", "engine.kv_cache_memory_bytes=1GiB"}, "GPU 0 cannot allocate");
}

// ---- serving ----

Json posted(uint16_t port, const std::string& body) {
  const HttpReply reply = http(port, "POST", "/v1/completions", body);
  EXPECT_EQ(reply.status, 200) << reply.body;
  const Result<Json> json = parse_json(reply.body);
  CHECK(json.ok()) << reply.body;
  return *json;
}

Words texts_of(const Json& reply) {
  Words texts;
  for (const Json& choice : reply.at("choices").as_array())
    texts.emplace_back(choice.at("text").as_string());
  return texts;
}

std::string streamed(uint16_t port, const std::string& body) {
  const HttpReply reply = http(port, "POST", "/v1/completions", body);
  EXPECT_EQ(reply.status, 200) << reply.body;
  std::string text;
  const std::vector<std::string> events = sse_events(reply.body);
  EXPECT_EQ(events.back(), "[DONE]");
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const Result<Json> json = parse_json(event);
    for (const Json& choice : json->at("choices").as_array()) text += choice.at("text").as_string();
  }
  return text;
}

double metric(uint16_t port, const std::string& name) {
  const std::string page = http(port, "GET", "/metrics").body;
  const size_t at = page.find("\n" + name + "{");
  EXPECT_NE(at, std::string::npos) << name;
  return at == std::string::npos ? -1 : std::atof(page.c_str() + page.find('}', at) + 1);
}

// Returns when its first words have come.
void begin_long_answer(HttpConnection& client) {
  client.request("POST", "/v1/completions",
                 R"({"prompt": "And", "max_tokens": 900, "ignore_eos": true, "stream": true})");
  EXPECT_TRUE(has(client.read_until("data: "), "200 OK"));
}

// Six clients at a time, greedy and not, every other one as a stream.
Words answers_to_a_crowd(uint16_t port) {
  Words answers(6);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < answers.size(); ++i) {
    clients.emplace_back([&, i] {
      const char* const prompts[] = {"The old man", "And God said unto Moses,", "In the beginning"};
      const bool stream = i % 2 == 0;
      const std::string body = fmt::format(
          R"({{"prompt": "{}", "max_tokens": {}, "temperature": {}, "seed": {}, "stream": {}}})",
          prompts[i % 3], 6 + i, i < 3 ? 0 : 1, i, stream);
      answers[i] = stream ? streamed(port, body) : texts_of(posted(port, body))[0];
    });
  }
  for (std::thread& client : clients) client.join();
  return answers;
}

class EmulatedGpuServe : public EmulatedGpu {
 protected:
  // What a server says to `ask` is the same on CPU and GPU; it drains when it is told to end, and
  // has ended then with all its ranks.
  template <class Answers>
  void expect_answers_of_the_cpu(const Words& args, Answers (*ask)(uint16_t port),
                                 void (*look)(uint16_t port) = nullptr) const {
    const auto answers_on = [&](const Words& device) {
      Server server(args +
                        Words{"--dtype", "float32", "--kv-cache-dtype", "float32",
                              "--max-model-len", "128", "--threads", "1"} +
                        device,
                    installed_.program());
      EXPECT_NE(server.port(), 0) << server.said();
      EXPECT_TRUE(has(server.said(), device[1] == "cuda" ? ", cuda/0" : ", cpu/")) << server.said();
      Answers answers = ask(server.port());
      if (device[1] == "cuda" && look != nullptr) look(server.port());
      server.signal(SIGTERM);
      EXPECT_EQ(server.exit_code(), kExitOk) << server.said();
      EXPECT_TRUE(has(server.said(), "draining: ")) << server.said();
      return answers;
    };
    const Answers cpu = answers_on({"--device", "cpu", "--cpu-kv-cache-space", cache_});
    EXPECT_EQ(answers_on({"--device", "cuda", "--set", "engine.kv_cache_memory_bytes=" + cache_}),
              cpu);
  }

  std::string cache_ = "2MiB";
};

TEST_F(EmulatedGpuServe, ACrowdHearsWhatItHearsFromTheCpu) {
  expect_answers_of_the_cpu({demo("gqa")}, answers_to_a_crowd);
  expect_answers_of_the_cpu({demo("yoco-gret")}, answers_to_a_crowd);
}

TEST_F(EmulatedGpuServe, ACrowdAtTwoRanksOfOneGpu) {
  expect_answers_of_the_cpu({demo("gqa"), "--tensor-parallel-size", "2"}, answers_to_a_crowd);
  expect_answers_of_the_cpu({demo("rwkv7"), "--pipeline-parallel-size", "2"}, answers_to_a_crowd);
}

TEST_F(EmulatedGpuServe, ACrowdAtFourRanksOverNccl) {
  have_gpus_with_nccl();
  expect_answers_of_the_cpu(
      {demo("gqa"), "--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"},
      answers_to_a_crowd);
}

// The one that waits in a collective does not keep the job from ending.
TEST_F(EmulatedGpuServe, ARankThatIsLostEndsThoseThatWaitForIt) {
  have_gpus_with_nccl();
  Server server({demo("gqa"), "--device", "cuda", "--tensor-parallel-size", "2", "--max-model-len",
                 "1024", "--threads", "1", "--set", "engine.kv_cache_memory_bytes=2MiB"},
                installed_.program());
  ASSERT_NE(server.port(), 0) << server.said();
  HttpConnection client(server.port());
  begin_long_answer(client);
  const std::vector<int> ranks = server.ranks();
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGKILL);
  EXPECT_EQ(server.exit_code(), kExitRankLost) << server.said();
  EXPECT_TRUE(has(server.said(), "trireme: a rank was ended by signal 9")) << server.said();
}

// Six that are under way together want 30 blocks at their ends, and the cache has 20.
TEST_F(EmulatedGpuServe, ThoseThatYieldGoOnAsTheyWere) {
  cache_ = "480KiB";
  for (const char* how : {"spill", "recompute"}) {
    SCOPED_TRACE(how);
    expect_answers_of_the_cpu(
        {demo("gqa"), "--set", "engine.admission=optimistic", "--set", "engine.block_size=8",
         "--set", fmt::format("engine.preemption={}", how)},
        +[](uint16_t port) {
          std::list<HttpConnection> clients;
          for (int i = 0; i < 6; ++i) {
            clients.emplace_back(port).request(
                "POST", "/v1/completions",
                fmt::format(R"({{"prompt": "{} And God said unto Moses, Thus shalt thou",
                                 "seed": {}, "max_tokens": 20, "ignore_eos": true}})",
                            i, i));
          }
          Words answers;
          for (HttpConnection& client : clients)
            answers.push_back(texts_of(*parse_json(client.reply().body))[0]);
          return answers;
        },
        +[](uint16_t port) { EXPECT_GT(metric(port, "vllm:num_preemptions_total"), 0); });
  }
}

// Rows of a prompt are found when it comes a second time. A state is kept where the second parted
// from the first, and found by the third.
TEST_F(EmulatedGpuServe, PromptsThatAreKnownBeginInTheCache) {
  for (const char* model : {"gqa", "rwkv7"}) {
    SCOPED_TRACE(model);
    expect_answers_of_the_cpu(
        {demo(model), "--set", "engine.prefix_granule=16", "--set", "engine.block_size=16"},
        +[](uint16_t port) {
          Words answers;
          for (int round = 0; round < 3; ++round) {
            answers += texts_of(
                posted(port, fmt::format(R"({{"prompt": "{}", "max_tokens": 6, "temperature": 0}})",
                                         kLongPrompt.substr(0, 94))));
          }
          EXPECT_EQ(answers[1], answers[0]);
          EXPECT_EQ(answers[2], answers[0]);
          return answers;
        },
        +[](uint16_t port) { EXPECT_GE(metric(port, "vllm:prefix_cache_hits_total"), 16); });
  }
}

// Masks, penalties and stop strings of the device's sampler, and rows that the host samples.
TEST_F(EmulatedGpuServe, FormsAndChoices) {
  expect_answers_of_the_cpu(
      {demo("gqa")}, +[](uint16_t port) {
        Words answers;
        for (const char* more :
             {R"("temperature": 0, "structured_outputs": {"regex": "[a-z]{3} [0-9]{2}"})",
              R"("seed": 5, "structured_outputs": {"choice": ["red", "green", "blue"]})",
              R"("seed": 9, "repetition_penalty": 1.3, "presence_penalty": 0.5, "min_p": 0.02)",
              R"("seed": 4, "top_k": 30, "top_p": 0.9, "logprobs": 3, "temperature": 0.8)",
              R"("seed": 2, "n": 3, "logit_bias": {"20": -100, "30": 2})",
              R"("temperature": 0, "stop": ["th"])"}) {
          const Json reply = posted(
              port, fmt::format(R"({{"prompt": "And God said", "max_tokens": 8, {}}})", more));
          answers += texts_of(reply);
        }
        return answers;
      });
}

std::vector<float> log_probabilities(uint16_t port) {
  const Json reply =
      posted(port, R"({"prompt": "And God said", "max_tokens": 4, "temperature": 0, "logprobs": 2,
                "echo": true})");
  std::vector<float> values;
  for (const Json& value :
       reply.at("choices").as_array()[0].at("logprobs").at("token_logprobs").as_array())
    values.push_back(value.is_null() ? 0.0f : value.to_number<float>());
  return values;
}

struct Near {
  std::vector<float> values;
  bool operator==(const Near& other) const {
    if (values.size() != other.values.size() || values.size() < 6) return false;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!(std::abs(values[i] - other.values[i]) <= 1e-4f)) return false;
    }
    return true;
  }
};

TEST_F(EmulatedGpuServe, LogProbabilities) {
  expect_answers_of_the_cpu(
      {demo("rwkv7")}, +[](uint16_t port) { return Near{log_probabilities(port)}; });
}

// Steps have taken what they need when the cache takes all the rest.
TEST_F(EmulatedGpuServe, WithAllMemoryOfTheGpu) {
  Server server(
      {demo("gqa"), "--device", "cuda", "--max-model-len", "128", "--threads", "1", "--set",
       "engine.max_num_batched_tokens=48", "--max-num-seqs", "4", "--gpu-memory-utilization", "1"},
      installed_.program());
  ASSERT_NE(server.port(), 0) << server.said();
  for (int i = 0; i < 2; ++i) {
    posted(server.port(), fmt::format(R"({{"prompt": "{}", "max_tokens": 4, "n": 2,
                                          "repetition_penalty": 1.2}})",
                                      kLongPrompt));
  }
  server.signal(SIGTERM);
  EXPECT_EQ(server.exit_code(), kExitOk) << server.said();
}

// A client that goes away frees its place; the next signal finds nobody.
TEST_F(EmulatedGpuServe, AClientThatGoesAway) {
  Server server({demo("gqa"), "--device", "cuda", "--max-model-len", "1024", "--set",
                 "engine.kv_cache_memory_bytes=2MiB"},
                installed_.program());
  ASSERT_NE(server.port(), 0) << server.said();
  {
    HttpConnection client(server.port());
    begin_long_answer(client);
  }
  while (metric(server.port(), "vllm:num_requests_running") > 0) std::this_thread::yield();
  server.signal(SIGTERM);
  EXPECT_EQ(server.exit_code(), kExitOk) << server.said();
  EXPECT_TRUE(has(server.said(), "draining: 0 running, 0 waiting")) << server.said();
}

}  // namespace
}  // namespace trireme::test
