#include "launcher/cli_client.h"

#include <charconv>
#include <iostream>
#include <span>

#include <fmt/format.h>
#include <unistd.h>

#include "launcher/exit_code.h"
#include "launcher/output.h"

namespace trireme {
namespace {

template <class Number>
Result<std::vector<Number>> parse_list(const char* flag, const std::string& text) {
  std::vector<Number> numbers;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    Number number{};
    const auto [read, error] = std::from_chars(text.data() + at, text.data() + end, number);
    if (error != std::errc() || read != text.data() + end)
      return invalid_argument(
          fmt::format("{}: '{}' is no list of numbers, as in 1,4,16", flag, text));
    numbers.push_back(number);
    at = end + 1;
  }
  return numbers;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

template <class Kind>
Result<Kind> one_of(const char* flag, const std::string& text,
                    std::span<const std::pair<const char*, Kind>> kinds) {
  std::string known;
  for (const auto& [name, kind] : kinds) {
    if (text == name) return kind;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  return invalid_argument(fmt::format("{}: '{}' is none of {}", flag, text, known));
}

}  // namespace

// What CLI11 fills, and how each subcommand's words become its options.
struct ClientCommands::Options {
  explicit Options(CLI::App& app) {
    CLI::App* const group = app.add_subcommand("bench", "benchmarks of a server");
    group->require_subcommand(1);
    bench_app = group->add_subcommand(
        "serve", "sends a load to an OpenAI-compatible server and reports as vllm bench serve");
    add_bench();
    chat_app = app.add_subcommand("chat", "a chat in the terminal with a server");
    add_chat();
    top_app = app.add_subcommand("top", "a server's load, live");
    add_url(*top_app, top.url);
    add_key(*top_app);
    top_app->add_option("--interval", top.interval_s, "seconds between two looks [1]");
    top_app->add_flag("--plain", top.plain, "one line per interval instead of a screen");
    top_app->add_flag("--once", top.once, "one look, after one interval");
    trace_app = app.add_subcommand("trace", "records what a server does, for ui.perfetto.dev");
    add_url(*trace_app, trace.url, "the server's admin address [http://127.0.0.1:8001]");
    add_key(*trace_app);
    trace_app->add_option("-o,--output", trace.file, "the file to write")->type_name("FILE.json");
    for (CLI::App* sub : {group, bench_app, chat_app, top_app, trace_app}) sub->allow_extras(false);
    trace_app->add_option("--seconds", trace.seconds, "how long [10]")->type_name("N");
  }

  static void add_url(CLI::App& app, std::string& url,
                      const std::string& what = "the server [http://127.0.0.1:8000]") {
    app.add_option("URL", url, what)->type_name("URL");
  }
  void add_key(CLI::App& app) {
    app.add_option("--api-key", api_key, "sent as a bearer token [OPENAI_API_KEY]")
        ->type_name("KEY");
  }

  void add_chat() {
    add_url(*chat_app, chat.url);
    add_key(*chat_app);
    chat_app->add_option("-m,--model", chat.call.model, "[the server's first]")->type_name("NAME");
    chat_app->add_option("--system", chat.system, "the system message")->type_name("TEXT");
    chat_app->add_option("--max-tokens", chat.call.max_tokens, "of an answer [the server's]")
        ->type_name("N");
    chat_app->add_option("--temperature", chat.call.temperature, "[the server's]")->type_name("T");
    chat_app->add_option("--top-p", chat.call.top_p, "[the server's]")->type_name("P");
    chat_app->add_option("--seed", chat.call.seed, "[the server's]")->type_name("N");
    chat_app->add_option("--timeout", chat.timeout_s, "seconds of a server's silence [600]")
        ->type_name("S");
    chat_app->add_flag("--stats", chat.stats, "TTFT and tokens per second of each answer");
  }

  void add_bench() {
    CLI::App& a = *bench_app;
    const auto text = [&](const char* flag, std::string& target, const char* type,
                          const char* help) { a.add_option(flag, target, help)->type_name(type); };
    const auto number = [&](const char* flag, auto& target, const char* help) {
      a.add_option(flag, target, help)->type_name("N");
    };
    text("--base-url", bench.base_url, "URL", "the server [http://127.0.0.1:8000]");
    text("--host", host, "HOST", "or its host and port");
    number("--port", port, "");
    add_key(a);
    text("--endpoint", endpoint, "PATH", "completions or chat/completions [completions]");
    text("--model", bench.model, "NAME", "[the server's first]");
    text("--dataset-name", dataset, "NAME", "random, shared-prefix, multi-turn or file [random]");
    text("--dataset-path", bench.dataset.path, "FILE.jsonl",
         "lines of {\"prompt\", \"max_tokens\"}");
    number("--random-input-len", bench.dataset.input_len, "tokens of a prompt [1024]");
    number("--random-output-len", bench.dataset.output_len, "tokens of an answer [128]");
    number("--random-range-ratio", bench.dataset.range_ratio, "lengths vary by this share [0]");
    number("--random-prefix-len", bench.dataset.prefix_len, "shared-prefix: tokens before [256]");
    number("--num-prefixes", bench.dataset.prefixes, "shared-prefix: different ones [1]");
    number("--num-turns", bench.dataset.turns, "multi-turn: requests of a conversation [4]");
    number("--num-prompts", bench.dataset.requests, "requests [100]");
    text("--request-rate", rate, "RPS", "arrivals per second, or inf [inf]");
    number("--burstiness", bench.arrivals.burstiness, "1 is Poisson, less is burstier [1]");
    text("--ramp-up-strategy", ramp, "NAME", "linear or exponential");
    number("--ramp-up-start-rps", bench.arrivals.ramp_start, "");
    number("--ramp-up-end-rps", bench.arrivals.ramp_end, "");
    number("--max-concurrency", bench.max_concurrency, "requests at once [no limit]");
    number("--num-warmups", bench.warmups, "requests before the measured ones [0]");
    a.add_flag("--ignore-eos", bench.ignore_eos, "answers of the full length");
    number("--seed", bench.seed, "of prompts, lengths and arrivals [0]");
    number("--temperature", bench.temperature, "[0]");
    number("--timeout", bench.timeout_s, "seconds of a server's silence [600]");
    a.add_option("--goodput", goodput, "ttft:MS tpot:MS e2el:MS")->type_name("NAME:MS ...");
    text("--percentile-metrics", percentile_metrics, "NAME,...", "[ttft,tpot,itl,e2el]");
    text("--metric-percentiles", percentiles, "P,...", "[99]");
    a.add_flag("--save-result", bench.save_result, "writes the result as JSON");
    a.add_flag("--save-detailed", bench.save_detailed, "with the texts of the answers");
    text("--result-filename", bench.result_filename, "FILE.json", "where");
    a.add_flag("--json", bench.json, "JSON on stdout instead of the table");
    text("--plot", bench.plot, "FILE.svg", "writes a plot");
    text("--sweep-request-rates", sweep_rates, "A,B,...", "one run per rate");
    text("--sweep-concurrency", sweep_concurrency, "A,B,...", "one run per --max-concurrency");
    a.add_option("--assert", assertions,
                 "such as 'ttft_p99<500': exit code 3 where it does not hold")
        ->type_name("TEXT")
        ->take_all();
    number("--cancel-fraction", bench.cancel_fraction, "share of requests dropped midway [0]");
    number("--slow-readers", bench.slow_readers, "share of answers that are read slowly [0]");
    number("--verify", bench.verify, "runs N requests again alone and compares the texts");
  }

  Result<ClientCommand> take_bench() {
    static constexpr std::pair<const char*, DatasetKind> kDatasets[] = {
        {"random", DatasetKind::kRandom},
        {"shared-prefix", DatasetKind::kSharedPrefix},
        {"multi-turn", DatasetKind::kMultiTurn},
        {"file", DatasetKind::kFile}};
    static constexpr std::pair<const char*, ApiKind> kEndpoints[] = {
        {"completions", ApiKind::kCompletions},
        {"chat/completions", ApiKind::kChat},
        {"/v1/completions", ApiKind::kCompletions},
        {"/v1/chat/completions", ApiKind::kChat}};
    using Ramp = ArrivalOptions::Ramp;
    static constexpr std::pair<const char*, Ramp> kRamps[] = {
        {"", Ramp::kNone}, {"linear", Ramp::kLinear}, {"exponential", Ramp::kExponential}};
    bench.api_key = api_key_or_environment(api_key);
    if (!host.empty() || port != 0)
      bench.base_url =
          fmt::format("http://{}:{}", host.empty() ? "127.0.0.1" : host, port == 0 ? 8000 : port);
    const auto kind = one_of<DatasetKind>("--dataset-name", dataset, kDatasets);
    const auto api = one_of<ApiKind>("--endpoint", endpoint, kEndpoints);
    const auto ramped = one_of<Ramp>("--ramp-up-strategy", ramp, kRamps);
    if (!kind.ok()) return kind.status();
    if (!api.ok()) return api.status();
    if (!ramped.ok()) return ramped.status();
    bench.dataset.kind = *kind;
    bench.endpoint = *api;
    bench.arrivals.ramp = *ramped;
    const Result<std::vector<double>> rates = parse_list<double>("--request-rate", rate);
    if (!rates.ok() || rates->size() != 1)
      return invalid_argument(fmt::format("--request-rate: '{}' is no number, and not inf", rate));
    bench.arrivals.rate = rates->front();
    for (const std::string& word : goodput) {
      if (Status s = add_goodput(word, bench.goodput); !s.ok()) return s;
    }
    for (const std::string& word : assertions) {
      Result<Assertion> assertion = parse_assertion(word);
      if (!assertion.ok()) return assertion.status();
      bench.assertions.push_back(assertion.take());
    }
    if (!percentile_metrics.empty()) bench.percentile_metrics = split(percentile_metrics);
    if (Status s = list("--metric-percentiles", percentiles, bench.percentiles); !s.ok()) return s;
    if (Status s = list("--sweep-request-rates", sweep_rates, bench.sweep_rates); !s.ok()) return s;
    if (Status s = list("--sweep-concurrency", sweep_concurrency, bench.sweep_concurrency); !s.ok())
      return s;
    if (Status s = validate(bench); !s.ok()) return s;
    return ClientCommand(bench);
  }

  template <class Number>
  static Status list(const char* flag, const std::string& text, std::vector<Number>& target) {
    if (text.empty()) return {};
    Result<std::vector<Number>> numbers = parse_list<Number>(flag, text);
    if (!numbers.ok()) return numbers.status();
    target = numbers.take();
    return {};
  }

  CLI::App* bench_app = nullptr;
  CLI::App* chat_app = nullptr;
  CLI::App* top_app = nullptr;
  CLI::App* trace_app = nullptr;
  BenchServeOptions bench;
  ChatOptions chat;
  TopOptions top;
  TraceOptions trace;
  std::string api_key, host, endpoint = "completions", dataset = "random", rate = "inf", ramp;
  uint16_t port = 0;
  std::vector<std::string> goodput, assertions;
  std::string percentile_metrics, percentiles, sweep_rates, sweep_concurrency;
};

ClientCommands::ClientCommands(CLI::App& app) : options_(std::make_unique<Options>(app)) {}
ClientCommands::~ClientCommands() = default;

const CLI::App* ClientCommands::parsed() const {
  for (const CLI::App* app :
       {options_->bench_app, options_->chat_app, options_->top_app, options_->trace_app}) {
    if (app->parsed()) return app;
  }
  const CLI::App* const group = options_->bench_app->get_parent();
  return group->parsed() ? group : nullptr;
}

Result<ClientCommand> ClientCommands::take() {
  Options& o = *options_;
  if (o.bench_app->parsed()) return o.take_bench();
  const std::string key = api_key_or_environment(o.api_key);
  o.chat.api_key = o.top.api_key = o.trace.api_key = key;
  if (o.chat_app->parsed()) return ClientCommand(o.chat);
  if (o.top_app->parsed()) return ClientCommand(o.top);
  CHECK(o.trace_app->parsed());
  if (o.trace.file.empty())
    return invalid_argument("trace needs -o FILE.json; see trireme trace --help");
  return ClientCommand(o.trace);
}

int run_client(const ClientCommand& command) {
  const ClientConsole console{[](std::string_view text) { return write_result(text); },
                              [](std::string_view text) { print_message(text); }};
  Result<int> code = kClientOk;
  if (const auto* bench = std::get_if<BenchServeOptions>(&command)) {
    code = run_bench_serve(*bench, console);
  } else if (const auto* chat = std::get_if<ChatOptions>(&command)) {
    code = run_chat(*chat, console, std::cin, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
  } else if (const auto* top = std::get_if<TopOptions>(&command)) {
    code = run_top(*top, console);
  } else {
    code = run_trace(std::get<TraceOptions>(command), console);
  }
  if (code.ok()) return *code;
  print_error(code.status());
  // A server that is not there is no lost rank.
  return code.status().code() == StatusCode::kUnavailable
             ? kExitRuntime
             : exit_code(code.status(), Doing::kRunning);
}

}  // namespace trireme
