#include "launcher/client/bench_report.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "launcher/client/stats.h"

namespace trireme {
namespace {

using End = RequestRecord::End;

struct MetricName {
  std::string_view key, header, label;
  MetricSummary BenchResult::*member;
};
constexpr MetricName kMetrics[] = {
    {"ttft", "Time to First Token", "TTFT", &BenchResult::ttft},
    {"tpot", "Time per Output Token (excl. 1st token)", "TPOT", &BenchResult::tpot},
    {"itl", "Inter-token Latency", "ITL", &BenchResult::itl},
    {"e2el", "End-to-end Latency", "E2EL", &BenchResult::e2el},
};

MetricSummary summary_of(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  MetricSummary s{mean(ms), percentile_of_sorted(ms, 50), deviation(ms), {}};
  s.sorted = std::move(ms);
  return s;
}

double tpot_s(const RequestRecord& r) {
  return (r.e2e_s - r.ttft_s) / static_cast<double>(r.output_tokens - 1);
}

bool is_good(const RequestRecord& r, const Goodput& goal) {
  const double tpot = r.output_tokens > 1 ? tpot_s(r) * 1000 : 0;
  return (!goal.ttft || r.ttft_s * 1000 <= *goal.ttft) && (!goal.tpot || tpot <= *goal.tpot) &&
         (!goal.e2el || r.e2e_s * 1000 <= *goal.e2el);
}

int64_t most_at_once(const std::vector<RequestRecord>& records) {
  std::vector<std::pair<double, int>> edges;  // an end before a beginning at the same time
  for (const RequestRecord& r : records) {
    edges.emplace_back(r.start_s, 1);
    edges.emplace_back(r.start_s + r.e2e_s, -1);
  }
  std::sort(edges.begin(), edges.end());
  int64_t now = 0, most = 0;
  for (const auto& [time, change] : edges) most = std::max(most, now += change);
  return most;
}

std::string percent_text(double p) { return fmt::format("{:g}", p); }

std::string banner(std::string_view text, char fill) {
  constexpr size_t kWidth = 50;
  const size_t rest = kWidth - std::min(kWidth, text.size());
  return std::string(rest / 2, fill) + std::string(text) + std::string(rest - rest / 2, fill) +
         "\n";
}

std::string row(std::string_view label, int64_t value) {
  return fmt::format("{:<40} {:<10}\n", label, value);
}
std::string row(std::string_view label, double value) {
  return fmt::format("{:<40} {:<10.2f}\n", label, value);
}

}  // namespace

std::vector<double> tokens_per_second(const std::vector<RequestRecord>& records,
                                      double duration_s) {
  constexpr double kSecondsMax = 1e6;
  std::vector<double> seconds(
      static_cast<size_t>(std::clamp(std::ceil(duration_s), 1.0, kSecondsMax)));
  const auto count = [&](double at) {
    seconds[std::min(seconds.size() - 1, static_cast<size_t>(std::max(0.0, at)))] += 1;
  };
  for (const RequestRecord& r : records) {
    if (r.ttft_s <= 0) continue;
    double at = r.start_s + r.ttft_s;
    count(at);
    for (const double gap : r.itl_s) count(at += gap);
  }
  return seconds;
}

BenchResult summarize(const std::vector<RequestRecord>& records, double duration_s,
                      double client_cpu_s, const Goodput& goodput) {
  BenchResult result;
  result.duration_s = duration_s;
  std::vector<double> ttft, tpot, itl, e2el;
  int64_t good = 0;
  for (const RequestRecord& r : records) {
    CHECK(r.end != End::kNone);
    result.failed += r.end == End::kFailed;
    result.cancelled += r.end == End::kCancelled;
    if (r.end != End::kCompleted) continue;
    ++result.completed;
    result.input_tokens += r.prompt_tokens;
    result.output_tokens += r.output_tokens;
    result.cached_tokens += r.cached_tokens;
    if (r.slow) continue;
    good += is_good(r, goodput);
    if (r.ttft_s > 0) ttft.push_back(r.ttft_s * 1000);
    if (r.ttft_s > 0 && r.output_tokens > 1) tpot.push_back(tpot_s(r) * 1000);
    for (const double gap : r.itl_s) itl.push_back(gap * 1000);
    e2el.push_back(r.e2e_s * 1000);
  }
  const double seconds = std::max(duration_s, 1e-9);
  result.request_throughput = static_cast<double>(result.completed) / seconds;
  result.request_goodput = static_cast<double>(good) / seconds;
  result.output_throughput = static_cast<double>(result.output_tokens) / seconds;
  result.total_throughput =
      static_cast<double>(result.input_tokens + result.output_tokens) / seconds;
  const std::vector<double> per_second = tokens_per_second(records, duration_s);
  result.peak_output_throughput = *std::max_element(per_second.begin(), per_second.end());
  result.peak_concurrent = most_at_once(records);
  result.client_cpu_share = client_cpu_s / seconds;
  result.ttft = summary_of(std::move(ttft));
  result.tpot = summary_of(std::move(tpot));
  result.itl = summary_of(std::move(itl));
  result.e2el = summary_of(std::move(e2el));
  return result;
}

std::string result_table(const BenchResult& result, const BenchServeOptions& options) {
  std::string out = banner(" Serving Benchmark Result ", '=');
  out += row("Successful requests:", result.completed);
  out += row("Failed requests:", result.failed);
  if (options.cancel_fraction > 0) out += row("Cancelled requests:", result.cancelled);
  if (options.max_concurrency > 0)
    out += row("Maximum request concurrency:", options.max_concurrency);
  if (options.arrivals.rate != kAllAtOnce)
    out += row("Request rate configured (RPS):", options.arrivals.rate);
  out += row("Benchmark duration (s):", result.duration_s);
  out += row("Total input tokens:", result.input_tokens);
  if (result.cached_tokens > 0) out += row("Total cached input tokens:", result.cached_tokens);
  out += row("Total generated tokens:", result.output_tokens);
  out += row("Request throughput (req/s):", result.request_throughput);
  if (options.goodput.any()) out += row("Request goodput (req/s):", result.request_goodput);
  out += row("Output token throughput (tok/s):", result.output_throughput);
  out += row("Peak output token throughput (tok/s):", result.peak_output_throughput);
  out += row("Peak concurrent requests:", result.peak_concurrent);
  out += row("Total token throughput (tok/s):", result.total_throughput);
  out += row("Client CPU (% of one core):", result.client_cpu_share * 100);
  for (const MetricName& metric : kMetrics) {
    if (std::find(options.percentile_metrics.begin(), options.percentile_metrics.end(),
                  metric.key) == options.percentile_metrics.end())
      continue;
    const MetricSummary& s = result.*metric.member;
    out += banner(metric.header, '-');
    out += row(fmt::format("Mean {} (ms):", metric.label), s.mean);
    out += row(fmt::format("Median {} (ms):", metric.label), s.median);
    for (const double p : options.percentiles)
      out += row(fmt::format("P{} {} (ms):", percent_text(p), metric.label),
                 percentile_of_sorted(s.sorted, p));
  }
  return out + banner("", '=');
}

JsonObject result_json(const BenchResult& result, const std::vector<RequestRecord>& records,
                       const BenchServeOptions& options, const std::string& date) {
  JsonObject out;
  out["date"] = date;
  out["backend"] = options.endpoint == ApiKind::kChat ? "openai-chat" : "openai";
  out["model_id"] = options.model;
  out["num_prompts"] = records.size();
  const double rate = options.arrivals.rate;
  out["request_rate"] = rate == kAllAtOnce ? Json("inf") : Json(rate);
  out["burstiness"] = options.arrivals.burstiness;
  out["max_concurrency"] =
      options.max_concurrency > 0 ? Json(options.max_concurrency) : Json(nullptr);
  out["duration"] = result.duration_s;
  out["completed"] = result.completed;
  out["failed"] = result.failed;
  out["cancelled"] = result.cancelled;
  out["total_input_tokens"] = result.input_tokens;
  out["total_output_tokens"] = result.output_tokens;
  out["total_cached_tokens"] = result.cached_tokens;
  out["request_throughput"] = result.request_throughput;
  out["request_goodput"] = options.goodput.any() ? Json(result.request_goodput) : Json(nullptr);
  out["output_throughput"] = result.output_throughput;
  out["total_token_throughput"] = result.total_throughput;
  out["max_output_tokens_per_s"] = result.peak_output_throughput;
  out["max_concurrent_requests"] = result.peak_concurrent;
  out["client_cpu_share"] = result.client_cpu_share;
  for (const MetricName& metric : kMetrics) {
    const MetricSummary& s = result.*metric.member;
    out[fmt::format("mean_{}_ms", metric.key)] = s.mean;
    out[fmt::format("median_{}_ms", metric.key)] = s.median;
    out[fmt::format("std_{}_ms", metric.key)] = s.deviation;
    for (const double p : options.percentiles)
      out[fmt::format("p{}_{}_ms", percent_text(p), metric.key)] =
          percentile_of_sorted(s.sorted, p);
  }
  JsonArray starts, inputs, outputs, ttfts, itls, errors, texts;
  for (const RequestRecord& r : records) {
    starts.emplace_back(r.start_s);
    inputs.emplace_back(r.prompt_tokens);
    outputs.emplace_back(r.output_tokens);
    ttfts.emplace_back(r.ttft_s);
    itls.emplace_back(JsonArray(r.itl_s.begin(), r.itl_s.end()));
    errors.emplace_back(r.error);
    if (options.save_detailed) texts.emplace_back(r.text);
  }
  out["start_times"] = std::move(starts);
  out["input_lens"] = std::move(inputs);
  out["output_lens"] = std::move(outputs);
  out["ttfts"] = std::move(ttfts);
  out["itls"] = std::move(itls);
  out["errors"] = std::move(errors);
  if (options.save_detailed) out["generated_texts"] = std::move(texts);
  return out;
}

Result<double> result_named(const BenchResult& result, const std::string& name) {
  const std::pair<std::string_view, double> scalars[] = {
      {"duration", result.duration_s},
      {"completed", static_cast<double>(result.completed)},
      {"failed", static_cast<double>(result.failed)},
      {"cancelled", static_cast<double>(result.cancelled)},
      {"request_throughput", result.request_throughput},
      {"request_goodput", result.request_goodput},
      {"output_throughput", result.output_throughput},
      {"total_token_throughput", result.total_throughput},
      {"max_output_tokens_per_s", result.peak_output_throughput},
      {"client_cpu_share", result.client_cpu_share},
  };
  std::string known = "ttft_p99, tpot_mean, itl_median, e2el_std and the like";
  for (const auto& [key, value] : scalars) {
    if (name == key) return value;
    known += fmt::format(", {}", key);
  }
  for (const MetricName& metric : kMetrics) {
    if (!name.starts_with(fmt::format("{}_", metric.key))) continue;
    const std::string_view what = std::string_view(name).substr(metric.key.size() + 1);
    const MetricSummary& s = result.*metric.member;
    if (what == "mean") return s.mean;
    if (what == "median") return s.median;
    if (what == "std") return s.deviation;
    if (!what.starts_with('p')) break;
    double p = -1;
    const auto [end, error] = std::from_chars(what.data() + 1, what.data() + what.size(), p);
    if (error == std::errc() && end == what.data() + what.size() && p >= 0 && p <= 100)
      return percentile_of_sorted(s.sorted, p);
  }
  return invalid_argument(
      fmt::format("--assert: there is no result '{}': there are {}", name, known));
}

Result<std::vector<std::string>> missed_assertions(const BenchResult& result,
                                                   const std::vector<Assertion>& assertions) {
  std::vector<std::string> missed;
  for (const Assertion& a : assertions) {
    const Result<double> value = result_named(result, a.name);
    if (!value.ok()) return value.status();
    const bool holds = a.op == "<"    ? *value < a.bound
                       : a.op == "<=" ? *value <= a.bound
                       : a.op == ">"  ? *value > a.bound
                                      : *value >= a.bound;
    if (!holds) missed.push_back(fmt::format("missed: {}: {} is {:.6g}", a.text, a.name, *value));
  }
  return missed;
}

}  // namespace trireme
