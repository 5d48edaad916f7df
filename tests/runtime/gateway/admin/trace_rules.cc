#include "tests/runtime/gateway/admin/trace_rules.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/nested_spans.h"

namespace trireme::test {
namespace {

std::string text(const Json& event, const char* key) {
  return std::string(event.at(key).as_string());
}
double number(const Json& event, const char* key) { return event.at(key).to_number<double>(); }

// Times have three decimals: half of the last one is lost in reading.
constexpr double kSlack = 0.0006;

}  // namespace

void expect_trace_rules(const Json& trace) {
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> lanes;
  std::map<int, std::vector<std::string>> open;  // phases of each request
  std::map<uint64_t, double> arrows;
  std::set<int> named, seen;
  for (const Json& e : trace.at("traceEvents").as_array()) {
    const std::string phase = text(e, "ph");
    const int pid = e.at("pid").to_number<int>();
    if (phase == "M") {
      if (text(e, "name") == "process_name") named.insert(pid);
      continue;
    }
    seen.insert(pid);
    const double at = number(e, "ts");
    EXPECT_GE(at, 0);
    if (phase == "X") {
      EXPECT_GE(number(e, "dur"), 0);
      lanes[{pid, e.at("tid").to_number<int>()}].emplace_back(at, at + number(e, "dur"));
    } else if (phase == "b") {
      open[e.at("id").to_number<int>()].push_back(text(e, "name"));
    } else if (phase == "e") {
      std::vector<std::string>& phases = open[e.at("id").to_number<int>()];
      ASSERT_FALSE(phases.empty());
      EXPECT_EQ(phases.back(), text(e, "name"));
      phases.pop_back();
    } else if (phase == "s") {
      EXPECT_TRUE(arrows.emplace(e.at("id").to_number<uint64_t>(), at).second);
    } else if (phase == "f") {
      const auto arrow = arrows.find(e.at("id").to_number<uint64_t>());
      ASSERT_TRUE(arrow != arrows.end());
      arrows.erase(arrow);
    } else {
      EXPECT_EQ(phase, "C");
    }
  }
  for (auto& [lane, spans] : lanes) expect_nested(std::move(spans), kSlack);
  for (const auto& [id, phases] : open) EXPECT_TRUE(phases.empty()) << "request " << id;
  EXPECT_TRUE(arrows.empty());
  for (const int pid : seen) EXPECT_TRUE(named.contains(pid)) << pid;
}

}  // namespace trireme::test
