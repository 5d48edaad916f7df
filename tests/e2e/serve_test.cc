// `trireme serve` as a user runs it: under its own mpirun or in one process, for every family; what
// it says over HTTP is what `trireme generate` says; the first signal drains, the second ends.
#include <algorithm>
#include <csignal>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "launcher/exit_code.h"
#include "tests/e2e/program.h"
#include "tests/e2e/server.h"
#include "tests/support/edited_model.h"
#include "tests/support/http_client.h"

namespace trireme::test {
namespace {

std::string demo(const std::string& name) {
  return std::string(TRIREME_SOURCE_DIR "/configs/models/") + name;
}

class Serve : public testing::TestWithParam<std::string> {};

TEST_P(Serve, SaysOverHttpWhatGenerateSays) {
  const Ended generated =
      run_trireme({"generate", "--model", demo(GetParam()), "--prompt", "And God said",
                   "--max-tokens", "24", "--temperature", "0.8", "--seed", "11", "--json"});
  ASSERT_EQ(generated.code, 0) << generated.error;
  const Result<Json> expected = parse_json(generated.out);
  ASSERT_TRUE(expected.ok());
  const std::string text(expected->at("text").as_string());
  for (const auto& [shards, stages] : {std::pair{1, 1}, {1, 2}}) {
    SCOPED_TRACE(fmt::format("tp {} pp {}", shards, stages));
    Server server({demo(GetParam()), "--tensor-parallel-size", std::to_string(shards),
                   "--pipeline-parallel-size", std::to_string(stages), "--threads", "1",
                   "--cpu-kv-cache-space", "64MiB", "--max-model-len", "512"});
    ASSERT_NE(server.port(), 0) << server.said();
    EXPECT_EQ(http(server.port(), "GET", "/health").status, 200);
    const std::string body =
        R"({"prompt": "And God said", "max_tokens": 24, "temperature": 0.8, "seed": 11})";
    for (int round = 0; round < 2; ++round) {  // the second from the prefix cache
      const HttpReply reply = http(server.port(), "POST", "/v1/completions", body);
      ASSERT_EQ(reply.status, 200) << reply.body;
      EXPECT_EQ(
          std::string(parse_json(reply.body)->at("choices").as_array()[0].at("text").as_string()),
          text);
    }
    server.signal(SIGTERM);
    EXPECT_EQ(server.exit_code(), 0) << server.said();
    EXPECT_NE(server.said().find("draining"), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(Demos, Serve,
                         testing::Values("gqa", "rwkv4", "rwkv7", "yoco-gret", "yoco-swa"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// The first signal lets what runs end, and refuses the rest; so it does through mpirun.
TEST(ServeSignals, TheFirstDrainsAndTheSecondEnds) {
  for (const bool twice : {false, true}) {
    for (const char* stages : {"1", "2"}) {
      SCOPED_TRACE(fmt::format("pp {} {}", stages, twice ? "twice" : "once"));
      Server server({demo("gqa"), "--pipeline-parallel-size", stages, "--threads", "1",
                     "--cpu-kv-cache-space", "64MiB"});
      ASSERT_NE(server.port(), 0) << server.said();
      HttpConnection client(server.port());
      client.request(
          "POST", "/v1/completions",
          R"({"prompt": "And", "max_tokens": 1500, "ignore_eos": true, "stream": true})");
      std::string got = client.read_until("data: ");
      EXPECT_NE(got.find("200 OK"), std::string::npos);
      server.signal(SIGTERM);
      server.wait_for("draining");
      if (twice) server.signal(SIGTERM);
      got += client.read_until("[DONE]");
      const int code = server.exit_code();
      if (twice) {
        EXPECT_EQ(code, kExitSignal + SIGTERM) << server.said();
      } else {
        EXPECT_EQ(code, 0) << server.said();
        EXPECT_NE(got.find("\"finish_reason\":\"length\""), std::string::npos);
        EXPECT_NE(got.find("[DONE]"), std::string::npos);
      }
    }
  }
}

TEST(ServeStart, WhatIsWrongIsOneSentence) {
  const auto fails = [](std::vector<std::string> args, int code, const std::string& message) {
    args.insert(args.begin(), "serve");
    const Ended ended = run_trireme(args);
    EXPECT_EQ(ended.code, code) << ended.error;
    ASSERT_GE(ended.messages().size(), 1u);
    EXPECT_NE(ended.messages().back().find(message), std::string::npos) << ended.error;
  };
  fails({}, kExitUsage, "no model");
  fails({"/nowhere"}, kExitModelInvalid, "/nowhere");
  fails({demo("gqa"), "--host", "nobody"}, kExitUsage, "'nobody' is not an IP address");
  fails({demo("gqa"), "--api-keys-file", "/nowhere"}, kExitRuntime, "/nowhere");
  fails({demo("gqa"), "--max-model-len", "1"}, kExitUsage, "no room for an answer");
  const TempFolder folder;
  std::ofstream(folder.path() + "/chat.jinja") << "{% if %}";
  fails({demo("gqa"), "--chat-template", folder.path() + "/chat.jinja"}, kExitUsage,
        "chat template: line 1");
  Server first({demo("gqa")});
  ASSERT_NE(first.port(), 0);
  fails({demo("gqa"), "--port", std::to_string(first.port())}, kExitRankLost,
        "choose another port");
}

// The admin address of a worker of several processes, and `trireme trace` and `top` against it.
TEST(ServeAdmin, TellsOfEveryRank) {
  Server server({demo("gqa"), "--pipeline-parallel-size", "2", "--threads", "1",
                 "--cpu-kv-cache-space", "64MiB", "--set", "admin.enabled=true", "--set",
                 "admin.port=0"});
  ASSERT_NE(server.port(), 0) << server.said();
  server.wait_for(" shows how it fares");
  const size_t at = server.said().find("http://", server.said().find("admin     "));
  const std::string url = server.said().substr(at, server.said().find("/ shows", at) - at);
  const TempFolder folder;
  const std::string file = folder.path() + "/trace.json";
  const Ended traced = run_trireme({"trace", url, "-o", file, "--seconds", "1"});
  ASSERT_EQ(traced.code, 0) << traced.error;
  const Result<Json> trace = read_json_file(file);
  ASSERT_TRUE(trace.ok()) << trace.status().message();
  EXPECT_EQ(trace->at("otherData").at("ranks").as_array().size(), 2u);
  const Ended watched = run_trireme({"top", url, "--once", "--plain", "--interval", "0.1"});
  EXPECT_EQ(watched.code, 0) << watched.error;
  const Ended refused =
      run_trireme({"trace", fmt::format("http://127.0.0.1:{}", server.port()), "-o", file});
  EXPECT_EQ(refused.code, kExitRuntime);
  EXPECT_NE(refused.error.find("is it the admin port"), std::string::npos) << refused.error;
  server.signal(SIGTERM);
  EXPECT_EQ(server.exit_code(), 0) << server.said();
}

// A rank that dies takes the worker with it, at once and with one message; clients are not left
// hanging.
TEST(ServeRanks, ALostRankEndsTheWorker) {
  Server server({demo("gqa"), "--pipeline-parallel-size", "2", "--threads", "1",
                 "--cpu-kv-cache-space", "64MiB"});
  ASSERT_NE(server.port(), 0) << server.said();
  HttpConnection client(server.port());
  client.request("POST", "/v1/completions",
                 R"({"prompt": "And", "max_tokens": 1900, "ignore_eos": true, "stream": true})");
  client.read_until("data: ");
  const std::vector<int> ranks = server.ranks();
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGKILL);
  const std::string rest = client.read_until("[DONE]");
  EXPECT_EQ(server.exit_code(), kExitRankLost) << server.said();
}

}  // namespace
}  // namespace trireme::test
