#include "runtime/model/families/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// YaRN (arXiv 2309.00071): short wavelengths keep their frequency, long ones are interpolated, with
// a linear ramp between the dimensions that turn beta_fast and beta_slow times within L0 tokens.
std::vector<double> yarn_frequencies(std::vector<double> f, ConfigReader& scaling, double factor,
                                     double theta, double original) {
  const double rotary_dim = 2.0 * static_cast<double>(f.size());
  const double beta_fast = scaling.number_or("beta_fast", 32, 1e-6, 1e6);
  const double beta_slow = scaling.number_or("beta_slow", 1, 1e-6, 1e6);
  const bool truncate = scaling.boolean_or("truncate", true);
  const auto dimension = [&](double turns) {
    return rotary_dim * std::log(original / (turns * kTwoPi)) / (2 * std::log(theta));
  };
  double low = dimension(beta_fast);
  double high = dimension(beta_slow);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = f[i] / factor * ramp + f[i] * (1 - ramp);
  }
  return f;
}

float yarn_scale(ConfigReader& scaling, double factor) {
  const auto grown = [&](double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  const double mscale = scaling.number_or("mscale", 0, 0, 1e6);
  const double mscale_all = scaling.number_or("mscale_all_dim", 0, 0, 1e6);
  const double fallback =
      mscale > 0 && mscale_all > 0 ? grown(mscale) / grown(mscale_all) : grown(1);
  return static_cast<float>(scaling.number_or("attention_factor", fallback, 0, 1e6));
}

// Llama 3.1: wavelengths beyond L0 / low are divided, those below L0 / high kept, between them
// mixed.
void llama3_frequencies(std::vector<double>& f, ConfigReader& scaling, double factor,
                        double original) {
  const double low = scaling.number_or("low_freq_factor", 1, 1e-6, 1e6);
  const double high = scaling.number_or("high_freq_factor", 4, 1e-6, 1e6);
  if (high <= low) {
    scaling.fail(StatusCode::kInvalidArgument,
                 "high_freq_factor must be greater than low_freq_factor");
    return;
  }
  for (double& x : f) {
    const double wavelength = kTwoPi / x;
    if (wavelength > original / low) {
      x /= factor;
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      x = (1 - smooth) * x / factor + smooth * x;
    }
  }
}

}  // namespace

std::vector<double> default_frequencies(int64_t rotary_dim, double theta) {
  std::vector<double> f(rotary_dim / 2);
  for (size_t i = 0; i < f.size(); ++i)
    f[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
  return f;
}

RopeSpec yoco_rope(int64_t head_dim, double theta) {
  RopeSpec rope;
  rope.style = RopeStyle::kInterleaved;
  const int64_t n = head_dim / 2;
  for (int64_t i = 0; i < n; ++i) {
    const double exponent = n == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1);
    rope.inverse_frequencies.push_back(static_cast<float>(std::pow(theta, -exponent)));
  }
  return rope;
}

RopeSpec read_rope(ConfigReader& config, int64_t head_dim, int64_t context_max,
                   double default_theta) {
  // Older configs have rope_theta beside rope_scaling, newer ones keep both in rope_parameters.
  const bool newer = config.has("rope_parameters");
  ConfigReader scaling = config.child(newer ? "rope_parameters" : "rope_scaling");
  double theta = config.number_or("rope_theta", default_theta, 1e-3, 1e15);
  theta = scaling.number_or("rope_theta", theta, 1e-3, 1e15);
  double partial = config.number_or("partial_rotary_factor", 1.0, 0.0, 1.0);
  partial = scaling.number_or("partial_rotary_factor", partial, 0.0, 1.0);
  std::string type = scaling.string_or("type", "default");
  type = scaling.string_or("rope_type", type);
  scaling.only({"rope_theta", "partial_rotary_factor", "type", "rope_type", "factor",
                "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
                "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor",
                "truncate"});

  const int64_t rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim) * partial) / 2 * 2;
  std::vector<double> f = default_frequencies(rotary_dim, theta);
  if (rotary_dim < 2 || (type == "dynamic" && rotary_dim < 4)) {
    scaling.fail(
        StatusCode::kInvalidArgument,
        fmt::format("{} rotated dimensions (partial_rotary_factor {} of head_dim {}) are too few",
                    rotary_dim, partial, head_dim));
    config.absorb(scaling);
    return {};
  }
  const double factor = scaling.number_or("factor", 1.0, 1.0, 1e6);
  const double original = scaling.number_or("original_max_position_embeddings",
                                            static_cast<double>(context_max), 1, 1e9);
  RopeSpec rope;
  if (type == "linear") {
    for (double& x : f) x /= factor;
  } else if (type == "dynamic") {
    const double length = static_cast<double>(context_max);
    const double base = std::max(factor * length / original - (factor - 1), 1.0);
    const double r = static_cast<double>(rotary_dim);
    f = default_frequencies(rotary_dim, theta * std::pow(base, r / (r - 2)));
  } else if (type == "yarn") {
    f = yarn_frequencies(std::move(f), scaling, factor, theta, original);
    rope.scale = yarn_scale(scaling, factor);
  } else if (type == "llama3") {
    llama3_frequencies(f, scaling, factor, original);
  } else if (type != "default") {
    scaling.fail(
        StatusCode::kUnimplemented,
        fmt::format(
            "rope_type '{}' is not supported; Trireme has default, linear, dynamic, yarn, llama3",
            type));
  }
  config.absorb(scaling);
  for (double x : f) rope.inverse_frequencies.push_back(static_cast<float>(x));
  return rope;
}

}  // namespace trireme
