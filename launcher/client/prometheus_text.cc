#include "launcher/client/prometheus_text.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

namespace trireme {
namespace {

bool parse_value(std::string_view text, double& value) {
  const std::string copy(text);
  char* end = nullptr;
  value = std::strtod(copy.c_str(), &end);  // knows +Inf and NaN
  return !copy.empty() && *end == '\0';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

// Reads {name="value",...} off the front of `text`.
bool parse_labels(std::string_view& text, std::map<std::string, std::string>& labels) {
  text.remove_prefix(1);
  for (;;) {
    text = trimmed(text);
    if (text.starts_with(',')) {
      text.remove_prefix(1);
      continue;
    }
    if (text.starts_with('}')) {
      text.remove_prefix(1);
      return true;
    }
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals + 1 >= text.size() || text[equals + 1] != '"')
      return false;
    std::string& value = labels[std::string(trimmed(text.substr(0, equals)))];
    size_t i = equals + 2;
    for (; i < text.size() && text[i] != '"'; ++i) {
      if (text[i] == '\\' && i + 1 < text.size()) {
        ++i;
        value += text[i] == 'n' ? '\n' : text[i];
      } else {
        value += text[i];
      }
    }
    if (i >= text.size()) return false;
    text.remove_prefix(i + 1);
  }
}

bool parse_sample(std::string_view line, PrometheusSample& sample) {
  const size_t end = line.find_first_of("{ \t");
  if (end == 0 || end == std::string_view::npos) return false;
  sample.name = line.substr(0, end);
  line.remove_prefix(end);
  if (line.starts_with('{') && !parse_labels(line, sample.labels)) return false;
  line = trimmed(line);
  return parse_value(line.substr(0, line.find_first_of(" \t")), sample.value);  // a time may follow
}

}  // namespace

Result<PrometheusPage> parse_prometheus(std::string_view text) {
  PrometheusPage page;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    PrometheusSample sample;
    if (!parse_sample(line, sample))
      return data_loss(
          fmt::format("line {} of the metrics is no sample: '{}'", number, line.substr(0, 80)));
    page.push_back(std::move(sample));
  }
  return page;
}

std::optional<double> sum_of(const PrometheusPage& page, std::string_view name) {
  std::optional<double> sum;
  for (const PrometheusSample& sample : page) {
    if (sample.name == name) sum = sum.value_or(0) + sample.value;
  }
  return sum;
}

HistogramBuckets buckets_of(const PrometheusPage& page, std::string_view name) {
  std::map<double, double> sums;
  const std::string full = fmt::format("{}_bucket", name);
  for (const PrometheusSample& sample : page) {
    double bound = 0;
    const auto le = sample.labels.find("le");
    if (sample.name == full && le != sample.labels.end() && parse_value(le->second, bound) &&
        !std::isnan(bound))
      sums[bound] += sample.value;
  }
  return {sums.begin(), sums.end()};
}

HistogramBuckets buckets_since(const HistogramBuckets& before, const HistogramBuckets& after) {
  if (before.size() != after.size()) return after;
  HistogramBuckets since = after;
  for (size_t i = 0; i < after.size(); ++i) {
    if (before[i].first != after[i].first || before[i].second > after[i].second) return after;
    since[i].second -= before[i].second;
  }
  return since;
}

std::optional<double> histogram_quantile(double q, const HistogramBuckets& buckets) {
  if (buckets.size() < 2 || !std::isinf(buckets.back().first) || buckets.back().second <= 0)
    return std::nullopt;
  const double rank = q * buckets.back().second;
  size_t i = 0;
  while (i + 1 < buckets.size() && buckets[i].second < rank) ++i;
  if (i + 1 == buckets.size()) return buckets[i - 1].first;
  const double low = i == 0 ? 0 : buckets[i - 1].first;
  const double below = i == 0 ? 0 : buckets[i - 1].second;
  const double inside = buckets[i].second - below;
  if (inside <= 0) return buckets[i].first;
  return low + (buckets[i].first - low) * (rank - below) / inside;
}

}  // namespace trireme
