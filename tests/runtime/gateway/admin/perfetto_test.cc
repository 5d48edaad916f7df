// A trace as ui.perfetto.dev reads it: lanes whose spans nest, requests whose beginnings and ends
// match, arrows that have both ends.
#include "runtime/gateway/admin/perfetto.h"

#include <map>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "tests/runtime/gateway/admin/trace_rules.h"

namespace trireme::test {
namespace {

using Kind = TraceEvent::Kind;
using Name = TraceEvent::Name;

TraceEvent span(Name name, uint64_t step, int64_t begin_us, int64_t end_us, uint32_t value = 0) {
  return {Kind::kSpan, name, 0, value, step, begin_us * 1000, end_us * 1000};
}

TraceDocument document() {
  TraceDocument d;
  d.from_ns = 1000 * 1000;
  d.to_ns = 9000 * 1000;
  d.version = "v";
  d.model = "m";
  d.rank_names = {"rank 0 (\"a\")", "rank 1 (b)"};
  d.block_kinds = {"pages"};
  d.ranks.resize(2);
  d.ranks[0].events = {span(Name::kIdle, 0, 500, 1500), span(Name::kTell, 7, 1600, 1610),
                       span(Name::kHead, 0, 1800, 1900, 2), span(Name::kStep, 7, 1700, 1900, 5)};
  d.ranks[0].events.push_back(
      {Kind::kCounter, Name::kLive, 0, 33, 0, 1950 * 1000 + 7, 1950 * 1000 + 7});
  d.ranks[1].rank = 1;
  d.ranks[1].clock_ahead_ns = 1500;
  d.ranks[1].lost_until_ns = 1200 * 1000;
  d.ranks[1].events = {span(Name::kPrepare, 7, 1620, 1630), span(Name::kPrepare, 8, 1640, 1650)};
  return d;
}

TEST(Perfetto, WritesEveryEventOnce) {
  const std::string text = write_perfetto(document());
  const Result<Json> json = parse_json(text);
  ASSERT_TRUE(json.ok()) << json.status().message() << text;
  expect_trace_rules(*json);
  EXPECT_NE(text.find(R"({"ph":"X","name":"step","cat":"engine","pid":0,"tid":1,"ts":700.000,)"
                      R"("dur":200.000,"args":{"step":7,"rows":5}})"),
            std::string::npos)
      << text;
  // What began before the window begins with it.
  EXPECT_NE(text.find(R"("name":"idle","cat":"engine","pid":0,"tid":1,"ts":0.000,"dur":500.000)"),
            std::string::npos);
  EXPECT_NE(text.find(R"({"ph":"C","name":"live blocks pages","pid":0,"ts":950.007,)"),
            std::string::npos);
  EXPECT_NE(text.find("\"name\":\"rank 0 (\\\"a\\\")\""), std::string::npos);
  std::map<std::string, int> kinds;
  for (const Json& e : json->at("traceEvents").as_array())
    ++kinds[std::string(e.at("ph").as_string())];
  // One arrow: nobody told of step 8 within the window.
  EXPECT_EQ(kinds, (std::map<std::string, int>{{"M", 6}, {"X", 6}, {"C", 1}, {"s", 1}, {"f", 1}}));
  const Json& ranks = json->at("otherData").at("ranks");
  EXPECT_EQ(ranks.at(1).at("clock_ahead_us").to_number<double>(), 1.5);
  EXPECT_EQ(ranks.at(1).at("complete_from_us").to_number<double>(), 200);
  EXPECT_FALSE(ranks.at(0).as_object().contains("complete_from_us"));
}

TEST(Perfetto, RequestsAtEveryPointOfTheirLives) {
  TraceDocument d = document();
  for (int stage = 0; stage <= 5; ++stage) {
    RequestTimeline t;
    t.id = static_cast<RequestId>(stage + 1);
    t.label = "a\"b\n";
    t.prompt_tokens = 9;
    t.received_ns = 900 * 1000;
    t.arrived_ns = 1100 * 1000;
    if (stage >= 1) t.scheduled_ns = 1200 * 1000;
    if (stage >= 2) t.first_token_ns = t.last_token_ns = 1300 * 1000;
    if (stage >= 3) t.last_token_ns = 1400 * 1000;
    if (stage >= 4) {
      t.ended_ns = 1500 * 1000;
      t.finish = FinishReason::kStop;
    }
    if (stage == 5)
      t.scheduled_ns = t.first_token_ns = t.last_token_ns = 0;  // gone while it waited
    d.requests.push_back(t);
  }
  const Result<Json> json = parse_json(write_perfetto(d));
  ASSERT_TRUE(json.ok()) << json.status().message();
  expect_trace_rules(*json);
  std::map<int, std::string> phases;
  for (const Json& e : json->at("traceEvents").as_array()) {
    if (e.at("ph").as_string() == "b")
      phases[e.at("id").to_number<int>()] += std::string(e.at("name").as_string()) + ";";
  }
  EXPECT_EQ(phases[1], "request 1;tokenize;queue;");
  EXPECT_EQ(phases[2], "request 2;tokenize;queue;prefill;");
  EXPECT_EQ(phases[3], "request 3;tokenize;queue;prefill;decode;");
  EXPECT_EQ(phases[5], "request 5;tokenize;queue;prefill;decode;");
  EXPECT_EQ(phases[6], "request 6;tokenize;queue;");
}

}  // namespace
}  // namespace trireme::test
