// From what happened to each request to what `vllm bench serve` prints and saves: the same labels
// and the same JSON keys, so that scripts read both. Pure; any thread.
//
// A request starts when its slot is free: a fresh connection is part of it. TTFT: to the first
// event with text (an empty first chunk does not count). ITL: between two such events. E2EL: to the
// last byte of the stream. TPOT: (E2EL - TTFT) / (tokens - 1), of requests of two tokens and more.
// Tokens are the server's usage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/json.h"
#include "launcher/client/bench_options.h"

namespace trireme {

struct RequestRecord {
  enum class End : uint8_t { kNone, kCompleted, kFailed, kCancelled };
  End end = End::kNone;
  bool slow = false;   // read slowly: its times are the client's, and stay out of the statistics
  double start_s = 0;  // after the start of the benchmark
  double ttft_s = 0;   // 0 = no text came
  std::vector<double> itl_s;
  double e2e_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;
  std::string text, error;
};

struct MetricSummary {
  double mean = 0, median = 0, deviation = 0;
  std::vector<double> sorted;  // milliseconds
};

struct BenchResult {
  double duration_s = 0;
  int64_t completed = 0, failed = 0, cancelled = 0;
  int64_t input_tokens = 0, output_tokens = 0, cached_tokens = 0;  // of completed requests
  double request_throughput = 0, request_goodput = 0;              // per second
  double output_throughput = 0, total_throughput = 0;              // tokens per second
  double peak_output_throughput = 0;  // tokens in the best second of the run
  int64_t peak_concurrent = 0;        // requests at once
  double client_cpu_share = 0;        // CPU seconds of this process per second of the run
  MetricSummary ttft, tpot, itl, e2el;
};

// REQUIRES: every record has ended.
BenchResult summarize(const std::vector<RequestRecord>& records, double duration_s,
                      double client_cpu_s, const Goodput& goodput);

// Events with text per second of the run, of all requests that began.
std::vector<double> tokens_per_second(const std::vector<RequestRecord>& records, double duration_s);

std::string result_table(const BenchResult& result, const BenchServeOptions& options);

// vLLM's keys, then ours: cancelled, total_cached_tokens, client_cpu_share. Lists one entry per
// request; texts only with save_detailed.
JsonObject result_json(const BenchResult& result, const std::vector<RequestRecord>& records,
                       const BenchServeOptions& options, const std::string& date);

// The number that an assertion names: <ttft|tpot|itl|e2el>_<mean|median|std|pN> in milliseconds, or
// a key of the JSON. The error lists what there is.
Result<double> result_named(const BenchResult& result, const std::string& name);

// One sentence per assertion that does not hold.
Result<std::vector<std::string>> missed_assertions(const BenchResult& result,
                                                   const std::vector<Assertion>& assertions);

}  // namespace trireme
