#include "launcher/client/bench_serve.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <set>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "launcher/client/draws.h"
#include "launcher/client/load_run.h"
#include "launcher/client/stats.h"
#include "launcher/client/write_file.h"

namespace trireme {
namespace {

using End = RequestRecord::End;

constexpr double kSaturatedShare = 0.8;
constexpr uint32_t kVerifyStream = 100;

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &parts);
  return text;
}

std::string default_name(const BenchServeOptions& options, const std::string& date) {
  std::string model = options.model.substr(options.model.rfind('/') + 1);
  for (char& c : model) {
    if (static_cast<unsigned char>(c) <= ' ') c = '_';
  }
  const std::string concurrency =
      options.max_concurrency > 0 ? fmt::format("-concurrency{}", options.max_concurrency) : "";
  return fmt::format("openai-{:g}qps{}-{}-{}.json", options.arrivals.rate, concurrency, model,
                     date);
}

// A benchmark of one or several loads against one server.
class Bench {
 public:
  Bench(const BenchServeOptions& options, const ClientConsole& console, ServerUrl url)
      : options_(options), console_(console), url_(std::move(url)) {
    http_.api_key = options.api_key;
    http_.idle_timeout = std::chrono::seconds(options.timeout_s);
  }

  Result<int> run() {
    if (options_.model.empty()) {
      Result<std::string> model = first_model(url_, http_);
      if (!model.ok()) return model.status();
      options_.model = model.take();
    }
    const bool generated = options_.dataset.kind != DatasetKind::kFile;
    if (generated && options_.endpoint == ApiKind::kCompletions &&
        options_.dataset.kind != DatasetKind::kMultiTurn)
      source_ = find_prompt_source(url_, http_, options_.model);
    if (generated && source_.ids.empty())
      console_.message(
          "prompts are text of about a token per word: their lengths are what the "
          "server counts");
    if (Status s = warm_up(); !s.ok()) return s;
    for (const double rate : options_.sweep_rates) {
      BenchServeOptions point = options_;
      point.arrivals.rate = rate;
      if (Status s = one_load(point, rate); !s.ok()) return s;
    }
    for (const int64_t concurrency : options_.sweep_concurrency) {
      BenchServeOptions point = options_;
      point.max_concurrency = concurrency;
      if (Status s = one_load(point, static_cast<double>(concurrency)); !s.ok()) return s;
    }
    if (!sweeping()) {
      if (Status s = one_load(options_, 0); !s.ok()) return s;
    }
    if (Status s = write_outputs(); !s.ok()) return s;
    return code_;
  }

 private:
  bool sweeping() const {
    return !options_.sweep_rates.empty() || !options_.sweep_concurrency.empty();
  }

  LoadOptions load_options(const BenchServeOptions& options) const {
    LoadOptions load;
    load.endpoint = options.endpoint;
    load.call.model = options.model;
    load.call.temperature = options.temperature;
    load.call.ignore_eos = options.ignore_eos;
    load.seed = options.seed;
    load.max_concurrency = options.max_concurrency;
    load.keep_bodies = options.verify > 0;
    return load;
  }

  // Requests of other contents than the measured ones, one after the other.
  Status warm_up() {
    if (options_.warmups == 0) return {};
    BenchServeOptions warm = options_;
    warm.seed = options_.seed + 0x5eed;
    warm.dataset.requests = options_.warmups;
    warm.max_concurrency = 1;
    warm.arrivals = {};
    warm.cancel_fraction = warm.slow_readers = 0;
    Result<std::vector<PlannedConversation>> plan = plan_load(warm, source_);
    if (!plan.ok()) return plan.status();
    const LoadRun run = run_load(url_, http_, load_options(warm), plan.take());
    for (const RequestRecord& r : run.records) {
      if (r.end != End::kCompleted) return unavailable("a warm-up request failed: " + r.error);
    }
    return {};
  }

  Status one_load(const BenchServeOptions& options, double load) {
    Result<std::vector<PlannedConversation>> plan = plan_load(options, source_);
    if (!plan.ok()) return plan.status();
    console_.message(fmt::format("{} requests to {}{}, model {}", options.dataset.requests,
                                 url_.text(), api_path(options.endpoint), options.model));
    LoadRun run = run_load(url_, http_, load_options(options), plan.take());
    const BenchResult result =
        summarize(run.records, run.duration_s, run.client_cpu_s, options.goodput);
    CHECK(result.completed + result.failed + result.cancelled == std::ssize(run.records));
    JsonObject json = result_json(result, run.records, options, date_);
    if (!options_.json) {
      if (Status s = console_.result(result_table(result, options)); !s.ok()) return s;
    }
    warn(result, run.records);
    if (options.verify > 0 && !verify(options, run, json)) code_ = kClientFailed;
    if (result.completed == 0 && result.failed > 0) code_ = kClientFailed;
    const Result<std::vector<std::string>> missed = missed_assertions(result, options.assertions);
    if (!missed.ok()) return missed.status();
    for (const std::string& sentence : *missed) console_.message(sentence);
    if (!missed->empty() && code_ == kClientOk) code_ = kClientMissed;
    jsons_.emplace_back(std::move(json));
    if (sweeping()) {
      points_.push_back({load, result});
    } else if (!options.plot.empty()) {
      plot_ = run_plot("Serving benchmark: " + options.model, result, run.records);
    }
    return {};
  }

  void warn(const BenchResult& result, const std::vector<RequestRecord>& records) const {
    std::map<std::string, int64_t> errors;
    for (const RequestRecord& r : records) {
      if (r.end == End::kFailed) ++errors[r.error];
    }
    constexpr size_t kErrorsShown = 5;
    size_t shown = 0;
    for (const auto& [error, count] : errors) {
      if (shown++ == kErrorsShown) break;
      console_.message(fmt::format("{} failed: {}", count, error));
    }
    if (result.client_cpu_share > kSaturatedShare)
      console_.message(
          fmt::format("this client used {:.0f} % of a core: it may be what limits the "
                      "rate; run several clients",
                      result.client_cpu_share * 100));
  }

  // Completed requests once more, each alone; whether all say the same, byte for byte.
  bool verify(const BenchServeOptions& options, const LoadRun& run, JsonObject& json) const {
    std::vector<size_t> completed;
    for (size_t i = 0; i < run.records.size(); ++i) {
      if (run.records[i].end == End::kCompleted) completed.push_back(i);
    }
    Draws draws(options.seed, kVerifyStream);
    int64_t checked = 0, differing = 0;
    for (; checked < options.verify && !completed.empty(); ++checked) {
      const size_t pick = static_cast<size_t>(draws.integer(0, std::ssize(completed) - 1));
      const size_t i = completed[pick];
      completed[pick] = completed.back();
      completed.pop_back();
      const RequestRecord again = run_once(url_, http_, options.endpoint, run.bodies[i]);
      if (again.end == End::kCompleted && again.text == run.records[i].text) continue;
      ++differing;
      const std::string& before = run.records[i].text;
      const auto at =
          std::mismatch(before.begin(), before.end(), again.text.begin(), again.text.end());
      console_.message(again.end == End::kCompleted
                           ? fmt::format("request {} alone says something else from byte {} on", i,
                                         at.first - before.begin())
                           : fmt::format("request {} alone failed: {}", i, again.error));
    }
    json["verified"] = checked;
    json["verify_mismatches"] = differing;
    console_.message(fmt::format("verified {} requests alone: {} differ", checked, differing));
    return differing == 0 && checked > 0;
  }

  Status write_outputs() {
    Json all = sweeping() ? Json(JsonArray(jsons_.begin(), jsons_.end())) : Json(jsons_.front());
    const std::string text = boost::json::serialize(all) + "\n";
    if (options_.json) {
      if (Status s = console_.result(text); !s.ok()) return s;
    }
    if (options_.save_result || !options_.result_filename.empty()) {
      const std::string name = options_.result_filename.empty() ? default_name(options_, date_)
                                                                : options_.result_filename;
      if (Status s = write_file(name, text); !s.ok()) return s;
      console_.message("wrote " + name);
    }
    if (options_.plot.empty()) return {};
    if (sweeping())
      plot_ = sweep_plot("Serving benchmark: " + options_.model,
                         options_.sweep_rates.empty() ? "requests at once" : "requests per second",
                         points_);
    if (Status s = write_file(options_.plot, plot_); !s.ok()) return s;
    console_.message("wrote " + options_.plot);
    return {};
  }

  BenchServeOptions options_;
  const ClientConsole& console_;
  const ServerUrl url_;
  HttpOptions http_;
  PromptSource source_;
  const std::string date_ = now_text();
  std::vector<Json> jsons_;
  std::vector<SweepPoint> points_;
  std::string plot_;
  int code_ = kClientOk;
};

}  // namespace

Status validate(const BenchServeOptions& o) {
  const auto share = [](const char* flag, double v) {
    return v >= 0 && v <= 1
               ? Status()
               : invalid_argument(fmt::format("{} is a share from 0 to 1, not {:g}", flag, v));
  };
  constexpr int64_t kTokensMax = int64_t{1} << 24, kRequestsMax = 10'000'000;
  const auto range = [](const char* flag, int64_t v, int64_t low, int64_t high) {
    return v >= low && v <= high
               ? Status()
               : invalid_argument(fmt::format("{} is from {} to {}, not {}", flag, low, high, v));
  };
  const ArrivalOptions& a = o.arrivals;
  const DatasetOptions& d = o.dataset;
  for (const Status& s :
       {share("--cancel-fraction", o.cancel_fraction), share("--slow-readers", o.slow_readers),
        range("--num-prompts", d.requests, 1, kRequestsMax),
        range("--random-input-len", d.input_len, 1, kTokensMax),
        range("--random-output-len", d.output_len, 1, kTokensMax),
        range("--random-prefix-len", d.prefix_len, 1, kTokensMax),
        range("--num-prefixes", d.prefixes, 1, kRequestsMax),
        range("--num-turns", d.turns, 1, kRequestsMax),
        range("--max-concurrency", o.max_concurrency, 0, kRequestsMax),
        range("--num-warmups", o.warmups, 0, kRequestsMax),
        range("--verify", o.verify, 0, kRequestsMax), range("--timeout", o.timeout_s, 1, 86400)}) {
    if (!s.ok()) return s;
  }
  if (!(d.range_ratio >= 0 && d.range_ratio < 1))
    return invalid_argument("--random-range-ratio is from 0 to below 1");
  if (!(a.rate > 0)) return invalid_argument("--request-rate is above 0, or inf");
  if (!(a.burstiness > 0) || a.burstiness == kAllAtOnce)
    return invalid_argument("--burstiness is above 0: 1 is Poisson");
  if (!(o.temperature >= 0 && o.temperature <= 2))
    return invalid_argument("--temperature is from 0 to 2");
  const bool ramp = a.ramp != ArrivalOptions::Ramp::kNone;
  if (ramp &&
      !(a.ramp_start > 0 && a.ramp_end > 0 && a.ramp_start < kAllAtOnce && a.ramp_end < kAllAtOnce))
    return invalid_argument(
        "--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps above 0");
  if (ramp && (a.rate != kAllAtOnce || !o.sweep_rates.empty()))
    return invalid_argument("--ramp-up-strategy gives the rates: leave --request-rate away");
  if (!o.sweep_rates.empty() && !o.sweep_concurrency.empty())
    return invalid_argument("--sweep-request-rates and --sweep-concurrency: keep one");
  for (const double rate : o.sweep_rates) {
    if (!(rate > 0)) return invalid_argument("--sweep-request-rates are above 0");
  }
  for (const int64_t n : o.sweep_concurrency) {
    if (n < 1) return invalid_argument("--sweep-concurrency are at least 1");
  }
  for (const double p : o.percentiles) {
    if (!(p >= 0 && p <= 100)) return invalid_argument("--metric-percentiles are from 0 to 100");
  }
  static const std::set<std::string> kNames = {"ttft", "tpot", "itl", "e2el"};
  for (const std::string& name : o.percentile_metrics) {
    if (!kNames.contains(name))
      return invalid_argument(
          fmt::format("--percentile-metrics: '{}' is none of ttft, tpot, itl, e2el", name));
  }
  if ((d.kind == DatasetKind::kFile) != !d.path.empty())
    return invalid_argument("--dataset-name file and --dataset-path FILE.jsonl go together");
  for (const Assertion& assertion : o.assertions) {
    if (const Result<double> known = result_named({}, assertion.name); !known.ok())
      return known.status();
  }
  return {};
}

Result<std::string> first_model(const ServerUrl& url, const HttpOptions& http) {
  const Result<HttpAnswer> answer = fetch(url, http, "GET", "/v1/models");
  if (!answer.ok()) return answer.status();
  if (answer->status != 200)
    return unavailable(fmt::format("{}/v1/models: {}", url.text(), error_message(*answer)));
  const Result<Json> json = parse_json(answer->body);
  if (json.ok()) {
    const Json* data = find(*json, "data");
    if (data != nullptr && data->is_array() && !data->as_array().empty()) {
      const Json* id = find(data->as_array()[0], "id");
      if (id != nullptr && id->is_string()) return std::string(id->as_string());
    }
  }
  return data_loss(fmt::format("{}/v1/models names no model: give --model NAME", url.text()));
}

PromptSource find_prompt_source(const ServerUrl& url, const HttpOptions& http,
                                const std::string& model) {
  static constexpr std::string_view kText =
      "In the beginning the river ran through three valleys, and nobody asked why. A child counted "
      "stones: one, two, five, twelve; her brother sold bread, salt and oil in the market beside "
      "the old bridge. When winter came they walked north with horses, letters, and a small "
      "lantern. \"What is a machine that reads?\" said the teacher. Some thought of water, some of "
      "fire; others wrote long numbers on paper until the light was gone.";
  constexpr size_t kDifferentMin = 32;
  constexpr int64_t kVocabMax = 1 << 22;
  PromptSource source;
  JsonObject body;
  if (!model.empty()) body["model"] = model;
  body["prompt"] = kText;   // vLLM, Trireme
  body["content"] = kText;  // llama-server
  body["add_special_tokens"] = false;
  const Result<HttpAnswer> tokens =
      fetch(url, http, "POST", "/tokenize", boost::json::serialize(body));
  if (tokens.ok() && tokens->status == 200) {
    const Result<Json> json = parse_json(tokens->body);
    const Json* list = json.ok() ? find(*json, "tokens") : nullptr;
    std::set<int32_t> ids;
    if (list != nullptr && list->is_array()) {
      for (const Json& id : list->as_array()) {
        if (id.is_int64() && id.as_int64() >= 0 && id.as_int64() < kVocabMax)
          ids.insert(static_cast<int32_t>(id.as_int64()));
      }
    }
    if (ids.size() >= kDifferentMin) {
      source.ids.assign(ids.begin(), ids.end());
      return source;
    }
  }
  const Result<HttpAnswer> info = fetch(url, http, "GET", "/tokenizer_info");
  if (!info.ok() || info->status != 200) return source;
  const Result<Json> json = parse_json(info->body);
  const Json* vocab = json.ok() ? find(*json, "vocab_size") : nullptr;
  if (vocab == nullptr || !vocab->is_int64() || vocab->as_int64() < 1 ||
      vocab->as_int64() > kVocabMax)
    return source;
  for (int32_t id = 0; id < vocab->as_int64(); ++id) source.ids.push_back(id);
  return source;
}

Result<int> run_bench_serve(const BenchServeOptions& options, const ClientConsole& console) {
  if (Status s = validate(options); !s.ok()) return s;
  Result<ServerUrl> url = parse_server_url(options.base_url);
  if (!url.ok()) return url.status();
  return Bench(options, console, url.take()).run();
}

}  // namespace trireme
