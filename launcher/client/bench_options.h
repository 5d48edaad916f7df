// What `trireme bench serve` is asked to do. Filled by the command line.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "launcher/client/completion_stream.h"

namespace trireme {

inline constexpr double kAllAtOnce = std::numeric_limits<double>::infinity();

enum class DatasetKind : uint8_t { kRandom, kSharedPrefix, kMultiTurn, kFile };

struct DatasetOptions {
  DatasetKind kind = DatasetKind::kRandom;
  std::string path;          // kFile: JSONL of {"prompt", "max_tokens"}
  int64_t input_len = 1024;  // tokens of a prompt (of the part that is not shared; of a turn)
  int64_t output_len = 128;  // tokens of an answer
  double range_ratio = 0;    // lengths are uniform in len * (1 - r) .. len * (1 + r)
  int64_t prefix_len = 256;  // kSharedPrefix
  int64_t prefixes = 1;      // kSharedPrefix: how many different ones, in turn
  int64_t turns = 4;         // kMultiTurn: requests of one conversation
  int64_t requests = 100;    // in all
};

struct ArrivalOptions {
  double rate = kAllAtOnce;  // requests per second
  double burstiness = 1;     // shape of the gamma between two: 1 is Poisson, less is burstier
  enum class Ramp : uint8_t { kNone, kLinear, kExponential } ramp = Ramp::kNone;
  double ramp_start = 0, ramp_end = 0;  // requests per second; rate is not used then
};

// Milliseconds; nullopt = not asked for.
struct Goodput {
  std::optional<double> ttft, tpot, e2el;
  bool any() const { return ttft || tpot || e2el; }
};

// ttft_p99 < 500
struct Assertion {
  std::string text;
  std::string name;
  std::string op;  // < <= > >=
  double bound = 0;
};

struct BenchServeOptions {
  std::string base_url = "http://127.0.0.1:8000";
  std::string api_key;
  ApiKind endpoint = ApiKind::kCompletions;
  std::string model;  // "" = the first of /v1/models
  DatasetOptions dataset;
  ArrivalOptions arrivals;
  int64_t max_concurrency = 0;  // 0 = no limit
  int64_t warmups = 0;
  bool ignore_eos = false;
  uint64_t seed = 0;
  double temperature = 0;
  int64_t timeout_s = 600;  // the longest silence of a server
  Goodput goodput;
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl", "e2el"};
  std::vector<double> percentiles = {99};
  bool save_result = false, save_detailed = false;
  std::string result_filename;  // "" = a name of date, rate and model
  std::string plot;             // "" = none: FILE.svg
  std::vector<double> sweep_rates;
  std::vector<int64_t> sweep_concurrency;
  std::vector<Assertion> assertions;
  double cancel_fraction = 0;  // of requests whose connection is dropped somewhere in the answer
  double slow_readers = 0;     // of requests whose answer is read slowly
  int64_t verify = 0;          // requests to run again, alone
  bool json = false;           // the result as JSON on stdout instead of the table
};

// "ttft:500": adds to `goodput`. The error names what is wrong.
Status add_goodput(const std::string& text, Goodput& goodput);
// "ttft_p99<500"
Result<Assertion> parse_assertion(const std::string& text);

}  // namespace trireme
