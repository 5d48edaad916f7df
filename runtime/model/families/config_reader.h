// Typed reading of a model's config.json with errors that name the field. The first error is kept;
// after it every read gives its default, so a family reads all fields and asks once.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/json.h"

namespace trireme {

// More layers than any model has: a config that says more is damaged, and believing it would ask
// for the memory of them all.
inline constexpr int64_t kLayersMax = 100000;

class ConfigReader {
 public:
  // `path` begins every message. Both outlive the reader.
  ConfigReader(const Json& config, std::string path) : config_(config), path_(std::move(path)) {}

  bool has(std::string_view key) const { return find(config_, key) != nullptr; }

  int64_t integer(std::string_view key, int64_t min = 1,
                  int64_t max = std::numeric_limits<int32_t>::max());
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t min = 1,
                     int64_t max = std::numeric_limits<int32_t>::max());
  double number_or(std::string_view key, double fallback, double min, double max);
  bool boolean_or(std::string_view key, bool fallback);
  std::string string_or(std::string_view key, std::string fallback);

  // A nested object, as a reader of its own whose errors come back through absorb().
  ConfigReader child(std::string_view key) const;
  void absorb(const ConfigReader& child) {
    if (status_.ok()) status_ = child.status_;
  }

  // Fails where the field is present (and not null or false or 0): it would change the results.
  void refuse(std::string_view key, std::string_view what);
  // Fails on any key that is not among `known`.
  void only(std::initializer_list<std::string_view> known);
  void fail(StatusCode code, std::string message);

  const Json& json() const { return config_; }
  const std::string& path() const { return path_; }
  const Status& status() const { return status_; }

 private:
  const Json& config_;
  std::string path_;
  Status status_;
};

}  // namespace trireme
