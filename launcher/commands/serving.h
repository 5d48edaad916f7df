// From a deployment to the options of the parts that serve: the engine, its cache, the gateway.
// Pure, but for the one file that with_generation_config reads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/commands/step_limits.h"
#include "runtime/config/deployment.h"
#include "runtime/engine/engine.h"
#include "runtime/gateway/gateway.h"
#include "runtime/gateway/http/server.h"
#include "runtime/model/spec.h"

namespace trireme {

// What a row costs, in thousandths of a row that passes every sublayer, by parameters: `row` up to
// the sublayer where rows that want no logits leave, `logit_row` from there on.
struct RowCosts {
  uint32_t row = 1000;
  uint32_t logit_row = 0;
};
Result<RowCosts> row_costs(const ModelSpec& spec);

// What one step may spend. Its cost is that of limits.rows full rows, so that a model
// whose prompts leave early takes more rows of them.
StepBudget step_budget(const EngineOptions& engine, const StepLimits& limits,
                       const RowCosts& costs);

// `tokens_max`: the longest sequence.
ServingOptions serving_options(const EngineOptions& engine, const ModelSpec& spec,
                               const StepBudget& budget, uint32_t tokens_max, int stages);
BlockCacheOptions cache_options(const EngineOptions& engine, std::string fingerprint);
HttpServerOptions http_options(const GatewayDeployment& gateway);
GatewayOptions gateway_options(const Deployment& deployment);

// Of a server that asks nobody for a key: a sentence for each address that others than this machine
// may reach. `admin_url`: "" where there is none.
std::vector<std::string> warnings_of_open_addresses(const Deployment& deployment,
                                                    std::string_view api_url,
                                                    std::string_view admin_url);

// `deployment` with the sampling of the model's generation_config.json, if there is one and
// model.generation_config wants it, where the user said nothing.
Result<Deployment> with_generation_config(const Deployment& deployment);

}  // namespace trireme
