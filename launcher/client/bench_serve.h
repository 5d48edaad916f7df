// `trireme bench serve`: a load for any OpenAI-compatible server, and what it made of it.
#pragma once

#include "launcher/client/bench_options.h"
#include "launcher/client/bench_report.h"
#include "launcher/client/console.h"
#include "launcher/client/http_fetch.h"
#include "launcher/client/load_plan.h"

namespace trireme {

// Calling thread: waits until all is done. Returns kClientOk, kClientFailed or kClientMissed.
// Errors: options that contradict each other (kInvalidArgument); a server that is not there; a file
// that cannot be written.
Result<int> run_bench_serve(const BenchServeOptions& options, const ClientConsole& console);

// Options that contradict each other, or numbers out of range.
Status validate(const BenchServeOptions& options);

// The first model that GET /v1/models names.
Result<std::string> first_model(const ServerUrl& url, const HttpOptions& http);

// What prompts of exact lengths can be made of with this server: the ids of a text by POST
// /tokenize (vLLM, llama-server, Trireme), which are ordinary tokens; else the ids below the
// vocab_size of GET /tokenizer_info; else nothing.
PromptSource find_prompt_source(const ServerUrl& url, const HttpOptions& http,
                                const std::string& model);

// TTFT and ITL distributions, tokens per second over time, the requests on a time line.
std::string run_plot(const std::string& title, const BenchResult& result,
                     const std::vector<RequestRecord>& records);

struct SweepPoint {
  double load = 0;  // requests per second, or requests at once
  BenchResult result;
};
// Latencies and throughput over the load, and against each other.
std::string sweep_plot(const std::string& title, const std::string& load_label,
                       const std::vector<SweepPoint>& points);

}  // namespace trireme
