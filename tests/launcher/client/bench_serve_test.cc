// Whole benchmarks against a scripted server: what is sent, what is counted, exit codes, files.
#include "launcher/client/bench_serve.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/launcher/client/fake_server.h"

namespace trireme {
namespace {

using test::FakeReply;
using test::FakeRequest;
using test::FakeServer;

// Answers with `max_tokens` events, /v1/models and, where it has a vocabulary, /tokenizer_info.
FakeReply answer(const FakeRequest& request, int vocab = 100) {
  if (request.path == "/v1/models") return test::whole(200, "{\"data\":[{\"id\":\"fake\"}]}");
  if (request.path == "/tokenizer_info" && vocab > 0)
    return test::whole(200, "{\"vocab_size\":" + std::to_string(vocab) + "}");
  const Result<Json> body = parse_json(request.body);
  if (!body.ok() || !request.path.starts_with("/v1/")) return test::whole(404, "{}");
  const bool chat = request.path == "/v1/chat/completions";
  const Json* max = find(*body, chat ? "max_completion_tokens" : "max_tokens");
  const int n = static_cast<int>(max->as_int64());
  std::vector<std::string> events;
  for (int i = 0; i < n; ++i)
    events.push_back(chat ? test::chat_event("w ") : test::text_event("w "));
  events.push_back(test::finish_event());
  events.push_back(test::usage_event(7, n));
  events.push_back(test::kDone);
  return test::stream(events);
}

struct Ran {
  Result<int> code = kClientOk;
  std::string out, messages;
  Json json() const { return *parse_json(out); }
};

Ran run(const FakeServer& server, BenchServeOptions options) {
  Ran ran;
  options.base_url = server.url();
  const ClientConsole console{
      [&](std::string_view text) {
        ran.out += text;
        return Status();
      },
      [&](std::string_view text) { ran.messages += std::string(text) + "\n"; }};
  ran.code = run_bench_serve(options, console);
  return ran;
}

BenchServeOptions small() {
  BenchServeOptions options;
  options.dataset.requests = 12;
  options.dataset.input_len = 5;
  options.dataset.output_len = 4;
  options.json = true;
  return options;
}

std::vector<Json> bodies(const FakeServer& server, const std::string& path = "/v1/completions") {
  std::vector<Json> found;
  for (const FakeRequest& r : server.requests()) {
    if (r.path == path) found.push_back(*parse_json(r.body));
  }
  return found;
}

TEST(BenchServe, RandomIdsOfExactLengths) {
  FakeServer server([](const FakeRequest& r) { return answer(r); });
  BenchServeOptions options = small();
  options.ignore_eos = true;
  options.max_concurrency = 3;
  const Ran ran = run(server, options);
  ASSERT_TRUE(ran.code.ok()) << ran.code.status().message();
  EXPECT_EQ(*ran.code, 0) << ran.messages;
  const Json json = ran.json();
  EXPECT_EQ(json.at("completed"), 12);
  EXPECT_EQ(json.at("failed"), 0);
  EXPECT_EQ(json.at("total_input_tokens"), 84);
  EXPECT_EQ(json.at("total_output_tokens"), 48);
  EXPECT_EQ(json.at("model_id"), "fake");
  EXPECT_LE(json.at("max_concurrent_requests").as_int64(), 3);
  EXPECT_LE(server.connections(), 3 + 4);  // kept alive: three, and the questions before
  const std::vector<Json> sent = bodies(server);
  ASSERT_EQ(sent.size(), 12u);
  std::set<std::string> different;
  for (const Json& body : sent) {
    EXPECT_EQ(body.at("prompt").as_array().size(), 5u);
    for (const Json& id : body.at("prompt").as_array()) EXPECT_LT(id.as_int64(), 100);
    EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
    EXPECT_EQ(body.at("ignore_eos"), true);
    std::ostringstream text;
    text << body.at("prompt");
    different.insert(text.str());
  }
  EXPECT_GT(different.size(), 10u);
}

TEST(BenchServe, TheSameSeedSendsTheSame) {
  FakeServer one([](const FakeRequest& r) { return answer(r); });
  FakeServer two([](const FakeRequest& r) { return answer(r); });
  BenchServeOptions options = small();
  options.max_concurrency = 1;
  options.dataset.range_ratio = 0.5;
  run(one, options);
  run(two, options);
  EXPECT_EQ(bodies(one), bodies(two));
}

TEST(BenchServe, SharedPrefixesAndConversations) {
  FakeServer server([](const FakeRequest& r) { return answer(r); });
  BenchServeOptions options = small();
  options.max_concurrency = 1;
  options.dataset.kind = DatasetKind::kSharedPrefix;
  options.dataset.prefix_len = 6;
  options.dataset.prefixes = 2;
  run(server, options);
  const std::vector<Json> sent = bodies(server);
  const auto prefix = [&](size_t i) {
    const JsonArray& ids = sent.at(i).at("prompt").as_array();
    EXPECT_EQ(ids.size(), 11u);
    return JsonArray(ids.begin(), ids.begin() + 6);
  };
  EXPECT_EQ(prefix(0), prefix(2));
  EXPECT_EQ(prefix(1), prefix(3));
  EXPECT_NE(prefix(0), prefix(1));

  options.dataset.kind = DatasetKind::kMultiTurn;
  options.dataset.turns = 3;
  options.endpoint = ApiKind::kChat;
  const Ran chat = run(server, options);
  EXPECT_EQ(chat.json().at("completed"), 12);
  const std::vector<Json> chats = bodies(server, "/v1/chat/completions");
  ASSERT_EQ(chats.size(), 12u);
  const JsonArray& third = chats[2].at("messages").as_array();
  ASSERT_EQ(third.size(), 5u);
  EXPECT_EQ(third[1].at("role"), "assistant");
  EXPECT_EQ(third[1].at("content"), "w w w w ");
  EXPECT_EQ(chats[3].at("messages").as_array().size(), 1u);
}

TEST(BenchServe, EveryRequestEndsOnceWhateverItsEnd) {
  std::atomic<int> count = 0;
  FakeServer server([&](const FakeRequest& r) {
    if (!r.path.starts_with("/v1/completions")) return answer(r);
    switch (count++ % 4) {
      case 0:
        return test::whole(500, "{\"error\":{\"message\":\"broken\"}}");
      case 1:
        return test::stream(
            {test::text_event("x"), "data: {\"error\":{\"message\":\"later\"}}\n\n"});
      case 2:
        return test::stream({test::text_event("x")});  // no end
      default:
        return answer(r);
    }
  });
  BenchServeOptions options = small();
  options.max_concurrency = 2;
  const Ran ran = run(server, options);
  EXPECT_EQ(ran.json().at("completed"), 3);
  EXPECT_EQ(ran.json().at("failed"), 9);
  EXPECT_NE(ran.messages.find("3 failed: status 500: broken"), std::string::npos) << ran.messages;
  EXPECT_NE(ran.messages.find("3 failed: the server says: later"), std::string::npos);

  count = 3;
  FakeServer good([&](const FakeRequest& r) { return answer(r); });
  options.cancel_fraction = 0.5;
  options.slow_readers = 0.2;
  options.dataset.requests = 40;
  const Json json = run(good, options).json();
  const int64_t cancelled = json.at("cancelled").as_int64();
  EXPECT_GT(cancelled, 5);
  EXPECT_LT(cancelled, 35);
  EXPECT_EQ(json.at("failed"), 0);
  EXPECT_EQ(json.at("completed").as_int64() + cancelled, 40);
}

TEST(BenchServe, VerifyFindsAnAnswerThatDependsOnTheLoad) {
  std::atomic<int> count = 0;
  FakeServer fickle([&](const FakeRequest& r) {
    if (r.path != "/v1/completions") return answer(r);
    return test::stream(
        {test::text_event(count++ < 12 ? "a" : "b"), test::finish_event(), test::kDone});
  });
  FakeServer steady([](const FakeRequest& r) { return answer(r); });
  BenchServeOptions options = small();
  options.verify = 3;
  Ran ran = run(fickle, options);
  EXPECT_EQ(*ran.code, kClientFailed);
  EXPECT_EQ(ran.json().at("verify_mismatches"), 3);
  ran = run(steady, options);
  EXPECT_EQ(*ran.code, kClientOk) << ran.messages;
  EXPECT_EQ(ran.json().at("verified"), 3);
}

TEST(BenchServe, AssertionsSweepsAndFiles) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("trireme_bench_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  FakeServer server([](const FakeRequest& r) { return answer(r, 0); });
  BenchServeOptions options = small();
  options.assertions = {*parse_assertion("failed<1"), *parse_assertion("completed>12")};
  options.sweep_concurrency = {1, 2};
  options.plot = folder / "plot.svg";
  options.result_filename = folder / "result.json";
  const Ran ran = run(server, options);
  ASSERT_TRUE(ran.code.ok()) << ran.code.status().message();
  EXPECT_EQ(*ran.code, kClientMissed);
  EXPECT_NE(ran.messages.find("missed: completed>12: completed is 12"), std::string::npos);
  EXPECT_EQ(read_json_file(options.result_filename)->as_array().size(), 2u);
  EXPECT_NE(read_file(options.plot)->find("requests at once"), std::string::npos);
  EXPECT_TRUE(bodies(server).front().at("prompt").is_string());  // no vocabulary known
  std::filesystem::remove_all(folder);
}

TEST(BenchServe, FilesOfRequests) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("trireme_bench_" + std::to_string(getpid()) + ".jsonl");
  std::ofstream(path) << "{\"prompt\":\"one\",\"max_tokens\":2}\n\n{\"prompt\":[1,2]}\n";
  FakeServer server([](const FakeRequest& r) { return answer(r); });
  BenchServeOptions options = small();
  options.dataset.kind = DatasetKind::kFile;
  options.dataset.path = path;
  options.dataset.requests = 3;
  options.max_concurrency = 1;
  EXPECT_EQ(run(server, options).json().at("total_output_tokens"), 2 + 4 + 2);
  std::ofstream(path) << "{\"prompt\":\"one\"}\n{\"prompt\":7}\n";
  const Ran bad = run(server, options);
  EXPECT_NE(bad.code.status().message().find(":2: \"prompt\" must be"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(BenchServe, OptionsThatMakeNoSense) {
  const auto wrong = [](auto change) {
    BenchServeOptions options;
    change(options);
    return !validate(options).ok();
  };
  EXPECT_TRUE(validate({}).ok());
  EXPECT_TRUE(wrong([](auto& o) { o.dataset.requests = 0; }));
  EXPECT_TRUE(wrong([](auto& o) { o.arrivals.rate = 0; }));
  EXPECT_TRUE(wrong([](auto& o) { o.cancel_fraction = 1.1; }));
  EXPECT_TRUE(wrong([](auto& o) { o.dataset.range_ratio = 1; }));
  EXPECT_TRUE(wrong([](auto& o) { o.percentile_metrics = {"x"}; }));
  EXPECT_TRUE(wrong([](auto& o) { o.percentiles = {101}; }));
  EXPECT_TRUE(wrong([](auto& o) { o.dataset.kind = DatasetKind::kFile; }));
  EXPECT_TRUE(wrong([](auto& o) { o.arrivals.ramp = ArrivalOptions::Ramp::kLinear; }));
  EXPECT_TRUE(wrong([](auto& o) { o.assertions = {{"x<1", "x", "<", 1}}; }));
  EXPECT_TRUE(wrong([](auto& o) {
    o.sweep_rates = {1};
    o.sweep_concurrency = {1};
  }));
}

}  // namespace
}  // namespace trireme
