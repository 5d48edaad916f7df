// The text format that /metrics speaks (Prometheus 0.0.4), as far as a reader of gauges, counters
// and histograms needs it. Pure; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

struct PrometheusSample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};
using PrometheusPage = std::vector<PrometheusSample>;

// The error names the line that is none of this format.
Result<PrometheusPage> parse_prometheus(std::string_view text);

// The sum over all labels; nullopt where the page has no such name.
std::optional<double> sum_of(const PrometheusPage& page, std::string_view name);

// (upper bound, how many are at most that), ascending, the last bound infinite; summed over labels.
using HistogramBuckets = std::vector<std::pair<double, double>>;
HistogramBuckets buckets_of(const PrometheusPage& page, std::string_view name);

// What came between two scrapes; `after` where it restarted or has other bounds.
HistogramBuckets buckets_since(const HistogramBuckets& before, const HistogramBuckets& after);

// As Prometheus's histogram_quantile: linear within a bucket, the first from 0, the last finite
// bound for what is beyond it. nullopt of an empty histogram.
std::optional<double> histogram_quantile(double q, const HistogramBuckets& buckets);

}  // namespace trireme
