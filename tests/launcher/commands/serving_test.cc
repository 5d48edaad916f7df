// From a deployment to the options of engine, cache, server and gateway: what each key is for.
#include "launcher/commands/serving.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "runtime/config/config_reader.h"

namespace trireme {
namespace {

Deployment read(std::string_view text) {
  Deployment deployment;
  const Status status = read_config(text, "f.yaml", "", deployment);
  EXPECT_TRUE(status.ok()) << status.message();
  return deployment;
}

TEST(Serving, EngineKeysReachTheEngine) {
  const Deployment d = read(
      "version: 1\nengine: {max_num_seqs: 3, max_num_batched_tokens: 40, prefill_chunk: 8,\n"
      "  admission: optimistic, preemption: spill, swap_space: 1MiB, max_queue: 5,\n"
      "  priority_aging: 2s, step_timeout: 3s, scheduling_policy: priority, prefix_granule: 16}\n");
  const StepBudget budget = step_budget(d.engine, step_limits(d.engine, DeviceKind::kCpu), {});
  EXPECT_EQ(budget.sequences_max, 3u);
  EXPECT_EQ(budget.cost_max, 40'000u);
  EXPECT_EQ(budget.tokens_max, 40u);
  EXPECT_EQ(budget.prefill_chunk_max, 8u);
  EXPECT_EQ(budget.admission, Admission::kOptimistic);
  EXPECT_EQ(budget.chunk_align, 16u);
  const ServingOptions options = serving_options(d.engine, ModelSpec{}, budget, 100, 2);
  EXPECT_EQ(options.tokens_max, 100u);
  EXPECT_EQ(options.requests_waiting_max, 5u);
  EXPECT_EQ(options.pipeline_depth, 2u);
  EXPECT_EQ(options.swap_bytes, uint64_t{1} << 20);
  EXPECT_EQ(options.preemption, PreemptionPolicy::kSpill);
  EXPECT_EQ(options.aging_ms, 2000u);
  EXPECT_EQ(options.step_timeout, std::chrono::seconds(3));
  EXPECT_TRUE(options.priorities);
  EXPECT_FALSE(serving_options(EngineOptions{}, ModelSpec{}, budget, 100, 1).priorities);
}

// A row of YOCO that leaves after half of the model costs half, and so twice as many fit.
TEST(Serving, AStepCostsWhatItsRowsCost) {
  const StepBudget budget = step_budget(EngineOptions{}, {.rows = 100, .sequences = 1000},
                                        {.row = 500, .logit_row = 500});
  EXPECT_EQ(budget.tokens_max, 200u);
  EXPECT_EQ(budget.sequences_max, 100u);
}

TEST(Serving, StepsAreLargerOnAGpuUnlessTheDeploymentSaysHowLarge) {
  EngineOptions engine;
  const StepLimits cpu = step_limits(engine, DeviceKind::kCpu);
  const StepLimits gpu = step_limits(engine, DeviceKind::kCuda);
  EXPECT_EQ(cpu.rows, 512u);
  EXPECT_EQ(cpu.sequences, 64u);
  EXPECT_EQ(gpu.rows, 2048u);
  EXPECT_EQ(gpu.sequences, 256u);
  engine.max_num_batched_tokens = 7;
  engine.max_num_seqs = 3;
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    EXPECT_EQ(step_limits(engine, kind).rows, 7u);
    EXPECT_EQ(step_limits(engine, kind).sequences, 3u);
  }
}

TEST(Serving, OpenAddressesAreWarnedOf) {
  using Warnings = std::vector<std::string>;
  const std::string api = "http://0.0.0.0:8000", admin = "http://0.0.0.0:8001";
  const std::string of_api =
      "warning: open to everybody who reaches http://0.0.0.0:8000: give --api-keys-file, or --host "
      "127.0.0.1";
  const std::string of_admin =
      "warning: open to everybody who reaches http://0.0.0.0:8001: give --api-keys-file, or --set "
      "admin.host=127.0.0.1";
  Deployment d;
  EXPECT_EQ(warnings_of_open_addresses(d, api, admin), Warnings{});  // both on loopback
  d.gateway.host = "0.0.0.0";
  EXPECT_EQ(warnings_of_open_addresses(d, api, admin), Warnings{of_api});
  d.admin.host = "0.0.0.0";
  EXPECT_EQ(warnings_of_open_addresses(d, api, admin), (Warnings{of_api, of_admin}));
  EXPECT_EQ(warnings_of_open_addresses(d, api, ""), Warnings{of_api});
  d.gateway.host = "localhost";
  EXPECT_EQ(warnings_of_open_addresses(d, api, admin), Warnings{of_admin});
}

TEST(Serving, GatewayKeysReachServerAndGateway) {
  Deployment d = read(
      "version: 1\nmodel: {path: some/folder/}\nengine: {max_logprobs: 4}\n"
      "gateway: {host: '::1', port: 9, max_body: 7KiB, max_connections: 6, max_choices: 5,\n"
      "  max_prompts: 3, request_timeout: 2s, idle_timeout: 4s, write_timeout: 8s, io_threads: 2,\n"
      "  cors_origins: [a]}\nmetrics: {enabled: false}\nsampling: {temperature: 0.5}\n");
  const HttpServerOptions http = http_options(d.gateway);
  EXPECT_EQ(http.host, "::1");
  EXPECT_EQ(http.port, 9);
  EXPECT_EQ(http.body_bytes_max, 7168u);
  EXPECT_EQ(http.connections_max, 6u);
  EXPECT_EQ(http.idle_timeout, std::chrono::seconds(4));
  EXPECT_EQ(http.write_timeout, std::chrono::seconds(8));
  EXPECT_EQ(http.io_threads, 2);
  EXPECT_EQ(http.cors_origins, std::vector<std::string>{"a"});
  const GatewayOptions gateway = gateway_options(d);
  EXPECT_EQ(gateway.model_names, std::vector<std::string>{"folder"});
  EXPECT_EQ(gateway.limits.choices_max, 5u);
  EXPECT_EQ(gateway.limits.prompts_max, 3u);
  EXPECT_EQ(gateway.limits.logprobs_max, 4);
  EXPECT_EQ(gateway.request_timeout, std::chrono::seconds(2));
  EXPECT_FALSE(gateway.metrics_page);
  EXPECT_FLOAT_EQ(gateway.defaults.temperature, 0.5f);
  d.model.served_model_name = {"x", "y"};
  EXPECT_EQ(gateway_options(d).model_names, (std::vector<std::string>{"x", "y"}));
}

class GenerationConfigFile : public ::testing::Test {
 protected:
  GenerationConfigFile() { std::filesystem::create_directories(folder_); }
  ~GenerationConfigFile() override { std::filesystem::remove_all(folder_); }
  void write(std::string_view text) { std::ofstream(folder_ / "generation_config.json") << text; }
  Result<Deployment> resolved(std::string_view more = "") {
    return with_generation_config(
        read("version: 1\nmodel:\n  path: \"" + folder_.string() + "\"\n" + std::string(more)));
  }
  const std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("trireme_serving_test_") +
       ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(GenerationConfigFile, CountsWhereTheDeploymentSaysNothing) {
  EXPECT_EQ(resolved()->sampling.top_k, 0);  // there is no such file
  write(R"({"top_k": 20, "temperature": 0.6})");
  const Result<Deployment> d = resolved("sampling: {temperature: 1}\n");
  ASSERT_TRUE(d.ok()) << d.status().message();
  EXPECT_EQ(d->sampling.top_k, 20);
  EXPECT_EQ(d->sampling.temperature, 1.0f);
  EXPECT_EQ(resolved("  generation_config: none\n")->sampling.top_k, 0);
}

TEST_F(GenerationConfigFile, ABrokenOneIsNamed) {
  write("{");
  const Result<Deployment> d = resolved();
  ASSERT_FALSE(d.ok());
  EXPECT_NE(d.status().message().find("/generation_config.json: "), std::string::npos);
  EXPECT_TRUE(resolved("  generation_config: none\n").ok());
}

}  // namespace
}  // namespace trireme
