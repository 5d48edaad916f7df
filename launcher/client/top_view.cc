#include "launcher/client/top_view.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

namespace trireme {
namespace {

// The first of two names that the page has.
std::optional<double> either(const PrometheusPage& page, std::string_view a, std::string_view b) {
  const std::optional<double> value = sum_of(page, a);
  return value.has_value() ? value : sum_of(page, b);
}

// How much a counter grew; nullopt where it is not there, or restarted.
std::optional<double> growth(const PrometheusPage& before, const PrometheusPage& now,
                             std::string_view name) {
  const std::optional<double> a = sum_of(before, name), b = sum_of(now, name);
  if (!a.has_value() || !b.has_value() || *b < *a) return std::nullopt;
  return *b - *a;
}

std::string label(const PrometheusSample& sample, const char* name) {
  const auto at = sample.labels.find(name);
  return at == sample.labels.end() ? std::string() : at->second;
}

void read_blocks(const PrometheusPage& page, TopView& view) {
  std::map<std::string, TopView::Blocks> classes;
  for (const PrometheusSample& sample : page) {
    if (sample.name != "trireme_cache_blocks") continue;
    TopView::Blocks& blocks = classes[label(sample, "class")];
    const std::string state = label(sample, "state");
    (state == "free" ? blocks.free : state == "live" ? blocks.live : blocks.cached) += sample.value;
  }
  for (auto& [name, blocks] : classes) {
    blocks.name = name;
    view.blocks.push_back(blocks);
  }
}

std::map<std::string, double> by_stage(const PrometheusPage& page, std::string_view name) {
  std::map<std::string, double> values;
  for (const PrometheusSample& sample : page) {
    if (sample.name == name) values[label(sample, "stage")] += sample.value;
  }
  return values;
}

void read_stages(const PrometheusPage& before, const PrometheusPage& now, double seconds,
                 TopView& view) {
  constexpr std::string_view kBusy = "trireme_stage_busy_seconds_total";
  constexpr std::string_view kIdle = "trireme_stage_idle_seconds_total";
  std::map<std::string, double> busy_before = by_stage(before, kBusy), busy = by_stage(now, kBusy);
  std::map<std::string, double> idle_before = by_stage(before, kIdle), idle = by_stage(now, kIdle);
  if (busy_before.empty() || seconds <= 0) return;
  for (const auto& [stage, value] : busy)
    view.stages.push_back({stage, std::max(0.0, value - busy_before[stage]) / seconds,
                           std::max(0.0, idle[stage] - idle_before[stage]) / seconds});
}

std::string number(const std::optional<double>& value, const char* unit = "", double scale = 1) {
  return value.has_value() ? fmt::format("{:.1f}{}", *value * scale, unit) : "-";
}
std::string count(const std::optional<double>& value) {
  return value.has_value() ? fmt::format("{:.0f}", *value) : "-";
}
std::string milliseconds(const std::optional<double>& seconds) {
  return seconds.has_value() ? fmt::format("{:.1f} ms", *seconds * 1000) : "-";
}

std::string bar(double share, int width) {
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * width + 0.5);
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(width - full), '-') + "]";
}

// Names come from a server: no control characters of theirs reach the terminal.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= ' ' && c != 0x7f) out += c;
  }
  return out;
}

}  // namespace

TopView top_view(const PrometheusPage& before, const PrometheusPage& now, double seconds) {
  TopView view;
  for (const PrometheusSample& sample : now) {
    view.model = printable(label(sample, "model_name"));
    if (!view.model.empty()) break;
  }
  view.running = sum_of(now, "vllm:num_requests_running");
  view.waiting = sum_of(now, "vllm:num_requests_waiting");
  view.kv_share = either(now, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc");
  const auto rate = [&](std::string_view name) -> std::optional<double> {
    const std::optional<double> grown = growth(before, now, name);
    if (!grown.has_value() || seconds <= 0) return std::nullopt;
    return *grown / seconds;
  };
  view.prompt_rate = rate("vllm:prompt_tokens_total");
  view.generation_rate = rate("vllm:generation_tokens_total");
  view.finished_rate = rate("vllm:request_success_total");
  view.step_rate = rate("trireme_steps_total");
  const std::optional<double> rows = rate("trireme_step_rows_total");
  if (rows.has_value() && view.step_rate.value_or(0) > 0)
    view.rows_per_step = *rows / *view.step_rate;
  std::optional<double> asked = growth(before, now, "vllm:prefix_cache_queries_total");
  std::optional<double> hits = growth(before, now, "vllm:prefix_cache_hits_total");
  if (before.empty() || asked.value_or(0) <= 0) {
    asked = sum_of(now, "vllm:prefix_cache_queries_total");
    hits = sum_of(now, "vllm:prefix_cache_hits_total");
  }
  if (asked.value_or(0) > 0 && hits.has_value()) view.prefix_hit_rate = *hits / *asked;
  const auto quantiles = [&](std::string_view name, std::optional<double>& p50,
                             std::optional<double>& p99) {
    const HistogramBuckets since = buckets_since(buckets_of(before, name), buckets_of(now, name));
    p50 = histogram_quantile(0.5, since);
    p99 = histogram_quantile(0.99, since);
  };
  quantiles("vllm:time_to_first_token_seconds", view.ttft_p50, view.ttft_p99);
  quantiles("vllm:inter_token_latency_seconds", view.itl_p50, view.itl_p99);
  read_blocks(now, view);
  read_stages(before, now, seconds, view);
  return view;
}

std::string sparkline(const std::deque<double>& values) {
  static constexpr std::array<const char*, 8> kSteps = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const double most = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  std::string out;
  for (const double value : values) {
    const double share = most > 0 ? std::clamp(value / most, 0.0, 1.0) : 0;
    out += kSteps[static_cast<size_t>(share * 7 + 0.5)];
  }
  return out;
}

std::string top_screen(const TopView& view, const std::string& url, const TopStyle& style,
                       const std::deque<double>& prompt_rates,
                       const std::deque<double>& generation_rates) {
  const std::string bold = style.color ? "\x1b[1m" : "", dim = style.color ? "\x1b[36m" : "";
  const std::string plain = style.color ? "\x1b[0m" : "";
  std::string out = fmt::format("{}trireme top{}  {}  {}\n\n", bold, plain, url, view.model);
  const auto row = [&](std::string_view name, const std::string& text) {
    out += fmt::format("{}{:<11}{}{}\n", dim, name, plain, text);
  };
  row("requests", fmt::format("running {}   waiting {}   finished {}", count(view.running),
                              count(view.waiting), number(view.finished_rate, "/s")));
  if (view.kv_share.has_value()) {
    const char* const alarm = style.color && *view.kv_share > 0.9 ? "\x1b[31m" : "";
    row("KV cache", fmt::format("{}{}{} {:.1f} %", alarm,
                                bar(*view.kv_share, std::clamp(style.width - 30, 10, 50)), plain,
                                *view.kv_share * 100));
  }
  row("prefix hit", number(view.prefix_hit_rate, " %", 100));
  const auto tail = [&](const std::deque<double>& all) {
    const size_t room = static_cast<size_t>(std::clamp(style.width - 32, 8, 60));
    return std::deque<double>(all.end() - static_cast<ptrdiff_t>(std::min(room, all.size())),
                              all.end());
  };
  row("prompt",
      fmt::format("{:>9} tok/s  {}", number(view.prompt_rate), sparkline(tail(prompt_rates))));
  row("output", fmt::format("{:>9} tok/s  {}", number(view.generation_rate),
                            sparkline(tail(generation_rates))));
  row("TTFT",
      fmt::format("p50 {}   p99 {}", milliseconds(view.ttft_p50), milliseconds(view.ttft_p99)));
  row("ITL",
      fmt::format("p50 {}   p99 {}", milliseconds(view.itl_p50), milliseconds(view.itl_p99)));
  if (view.step_rate.has_value())
    row("steps",
        fmt::format("{}   {} rows each", number(view.step_rate, "/s"), number(view.rows_per_step)));
  for (const TopView::Blocks& b : view.blocks)
    row("blocks", fmt::format("class {}: live {:.0f}   cached {:.0f}   free {:.0f}",
                              printable(b.name), b.live, b.cached, b.free));
  for (const TopView::Stage& s : view.stages)
    row("stage", fmt::format("{}: busy {:.1f} %   idle {:.1f} %", printable(s.name), s.busy * 100,
                             s.idle * 100));
  return out;
}

std::string top_line(const TopView& view) {
  return fmt::format(
      "running {} waiting {} kv {} hit {} prompt {} tok/s output {} tok/s ttft p50 {} p99 {} itl "
      "p50 {} p99 {}\n",
      count(view.running), count(view.waiting), number(view.kv_share, " %", 100),
      number(view.prefix_hit_rate, " %", 100), number(view.prompt_rate),
      number(view.generation_rate), milliseconds(view.ttft_p50), milliseconds(view.ttft_p99),
      milliseconds(view.itl_p50), milliseconds(view.itl_p99));
}

}  // namespace trireme
