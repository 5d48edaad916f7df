#include <algorithm>

#include "launcher/client/bench_serve.h"
#include "launcher/client/stats.h"
#include "launcher/client/svg_plot.h"

namespace trireme {

namespace {

using Style = PlotSeries::Style;
using End = RequestRecord::End;

PlotPanel distribution(std::string title, std::string label, const MetricSummary& metric) {
  return {std::move(title),
          std::move(label),
          "share of all",
          {{"", Style::kLine, cumulative(metric.sorted)}},
          false};
}

// One line per request: waiting for the first token, then the rest; those that did not complete.
PlotPanel timeline(const std::vector<RequestRecord>& records) {
  PlotSeries waiting{"to first token", Style::kSpans, {}};
  PlotSeries ended_badly{"failed or cancelled", Style::kSpans, {}};
  PlotSeries generating{"generating", Style::kSpans, {}};
  constexpr size_t kShownMax = 1000;
  const size_t stride = std::max<size_t>(1, records.size() / kShownMax);
  for (size_t i = 0; i < records.size(); i += stride) {
    const RequestRecord& r = records[i];
    const double y = static_cast<double>(i), end = r.start_s + r.e2e_s;
    const auto span = [&](PlotSeries& series, double from, double to) {
      series.points.emplace_back(from, y);
      series.points.emplace_back(to, y);
    };
    if (r.end != End::kCompleted) {
      span(ended_badly, r.start_s, end);
    } else {
      span(waiting, r.start_s, r.start_s + r.ttft_s);
      span(generating, r.start_s + r.ttft_s, end);
    }
  }
  return {"Requests",
          "time (s)",
          "request",
          {std::move(waiting), std::move(ended_badly), std::move(generating)},
          false};
}

}  // namespace

std::string run_plot(const std::string& title, const BenchResult& result,
                     const std::vector<RequestRecord>& records) {
  PlotSeries rate{"", Style::kBars, {}};
  const std::vector<double> seconds = tokens_per_second(records, result.duration_s);
  for (size_t s = 0; s < seconds.size(); ++s)
    rate.points.emplace_back(static_cast<double>(s), seconds[s]);
  return svg_plot(title,
                  {distribution("Time to first token", "TTFT (ms)", result.ttft),
                   distribution("Inter-token latency", "ITL (ms)", result.itl),
                   {"Output over time", "time (s)", "tokens per second", {std::move(rate)}, false},
                   timeline(records)});
}

std::string sweep_plot(const std::string& title, const std::string& load_label,
                       const std::vector<SweepPoint>& points) {
  PlotSeries ttft50{"p50", Style::kLine, {}}, ttft99{"p99", Style::kLine, {}};
  PlotSeries tpot50{"p50", Style::kLine, {}}, tpot99{"p99", Style::kLine, {}};
  PlotSeries output{"", Style::kLine, {}}, against{"", Style::kLine, {}};
  for (const SweepPoint& p : points) {
    const BenchResult& r = p.result;
    ttft50.points.emplace_back(p.load, r.ttft.median);
    ttft99.points.emplace_back(p.load, percentile_of_sorted(r.ttft.sorted, 99));
    tpot50.points.emplace_back(p.load, r.tpot.median);
    tpot99.points.emplace_back(p.load, percentile_of_sorted(r.tpot.sorted, 99));
    output.points.emplace_back(p.load, r.output_throughput);
    against.points.emplace_back(r.tpot.median, r.output_throughput);
  }
  return svg_plot(
      title, {{"Time to first token",
               load_label,
               "TTFT (ms)",
               {std::move(ttft50), std::move(ttft99)},
               false},
              {"Time per output token",
               load_label,
               "TPOT (ms)",
               {std::move(tpot50), std::move(tpot99)},
               false},
              {"Throughput", load_label, "output tokens per second", {std::move(output)}, false},
              {"Throughput against latency",
               "median TPOT (ms)",
               "output tokens per second",
               {std::move(against)},
               false}});
}

}  // namespace trireme
