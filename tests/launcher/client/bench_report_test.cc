// Definitions of the results, against a run small enough to compute by hand.
#include "launcher/client/bench_report.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

using End = RequestRecord::End;

// Two completed requests that overlap from 1.0 to 2.0, one failed, one cancelled.
std::vector<RequestRecord> run() {
  RequestRecord a;
  a.end = End::kCompleted;
  a.start_s = 0;
  a.ttft_s = 0.5;
  a.itl_s = {0.5, 1.0};
  a.e2e_s = 2.0;
  a.prompt_tokens = 10;
  a.output_tokens = 4;
  a.cached_tokens = 8;
  RequestRecord b = a;
  b.start_s = 1.0;
  b.ttft_s = 0.1;
  b.itl_s = {0.1};
  b.e2e_s = 1.1;
  b.output_tokens = 3;
  b.cached_tokens = 0;
  RequestRecord failed;
  failed.end = End::kFailed;
  failed.start_s = 2.5;
  failed.error = "status 500: no";
  RequestRecord cancelled = failed;
  cancelled.end = End::kCancelled;
  return {a, b, failed, cancelled};
}

TEST(BenchReport, NumbersByHand) {
  const BenchResult r = summarize(run(), 4, 1, {.ttft = 200, .tpot = {}, .e2el = {}});
  EXPECT_EQ(r.completed, 2);
  EXPECT_EQ(r.failed, 1);
  EXPECT_EQ(r.cancelled, 1);
  EXPECT_EQ(r.input_tokens, 20);
  EXPECT_EQ(r.output_tokens, 7);
  EXPECT_EQ(r.cached_tokens, 8);
  EXPECT_DOUBLE_EQ(r.request_throughput, 0.5);
  EXPECT_DOUBLE_EQ(r.request_goodput, 0.25);
  EXPECT_DOUBLE_EQ(r.output_throughput, 1.75);
  EXPECT_DOUBLE_EQ(r.total_throughput, 6.75);
  EXPECT_EQ(r.peak_concurrent, 2);
  EXPECT_DOUBLE_EQ(r.peak_output_throughput, 3);  // 1.0, 1.1 and 1.2; 0.5 before, 2.0 after
  EXPECT_DOUBLE_EQ(r.client_cpu_share, 0.25);
  EXPECT_NEAR(r.ttft.mean, 300, 1e-9);
  EXPECT_NEAR(r.ttft.deviation, 200, 1e-9);
  EXPECT_NEAR(r.tpot.mean, 500, 1e-9);  // (2 - 0.5) / 3 and (1.1 - 0.1) / 2
  EXPECT_NEAR(r.itl.median, 500, 1e-9);
  EXPECT_NEAR(r.e2el.mean, 1550, 1e-9);
}

TEST(BenchReport, GoodputNeedsEveryGoal) {
  const auto good = [](Goodput goal) { return summarize(run(), 1, 0, goal).request_goodput; };
  EXPECT_EQ(good({.ttft = 600, .tpot = 501, .e2el = 3000}), 2);
  EXPECT_EQ(good({.ttft = 600, .tpot = 501, .e2el = 1500}), 1);
  EXPECT_EQ(good({.ttft = 200, .tpot = 499, .e2el = 3000}), 0);
  EXPECT_EQ(good({}), 2);
}

TEST(BenchReport, SlowReadersStayOutOfTheTimes) {
  std::vector<RequestRecord> records = run();
  records[0].slow = true;
  const BenchResult r = summarize(records, 4, 0, {});
  EXPECT_EQ(r.completed, 2);
  EXPECT_EQ(r.output_tokens, 7);
  EXPECT_NEAR(r.ttft.mean, 100, 1e-9);
}

TEST(BenchReport, TheTableHasVllmsLabels) {
  BenchServeOptions options;
  options.max_concurrency = 8;
  options.goodput.ttft = 200;
  options.percentiles = {50, 99.9};
  const std::string table = result_table(summarize(run(), 4, 1, options.goodput), options);
  for (const char* line : {"============ Serving Benchmark Result ============\n",
                           "Successful requests:                     2         \n",
                           "Failed requests:                         1         \n",
                           "Maximum request concurrency:             8         \n",
                           "Benchmark duration (s):                  4.00      \n",
                           "Total input tokens:                      20        \n",
                           "Total generated tokens:                  7         \n",
                           "Request throughput (req/s):              0.50      \n",
                           "Request goodput (req/s):                 0.25      \n",
                           "Output token throughput (tok/s):         1.75      \n",
                           "Peak output token throughput (tok/s):    3.00      \n",
                           "Peak concurrent requests:                2         \n",
                           "Total token throughput (tok/s):          6.75      \n",
                           "---------------Time to First Token----------------\n",
                           "Mean TTFT (ms):                          300.00    \n",
                           "P99.9 TTFT (ms):                         499.60    \n",
                           "-----Time per Output Token (excl. 1st token)------\n",
                           "---------------Inter-token Latency----------------\n",
                           "----------------End-to-end Latency----------------\n",
                           "==================================================\n"})
    EXPECT_NE(table.find(line), std::string::npos) << line << table;
}

TEST(BenchReport, TheJsonHasVllmsKeys) {
  BenchServeOptions options;
  const JsonObject json =
      result_json(summarize(run(), 4, 1, options.goodput), run(), options, "20260101-000000");
  for (const char* key : {"date",
                          "backend",
                          "model_id",
                          "num_prompts",
                          "request_rate",
                          "burstiness",
                          "max_concurrency",
                          "duration",
                          "completed",
                          "failed",
                          "total_input_tokens",
                          "total_output_tokens",
                          "request_throughput",
                          "request_goodput",
                          "output_throughput",
                          "total_token_throughput",
                          "mean_ttft_ms",
                          "median_ttft_ms",
                          "std_ttft_ms",
                          "p99_ttft_ms",
                          "mean_tpot_ms",
                          "median_tpot_ms",
                          "std_tpot_ms",
                          "p99_tpot_ms",
                          "mean_itl_ms",
                          "median_itl_ms",
                          "std_itl_ms",
                          "p99_itl_ms",
                          "mean_e2el_ms",
                          "median_e2el_ms",
                          "std_e2el_ms",
                          "p99_e2el_ms",
                          "ttfts",
                          "itls",
                          "start_times",
                          "input_lens",
                          "output_lens",
                          "errors",
                          "max_output_tokens_per_s",
                          "max_concurrent_requests"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json.at("request_rate"), Json("inf"));
  EXPECT_EQ(json.at("itls").as_array().size(), 4u);
  EXPECT_FALSE(json.contains("generated_texts"));
}

TEST(BenchReport, Assertions) {
  const BenchResult r = summarize(run(), 4, 1, {});
  const auto misses = [&](const char* text) {
    const Result<Assertion> a = parse_assertion(text);
    EXPECT_TRUE(a.ok()) << text;
    const auto missed = missed_assertions(r, {*a});
    EXPECT_TRUE(missed.ok()) << text;
    return missed->size();
  };
  EXPECT_EQ(misses("ttft_p99<500"), 0u);
  EXPECT_EQ(misses("ttft_p99 < 400"), 1u);
  EXPECT_EQ(misses("failed<=1"), 0u);
  EXPECT_EQ(misses("failed<1"), 1u);
  EXPECT_EQ(misses("request_throughput>=0.5"), 0u);
  EXPECT_EQ(misses("request_throughput>0.5"), 1u);
  for (const char* text : {"ttft_p99", "<5", "ttft_p99<", "ttft_p99<x", "ttft_p99=5"})
    EXPECT_FALSE(parse_assertion(text).ok()) << text;
  for (const char* text : {"ttft_p101<5", "ttft_<5", "nothing<5", "ttft_q5<5"})
    EXPECT_FALSE(missed_assertions(r, {*parse_assertion(text)}).ok()) << text;
}

TEST(BenchReport, GoodputWords) {
  Goodput goal;
  EXPECT_TRUE(add_goodput("ttft:500", goal).ok());
  EXPECT_TRUE(add_goodput("tpot:12.5", goal).ok());
  EXPECT_EQ(goal.ttft, 500);
  EXPECT_EQ(goal.tpot, 12.5);
  for (const char* text : {"ttft", "ttft:", "ttft:-1", "ttft:1x", "itl:5", ""})
    EXPECT_FALSE(add_goodput(text, goal).ok()) << text;
}

}  // namespace
}  // namespace trireme
