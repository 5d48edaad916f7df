// The keys of the gateway and of what watches it.
#include "runtime/config/schema_kinds.h"

namespace trireme::schema {

std::vector<ConfigKey> gateway_keys() {
  constexpr auto s = &Deployment::gateway;
  using G = GatewayDeployment;
  return {
      key("gateway.host", text(s, &G::host), "127.0.0.1",
          "the address that `serve` listens at; 0.0.0.0 = all of this machine"),
      key("gateway.port", integer(s, &G::port, 0, 65535), "8000", "its port; 0 = any that is free"),
      path_key("gateway.api_keys_file", text(s, &G::api_keys_file), "none",
               "a file of keys, one per line, of which a client must bring one"),
      key("gateway.max_body", size(s, &G::max_body), "64MiB", "largest body of a request"),
      key("gateway.max_connections", integer(s, &G::max_connections, 1, 1 << 20), "4096",
          "connections at a time; beyond them 503"),
      key("gateway.max_choices", integer(s, &G::max_choices, 1, 65536), "128",
          "most choices (n) of a request"),
      key("gateway.max_prompts", integer(s, &G::max_prompts, 1, 65536), "2048",
          "most prompts of one completions request"),
      key("gateway.request_timeout", duration(s, &G::request_timeout_ms), "0ms",
          "longest time of a request; 0ms = no limit"),
      key("gateway.idle_timeout", duration(s, &G::idle_timeout_ms), "75s",
          "how long a connection may wait for its next request"),
      key("gateway.write_timeout", duration(s, &G::write_timeout_ms), "1m",
          "a client that takes nothing for so long is given up"),
      key("gateway.io_threads", integer(s, &G::io_threads, 1, 64), "1",
          "threads that talk to clients"),
      key("gateway.cors_origins", strings(s, &G::cors_origins), "[]",
          "origins of web pages that may call; \"*\" = all"),
  };
}

std::vector<ConfigKey> operation_keys() {
  using A = AdminDeployment;
  using M = MetricsDeployment;
  using T = TracingDeployment;
  using L = LoggingOptions;
  constexpr auto admin = &Deployment::admin;
  constexpr auto metrics = &Deployment::metrics;
  constexpr auto logging = &Deployment::logging;
  return {
      key("admin.enabled", boolean(admin, &A::enabled), "false",
          "a second address for those who run the server: a page, its state, traces"),
      key("admin.host", text(admin, &A::host), "127.0.0.1", "the address that it listens at"),
      key("admin.port", integer(admin, &A::port, 0, 65535), "8001",
          "its port; 0 = any that is free"),
      key("metrics.enabled", boolean(metrics, &M::enabled), "true",
          "/metrics, for Prometheus; false = 404"),
      key("metrics.vllm_names", boolean(metrics, &M::vllm_names), "true",
          "also under the names of vLLM"),
      key("metrics.legacy_names", boolean(metrics, &M::legacy_names), "false",
          "also under older names of vLLM, which some routers read"),
      key("tracing.ring_events", integer(&Deployment::tracing, &T::ring_events, 0, 1 << 20),
          "131072",
          "events of a trace that each rank keeps, of 32 bytes, where there is an admin address; 0 "
          "= "
          "no traces"),
      key("logging.level",
          choice<L, LogLevel>(logging, &L::level,
                              {{"info", LogLevel::kInfo},
                               {"warning", LogLevel::kWarning},
                               {"error", LogLevel::kError}}),
          "info", "what goes to stderr"),
      key("logging.requests", boolean(logging, &L::requests), "false",
          "serve: a line on stderr for each HTTP request, without its text"),
  };
}

}  // namespace trireme::schema
