// What top computes from scrapes, and that plots are well-formed XML.
#include <cmath>

#include <gtest/gtest.h>

#include "launcher/client/svg_plot.h"
#include "launcher/client/top_view.h"

namespace trireme {
namespace {

PrometheusPage page(const std::string& text) {
  const Result<PrometheusPage> parsed = parse_prometheus(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() ? *parsed : PrometheusPage{};
}

TEST(PrometheusText, SamplesLabelsAndMistakes) {
  const PrometheusPage p =
      page("# HELP a b\na 1\na{x=\"1, }\\\"\\n\",y=\"\",} 2.5 1700000\n\nb +Inf\r\nc NaN\n");
  ASSERT_EQ(p.size(), 4u);
  EXPECT_EQ(p[1].labels.at("x"), "1, }\"\n");
  EXPECT_EQ(p[1].labels.at("y"), "");
  EXPECT_EQ(sum_of(p, "a"), 3.5);
  EXPECT_TRUE(std::isinf(*sum_of(p, "b")));
  EXPECT_FALSE(sum_of(p, "d").has_value());
  for (const char* text :
       {"a\n", "a x\n", "a{x=1} 2\n", "a{x=\"1} 2\n", "{} 1\n", "a{\n", "<html>"})
    EXPECT_FALSE(parse_prometheus(text).ok()) << text;
}

std::string histogram(double a, double b, double all) {
  return "h_bucket{le=\"0.1\"} " + std::to_string(a) + "\nh_bucket{le=\"0.5\"} " +
         std::to_string(b) + "\nh_bucket{le=\"+Inf\"} " + std::to_string(all) + "\n";
}

TEST(PrometheusText, QuantilesOfWhatCameBetween) {
  const HistogramBuckets before = buckets_of(page(histogram(100, 100, 100)), "h");
  const HistogramBuckets now = buckets_of(page(histogram(102, 110, 110)), "h");
  const HistogramBuckets since = buckets_since(before, now);  // 2 up to 0.1, 8 up to 0.5
  EXPECT_DOUBLE_EQ(*histogram_quantile(0.2, since), 0.1);
  EXPECT_DOUBLE_EQ(*histogram_quantile(0.1, since), 0.05);
  EXPECT_DOUBLE_EQ(*histogram_quantile(0.6, since), 0.3);
  EXPECT_DOUBLE_EQ(*histogram_quantile(1, since), 0.5);
  EXPECT_FALSE(histogram_quantile(0.5, buckets_since(now, now)).has_value());
  EXPECT_FALSE(histogram_quantile(0.5, {}).has_value());
  EXPECT_EQ(buckets_since(now, before), before);  // restarted
  EXPECT_DOUBLE_EQ(*histogram_quantile(0.99, buckets_of(page(histogram(0, 0, 4)), "h")), 0.5);
}

std::string scrape(int prompt, int hits, double busy) {
  return "vllm:num_requests_running{model_name=\"m\\n\"} 3\nvllm:num_requests_waiting 1\n"
         "vllm:kv_cache_usage_perc 0.5\nvllm:prompt_tokens_total " +
         std::to_string(prompt) + "\nvllm:prefix_cache_queries_total " + std::to_string(prompt) +
         "\nvllm:prefix_cache_hits_total " + std::to_string(hits) +
         "\ntrireme_cache_blocks{class=\"0\",state=\"free\"} 5\n"
         "trireme_cache_blocks{class=\"0\",state=\"live\"} 2\n"
         "trireme_stage_busy_seconds_total{stage=\"0\"} " +
         std::to_string(busy) + "\n";
}

TEST(TopView, RatesBetweenTwoScrapes) {
  const TopView v = top_view(page(scrape(100, 10, 1)), page(scrape(300, 110, 2)), 2);
  EXPECT_EQ(v.model, "m");  // no control characters
  EXPECT_EQ(v.running, 3);
  EXPECT_EQ(v.prompt_rate, 100);
  EXPECT_EQ(v.prefix_hit_rate, 0.5);
  EXPECT_FALSE(v.generation_rate.has_value());
  ASSERT_EQ(v.blocks.size(), 1u);
  EXPECT_EQ(v.blocks[0].free, 5);
  ASSERT_EQ(v.stages.size(), 1u);
  EXPECT_DOUBLE_EQ(v.stages[0].busy, 0.5);
  const TopView first = top_view({}, page(scrape(100, 10, 1)), 1);
  EXPECT_FALSE(first.prompt_rate.has_value());
  EXPECT_EQ(first.prefix_hit_rate, 0.1);
  const TopView restarted = top_view(page(scrape(300, 0, 2)), page(scrape(10, 1, 0)), 1);
  EXPECT_FALSE(restarted.prompt_rate.has_value());
}

TEST(TopView, ScreensAndLines) {
  const TopView v = top_view(page(scrape(100, 10, 1)), page(scrape(300, 110, 2)), 2);
  const std::string plain = top_screen(v, "http://h", {false, 60}, {1, 2, 8}, {});
  EXPECT_EQ(plain.find('\x1b'), std::string::npos);
  EXPECT_NE(plain.find("running 3   waiting 1"), std::string::npos) << plain;
  EXPECT_NE(plain.find("[###############---------------] 50.0 %"), std::string::npos) << plain;
  EXPECT_NE(plain.find("▂▃█"), std::string::npos) << plain;
  EXPECT_NE(plain.find("class 0: live 2"), std::string::npos) << plain;
  EXPECT_NE(top_screen(v, "", {true, 10}, {}, {}).find("\x1b[1m"), std::string::npos);
  EXPECT_NE(top_line(v).find("running 3 waiting 1 kv 50.0 % hit 50.0 % prompt 100.0 tok/s"),
            std::string::npos);
}

// Every tag is closed by its like, every attribute quoted, no stray '<' or '&'.
::testing::AssertionResult well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = 0; at < xml.size();) {
    if (xml[at] == '&') {
      const size_t end = xml.find(';', at);
      if (end == std::string::npos || end - at > 5)
        return ::testing::AssertionFailure() << "stray & at " << at;
    }
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    size_t end = at + 1, quotes = 0;
    for (; end < xml.size() && (xml[end] != '>' || quotes % 2 == 1); ++end) {
      quotes += xml[end] == '"';
      if (xml[end] == '<') return ::testing::AssertionFailure() << "stray < at " << end;
    }
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (end == xml.size() || quotes % 2 != 0)
      return ::testing::AssertionFailure() << "open tag " << tag;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1))
        return ::testing::AssertionFailure() << "wrong </" << tag;
      open.pop_back();
    } else if (tag.back() != '/' && tag[0] != '?') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty() ? ::testing::AssertionSuccess()
                      : ::testing::AssertionFailure() << "never closed: " << open.back();
}

TEST(SvgPlot, IsWellFormedWhateverIsPlotted) {
  using Style = PlotSeries::Style;
  const double nan = std::nan("");
  const std::vector<PlotPanel> panels = {
      {"a <b> & \"c\"",
       "x (ms)",
       "y",
       {{"<&>", Style::kLine, {{1, 2}, {nan, 1}, {3, INFINITY}, {4, 5}}}}},
      {"none", "", "", {}},
      {"bars",
       "s",
       "n",
       {{"", Style::kBars, {{0, 3}, {1, 0}}}, {"", Style::kSpans, {{0, 0}, {5, 0}, {1, 1}}}}},
      {"log", "x", "y", {{"", Style::kDots, {{0, 1}, {0.5, 2}, {200, 1}}}}, true},
      {"one", "x", "y", {{"", Style::kLine, {{7, 0}}}}}};
  const std::string svg = svg_plot("title <1>", panels);
  EXPECT_TRUE(well_formed(svg));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_NE(svg.find("x (ms)"), std::string::npos);
  EXPECT_FALSE(well_formed("<a><b></a>"));
  EXPECT_FALSE(well_formed("<a b=\"></a>"));
}

TEST(SvgPlot, TicksAreRoundAndCover) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(0, 93, 5), (std::vector<double>{0, 20, 40, 60, 80, 100}));
  EXPECT_EQ(cumulative({1, 2, 4, 8}),
            (std::vector<std::pair<double, double>>{{1, .25}, {2, .5}, {4, .75}, {8, 1}}));
  EXPECT_EQ(cumulative(std::vector<double>(5000, 1)).size(), 512u);
}

}  // namespace
}  // namespace trireme
