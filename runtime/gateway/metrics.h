// What the gateway tells Prometheus: the life of requests as histograms under vLLM's names, the
// engine's counters and gauges under vLLM's and our own. Text format 0.0.4.
//
// Observing is thread-safe; so is text().
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine/engine_client.h"

namespace trireme {

struct GatewayMetricsOptions {
  std::string model_name;
  bool vllm_names = true;
  bool legacy_names = false;  // also those that older routers read: vllm:gpu_cache_usage_perc ...
};

// When things happened to one request. Belongs to whoever runs it.
struct RequestTimes {
  using Clock = std::chrono::steady_clock;
  void arrived(const Request& request);
  void scheduled() { scheduled_at = Clock::now(); }

  Clock::time_point arrived_at, scheduled_at;
  size_t prompt_tokens = 0;
  uint32_t max_tokens = 0;
  struct Choice {
    Clock::time_point first_token, last_token;
    uint64_t tokens = 0;
  };
  std::vector<Choice> choices;
};

class GatewayMetrics {
 public:
  explicit GatewayMetrics(GatewayMetricsOptions options);
  ~GatewayMetrics();
  GatewayMetrics(const GatewayMetrics&) = delete;

  // The engine has taken a request: each of its choices ends in one finished().
  void accepted(const RequestTimes& times);
  void token(RequestTimes& times, uint32_t choice);
  void finished(const RequestTimes& times, uint32_t choice, const std::string& finish_reason);
  // An HTTP answer.
  void answered(std::string_view route, int status);

  // Everything, with the engine's figures as they are now.
  std::string text(const EngineStats& stats, const EngineInfo& info) const;

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace trireme
