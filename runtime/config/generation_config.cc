#include "runtime/config/generation_config.h"

#include <cmath>
#include <string>

#include <fmt/format.h>

#include "kernels/base/json.h"

namespace trireme {
namespace {

// A file that somebody else made: how to live without it.
Status wrong(std::string_view name, std::string_view why) {
  return invalid_argument(
      fmt::format("{}: {}: mend it, or set model.generation_config: none", name, why));
}

// The number under `field`, where it is there and the user gave none.
Result<const Json*> number_of(const Json& file, std::string_view name, std::string_view field,
                              const Deployment& deployment) {
  const Json* value = find(file, field);
  if (value == nullptr || deployment.origins.count(fmt::format("sampling.{}", field)) > 0)
    return static_cast<const Json*>(nullptr);
  if (!value->is_number())
    return wrong(name, fmt::format("{}: expected a number, found {}", field, json_kind(*value)));
  return value;
}

}  // namespace

Status apply_generation_config(std::string_view text, std::string_view name,
                               Deployment& deployment) {
  const Result<Json> file = parse_json(text);
  if (!file.ok()) return wrong(name, file.status().message());
  if (!file->is_object()) return wrong(name, "expected a JSON object");
  SamplingParams sampling = deployment.sampling;
  const struct {
    std::string_view field;
    float* target;
  } numbers[] = {{"temperature", &sampling.temperature},
                 {"top_p", &sampling.top_p},
                 {"min_p", &sampling.min_p},
                 {"repetition_penalty", &sampling.repetition_penalty}};
  for (const auto& [field, target] : numbers) {
    const Result<const Json*> value = number_of(*file, name, field, deployment);
    if (!value.ok()) return value.status();
    if (*value != nullptr) *target = static_cast<float>((*value)->to_number<double>());
  }
  const Result<const Json*> top_k = number_of(*file, name, "top_k", deployment);
  if (!top_k.ok()) return top_k.status();
  if (*top_k != nullptr) {
    const double value = (*top_k)->to_number<double>();
    if (value != std::floor(value) || std::abs(value) > 1e9)
      return wrong(name, "top_k: expected an integer");
    sampling.top_k = static_cast<int32_t>(value);
  }
  if (Status s = validate(sampling); !s.ok()) return wrong(name, s.message());
  deployment.sampling = sampling;
  return {};
}

}  // namespace trireme
