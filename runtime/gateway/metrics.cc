#include "runtime/gateway/metrics.h"

#include <algorithm>

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace trireme {

using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;
using Seconds = std::chrono::duration<double>;
using Labels = std::map<std::string, std::string>;

namespace {

const Buckets kTtft = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                       1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kToken = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                        .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const Buckets kRequest = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                          30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kChoices = {1, 2, 5, 10, 20};

// 1, 2, 5, 10, 20, 50 ...
Buckets one_two_five(double max) {
  Buckets buckets;
  for (double ten = 1; ten <= max; ten *= 10) {
    for (const double m : {1.0, 2.0, 5.0}) {
      if (m * ten <= max) buckets.push_back(m * ten);
    }
  }
  return buckets;
}

}  // namespace

// One registry that holds what is observed; what the engine counts is added as text at each scrape.
struct GatewayMetrics::Families {
  explicit Families(GatewayMetricsOptions o) : options(std::move(o)) {}

  Histogram& histogram(const std::string& name, const std::string& help, const Buckets& buckets) {
    const std::string full = (options.vllm_names ? "vllm:" : "trireme_") + name;
    return prometheus::BuildHistogram().Name(full).Help(help).Register(registry).Add(labels(),
                                                                                     buckets);
  }
  Labels labels() const { return {{"model_name", options.model_name}, {"engine", "0"}}; }

  const GatewayMetricsOptions options;
  prometheus::Registry registry;
  const Buckets tokens = one_two_five(1e6);
  Histogram& ttft = histogram("time_to_first_token_seconds", "Arrival to first token.", kTtft);
  Histogram& itl = histogram("inter_token_latency_seconds", "Between two tokens.", kToken);
  Histogram& tpot =
      histogram("request_time_per_output_token_seconds",
                "Per request: first to last token, over tokens after the first.", kToken);
  Histogram& e2e = histogram("e2e_request_latency_seconds", "Arrival to last token.", kRequest);
  Histogram& queue = histogram("request_queue_time_seconds", "Arrival to first step.", kRequest);
  Histogram& inference =
      histogram("request_inference_time_seconds", "First step to last token.", kRequest);
  Histogram& prefill =
      histogram("request_prefill_time_seconds", "First step to first token.", kRequest);
  Histogram& decode = histogram("request_decode_time_seconds", "First to last token.", kRequest);
  Histogram& prompt = histogram("request_prompt_tokens", "Tokens of a prompt.", tokens);
  Histogram& generation = histogram("request_generation_tokens", "Tokens of an output.", tokens);
  Histogram& params_n = histogram("request_params_n", "n of a request.", kChoices);
  Histogram& params_max_tokens =
      histogram("request_params_max_tokens", "max_tokens of a request.", tokens);
  prometheus::Family<prometheus::Counter>& success =
      prometheus::BuildCounter()
          .Name(options.vllm_names ? "vllm:request_success_total" : "trireme_request_success_total")
          .Help("Choices that have ended, by finish reason.")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& http = prometheus::BuildCounter()
                                                      .Name("trireme_http_responses_total")
                                                      .Help("HTTP answers, by route and status.")
                                                      .Register(registry);
};

void RequestTimes::arrived(const Request& request) {
  arrived_at = scheduled_at = Clock::now();
  prompt_tokens = request.prompt.size();
  max_tokens = request.params.max_tokens;
  choices.assign(request.choices, {});
}

GatewayMetrics::GatewayMetrics(GatewayMetricsOptions options)
    : families_(std::make_unique<Families>(std::move(options))) {}
GatewayMetrics::~GatewayMetrics() = default;

void GatewayMetrics::accepted(const RequestTimes& times) {
  families_->prompt.Observe(static_cast<double>(times.prompt_tokens));
  families_->params_n.Observe(static_cast<double>(times.choices.size()));
  families_->params_max_tokens.Observe(times.max_tokens);
}

void GatewayMetrics::token(RequestTimes& times, uint32_t choice) {
  RequestTimes::Choice& c = times.choices[choice];
  const auto now = RequestTimes::Clock::now();
  if (c.tokens++ == 0) {
    c.first_token = now;
    families_->ttft.Observe(Seconds(now - times.arrived_at).count());
    families_->prefill.Observe(Seconds(now - times.scheduled_at).count());
    families_->queue.Observe(Seconds(times.scheduled_at - times.arrived_at).count());
  } else {
    families_->itl.Observe(Seconds(now - c.last_token).count());
  }
  c.last_token = now;
}

void GatewayMetrics::finished(const RequestTimes& times, uint32_t choice,
                              const std::string& finish_reason) {
  Labels labels = families_->labels();
  labels["finished_reason"] = finish_reason;
  families_->success.Add(labels).Increment();
  const RequestTimes::Choice& c = times.choices[choice];
  families_->generation.Observe(static_cast<double>(c.tokens));
  if (c.tokens == 0) return;
  families_->e2e.Observe(Seconds(c.last_token - times.arrived_at).count());
  families_->inference.Observe(Seconds(c.last_token - times.scheduled_at).count());
  const double decode = Seconds(c.last_token - c.first_token).count();
  families_->decode.Observe(decode);
  if (c.tokens > 1) families_->tpot.Observe(decode / static_cast<double>(c.tokens - 1));
}

void GatewayMetrics::answered(std::string_view route, int status) {
  families_->http
      .Add({{"route", route.empty() ? "none" : std::string(route)},
            {"status", std::to_string(status)}})
      .Increment();
}

namespace {

std::string escaped(std::string_view label) {
  std::string text;
  for (const char c : label) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  return text;
}

// Gauges and counters whose values are known at the scrape alone.
class Lines {
 public:
  explicit Lines(std::string labels) : labels_(std::move(labels)) {}
  void head(std::string_view name, std::string_view type, std::string_view help) {
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void value(std::string_view name, double value, std::string_view more = "") {
    text_ += fmt::format("{}{{{}{}}} {}\n", name, labels_, more, value);
  }
  void one(std::string_view name, std::string_view type, std::string_view help, double v) {
    head(name, type, help);
    value(name, v);
  }
  std::string take() { return std::move(text_); }

 private:
  const std::string labels_;
  std::string text_;
};

double usage_of(const EngineStats& stats) {
  double most = 0;
  for (const ClassUsage& c : stats.classes) {
    if (c.total > 0) most = std::max(most, static_cast<double>(c.live) / c.total);
  }
  return most;
}

void add_vllm(Lines& out, const EngineStats& s, const EngineInfo& info, bool legacy) {
  out.one("vllm:num_requests_running", "gauge", "Sequences that hold cache.", s.running);
  out.one("vllm:num_requests_waiting", "gauge", "Requests that wait.", s.waiting);
  out.one("vllm:kv_cache_usage_perc", "gauge", "Live share of the fullest class of blocks, 0 to 1.",
          usage_of(s));
  const auto count = [&](const std::string& name, const char* help, uint64_t v) {
    out.one("vllm:" + name + "_total", "counter", help, static_cast<double>(v));
  };
  count("prompt_tokens", "Prompt tokens of requests that have begun.", s.prompt_tokens);
  count("prompt_tokens_cached", "Of these, found in the prefix cache.", s.prompt_tokens_cached);
  count("generation_tokens", "Tokens sampled.", s.generation_tokens);
  count("num_preemptions", "Sequences that had to give up their blocks.", s.preemptions);
  count("prefix_cache_queries", "Prompt tokens looked for.", s.prefix_queries);
  count("prefix_cache_hits", "Prompt tokens found.", s.prefix_hits);
  out.head("vllm:cache_config_info", "gauge", "What the cache is made of.");
  uint64_t blocks = 0;
  for (const uint32_t n : info.blocks_total) blocks += n;
  out.value("vllm:cache_config_info", 1,
            fmt::format(",block_size=\"{}\",num_gpu_blocks=\"0\",num_cpu_blocks=\"{}\","
                        "enable_prefix_caching=\"{}\"",
                        info.block_tokens, blocks, info.prefix_caching ? "True" : "False"));
  if (!legacy) return;
  out.one("vllm:gpu_cache_usage_perc", "gauge", "vllm:kv_cache_usage_perc by its old name.",
          usage_of(s));
  count("gpu_prefix_cache_queries", "By its old name.", s.prefix_queries);
  count("gpu_prefix_cache_hits", "By its old name.", s.prefix_hits);
}

void add_own(Lines& out, const EngineStats& s, const EngineInfo& info) {
  out.head("trireme_cache_blocks", "gauge", "Blocks by class and state.");
  for (size_t c = 0; c < s.classes.size(); ++c) {
    const ClassUsage& u = s.classes[c];
    const std::pair<const char*, uint32_t> states[] = {
        {"free", u.free}, {"live", u.live}, {"cached", u.cached}};
    for (const auto& [state, n] : states)
      out.value("trireme_cache_blocks", n, fmt::format(",class=\"{}\",state=\"{}\"", c, state));
  }
  out.head("trireme_cache_block_bytes", "gauge",
           "Bytes of a block of a class on the leader's rank.");
  for (size_t c = 0; c < info.block_bytes.size(); ++c)
    out.value("trireme_cache_block_bytes", static_cast<double>(info.block_bytes[c]),
              fmt::format(",class=\"{}\"", c));
  out.one("trireme_spilled_bytes", "gauge", "Of preempted sequences in host memory, on the leader.",
          static_cast<double>(s.spilled_bytes));
  out.one("trireme_steps_total", "counter", "Steps.", static_cast<double>(s.steps));
  out.one("trireme_recordings", "gauge", "Sizes of steps that the leader's device has recorded.",
          static_cast<double>(s.recordings));
  out.one("trireme_steps_replayed_total", "counter", "Steps that were replayed from a recording.",
          static_cast<double>(s.steps_replayed));
  out.one("trireme_step_rows_total", "counter", "Rows computed.", static_cast<double>(s.step_rows));
  out.one("trireme_step_seconds_total", "counter", "Seconds of steps, from launch to result.",
          s.step_seconds);
  out.head("trireme_stage_busy_seconds_total", "counter", "Seconds that a stage computed.");
  for (size_t i = 0; i < s.stage_busy_seconds.size(); ++i)
    out.value("trireme_stage_busy_seconds_total", s.stage_busy_seconds[i],
              fmt::format(",stage=\"{}\"", i));
  out.head("trireme_stage_idle_seconds_total", "counter",
           "Seconds that a stage waited while there was work.");
  for (size_t i = 0; i < s.stage_idle_seconds.size(); ++i)
    out.value("trireme_stage_idle_seconds_total", s.stage_idle_seconds[i],
              fmt::format(",stage=\"{}\"", i));
}

}  // namespace

std::string GatewayMetrics::text(const EngineStats& stats, const EngineInfo& info) const {
  const GatewayMetricsOptions& options = families_->options;
  Lines lines(fmt::format("model_name=\"{}\",engine=\"0\"", escaped(options.model_name)));
  if (options.vllm_names) add_vllm(lines, stats, info, options.legacy_names);
  add_own(lines, stats, info);
  return lines.take() + prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace trireme
