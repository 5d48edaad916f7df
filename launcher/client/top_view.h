// What `trireme top` shows, out of two scrapes of /metrics: vLLM's names, and trireme_* where the
// server has them. Pure; any thread.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "launcher/client/prometheus_text.h"

namespace trireme {

struct TopView {
  std::string model;
  std::optional<double> running, waiting;
  std::optional<double> kv_share;         // 0 to 1
  std::optional<double> prefix_hit_rate;  // 0 to 1, of the prompt tokens between the scrapes
  std::optional<double> prompt_rate, generation_rate;          // tokens per second
  std::optional<double> finished_rate;                         // requests per second
  std::optional<double> ttft_p50, ttft_p99, itl_p50, itl_p99;  // seconds, between the scrapes
  std::optional<double> step_rate, rows_per_step;
  struct Blocks {
    std::string name;
    double free = 0, live = 0, cached = 0;
  };
  std::vector<Blocks> blocks;  // by class
  struct Stage {
    std::string name;
    double busy = 0, idle = 0;  // shares of the time between the scrapes
  };
  std::vector<Stage> stages;
};

// `before` is empty at the first scrape: rates and quantiles are then those since the server began
// where that makes sense, and absent where not. `seconds`: between the scrapes.
TopView top_view(const PrometheusPage& before, const PrometheusPage& now, double seconds);

struct TopStyle {
  bool color = false;
  int width = 80;  // columns
};
// The screen, lines ended with \n. The histories end with the newest rate.
std::string top_screen(const TopView& view, const std::string& url, const TopStyle& style,
                       const std::deque<double>& prompt_rates,
                       const std::deque<double>& generation_rates);
// One line, without colour.
std::string top_line(const TopView& view);

// ▁▂▃▄▅▆▇█, one per value, the largest at the top.
std::string sparkline(const std::deque<double>& values);

}  // namespace trireme
