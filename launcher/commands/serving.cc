#include "launcher/commands/serving.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "runtime/config/generation_config.h"
#include "runtime/gateway/http/auth.h"
#include "runtime/model/stage_plan.h"

namespace trireme {

Result<RowCosts> row_costs(const ModelSpec& spec) {
  const Result<ParameterCounts> counts = count_parameters(spec);
  if (!counts.ok()) return counts.status();
  uint64_t before = 0, all = 0;
  for (size_t i = 0; i < counts->sublayers.size(); ++i) {
    all += counts->sublayers[i];
    if (i < spec.logits_only_from) before += counts->sublayers[i];
  }
  RowCosts costs;
  if (all == 0 || before == all) return costs;
  costs.row = static_cast<uint32_t>(std::max<uint64_t>(1000 * before / all, 1));
  costs.logit_row = 1000 - costs.row;
  return costs;
}

StepBudget step_budget(const EngineOptions& engine, const StepLimits& limits,
                       const RowCosts& costs) {
  StepBudget budget;
  budget.cost_max = uint64_t{limits.rows} * 1000;
  budget.row_cost = costs.row;
  budget.logit_row_cost = costs.logit_row;
  budget.tokens_max = static_cast<uint32_t>(budget.cost_max / costs.row);
  // A row of a decode step wants logits and so costs a full one.
  budget.sequences_max = std::min(limits.sequences, limits.rows);
  budget.prefill_chunk_max =
      engine.prefill_chunk > 0
          ? std::min(static_cast<uint32_t>(engine.prefill_chunk), budget.tokens_max)
          : budget.tokens_max;
  budget.admission =
      engine.admission == AdmissionKind::kReserve ? Admission::kReserve : Admission::kOptimistic;
  budget.decode_first = true;
  if (engine.enable_prefix_caching)
    budget.chunk_align = static_cast<uint32_t>(engine.prefix_granule);
  return budget;
}

ServingOptions serving_options(const EngineOptions& engine, const ModelSpec& spec,
                               const StepBudget& budget, uint32_t tokens_max, int stages) {
  ServingOptions options;
  options.budget = budget;
  options.tokens_max = tokens_max;
  options.requests_waiting_max = static_cast<uint32_t>(engine.max_queue);
  options.pipeline_depth =
      static_cast<uint32_t>(engine.pipeline_depth > 0 ? engine.pipeline_depth : stages);
  options.swap_bytes = engine.swap_space;
  options.preemption = engine.preemption == PreemptionKind::kAuto    ? PreemptionPolicy::kAuto
                       : engine.preemption == PreemptionKind::kSpill ? PreemptionPolicy::kSpill
                                                                     : PreemptionPolicy::kRecompute;
  options.aging_ms =
      static_cast<uint32_t>(std::min<uint64_t>(engine.priority_aging_ms, UINT32_MAX));
  options.priorities = engine.scheduling_policy == SchedulingPolicy::kPriority;
  options.step_timeout = std::chrono::milliseconds(engine.step_timeout_ms);
  options.eos_token_ids = spec.eos_token_ids;
  return options;
}

BlockCacheOptions cache_options(const EngineOptions& engine, std::string fingerprint) {
  BlockCacheOptions options;
  options.prefix_caching = engine.enable_prefix_caching;
  options.granule = static_cast<uint32_t>(engine.prefix_granule);
  options.fingerprint = std::move(fingerprint);
  return options;
}

HttpServerOptions http_options(const GatewayDeployment& gateway) {
  HttpServerOptions options;
  options.host = gateway.host;
  options.port = static_cast<uint16_t>(gateway.port);
  options.io_threads = gateway.io_threads;
  options.body_bytes_max = gateway.max_body;
  options.connections_max = static_cast<uint32_t>(gateway.max_connections);
  options.idle_timeout = std::chrono::milliseconds(gateway.idle_timeout_ms);
  options.write_timeout = std::chrono::milliseconds(gateway.write_timeout_ms);
  options.cors_origins = gateway.cors_origins;
  return options;
}

std::vector<std::string> warnings_of_open_addresses(const Deployment& deployment,
                                                    std::string_view api_url,
                                                    std::string_view admin_url) {
  std::vector<std::string> warnings;
  const auto warn = [&](std::string_view url, std::string_view loopback) {
    warnings.push_back(fmt::format(
        "warning: open to everybody who reaches {}: give --api-keys-file, or {}", url, loopback));
  };
  if (!is_loopback(deployment.gateway.host)) warn(api_url, "--host 127.0.0.1");
  if (!admin_url.empty() && !is_loopback(deployment.admin.host))
    warn(admin_url, "--set admin.host=127.0.0.1");
  return warnings;
}

GatewayOptions gateway_options(const Deployment& deployment) {
  GatewayOptions options;
  options.model_names = deployment.model.served_model_name;
  if (options.model_names.empty()) {
    std::filesystem::path path(deployment.model.path);
    if (!path.has_filename()) path = path.parent_path();
    options.model_names.push_back(path.filename().string());
  }
  options.model_root = deployment.model.path;
  options.defaults = deployment.sampling;
  options.limits.choices_max = static_cast<uint32_t>(deployment.gateway.max_choices);
  options.limits.prompts_max = static_cast<uint32_t>(deployment.gateway.max_prompts);
  options.limits.logprobs_max = deployment.engine.max_logprobs;
  options.metrics_page = deployment.metrics.enabled;
  options.request_timeout = std::chrono::milliseconds(deployment.gateway.request_timeout_ms);
  return options;
}

Result<Deployment> with_generation_config(const Deployment& deployment) {
  constexpr size_t kBytesMax = size_t{1} << 20;
  Deployment made = deployment;
  if (deployment.model.generation_config == GenerationConfig::kNone) return made;
  const std::string path = deployment.model.path + "/generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return made;
  const Result<std::string> text = read_file(path, kBytesMax);
  if (!text.ok()) return text.status();
  if (Status s = apply_generation_config(*text, path, made); !s.ok()) return s;
  return made;
}

}  // namespace trireme
