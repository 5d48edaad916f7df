// trireme serve: an engine over the ranks of this worker, and on rank 0 the gateway before it.
#include <algorithm>
#include <atomic>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "launcher/commands/commands.h"
#include "launcher/commands/front.h"
#include "launcher/commands/rank_places.h"
#include "launcher/commands/serving.h"
#include "launcher/commands/worker.h"
#include "launcher/output.h"
#include "launcher/signals.h"
#include "runtime/config/units.h"
#include "runtime/engine/follower.h"
#include "runtime/grammar/grammar_compiler.h"

namespace trireme {
namespace {

constexpr uint32_t kRequestsLogged = 4096;  // that have ended, for the admin address

Result<uint32_t> longest_sequence(const Deployment& deployment, const ModelSpec& spec) {
  const Result<uint32_t> limit = context_limit(deployment, spec);
  if (!limit.ok()) return limit;
  if (*limit == 1) return invalid_argument("max_model_len is 1: it leaves no room for an answer");
  if (*limit > 0) return limit;
  constexpr uint32_t kUnbounded = 1 << 20;  // memory of constant size: any length costs the same
  return kUnbounded;
}

// The rows of this worker are those of nobody whose fingerprint differs.
std::string fingerprint(const Deployment& deployment, const Worker& worker) {
  const Mesh& mesh = worker.groups->mesh;
  return fmt::format(
      "{} dtype {} quantization {} cache {} tp {}", deployment.model.path,
      deployment.model.dtype ? dtype_name(*deployment.model.dtype) : "auto",
      deployment.model.quantization ? weight_type_name(*deployment.model.quantization) : "auto",
      dtype_name(worker.model->cache_dtype()), mesh.shards);
}

void print_banner(const Deployment& deployment, const Worker& worker, const Engine& engine,
                  const Front& front) {
  if (deployment.logging.level != LogLevel::kInfo) return;
  const EngineInfo& info = engine.info();
  uint64_t bytes = 0;
  for (size_t c = 0; c < info.blocks_total.size(); ++c)
    bytes += info.blocks_total[c] * info.block_bytes[c];
  const std::string name = gateway_options(deployment).model_names[0];
  print_message(fmt::format("model     {} ({}), context {} tokens, loaded in {:.1f} s", name,
                            deployment.model.path, info.tokens_max, worker.load_seconds));
  print_message("weights   " + worker.weights);
  print_message("mesh      " + describe_mesh(worker));
  std::string blocks;
  for (size_t c = 0; c < info.blocks_total.size(); ++c)
    blocks += fmt::format("{}{} x {}", c == 0 ? "" : " + ", info.blocks_total[c],
                          format_size(info.block_bytes[c]));
  print_message(fmt::format("cache     {} per rank: {} blocks, prefix caching {}",
                            format_size(bytes), blocks, info.prefix_caching ? "on" : "off"));
  const std::string url = front.api_url();
  if (front.open()) {
    for (const std::string& warning :
         warnings_of_open_addresses(deployment, url, front.admin_url()))
      print_message(warning);
  }
  print_message("serving   " + url);
  if (!front.admin_url().empty())
    print_message("admin     " + front.admin_url() + "/ shows how it fares");
  print_message(
      fmt::format("try       curl {}/v1/completions -H 'Content-Type: application/json' "
                  "-d '{{\"model\": \"{}\", \"prompt\": \"Once\", \"max_tokens\": 16}}'",
                  url, name));
}

// Until it is told to end. Returns the exit code.
int lead(const Deployment& deployment, RankWorld& world, Worker& worker, StepRunner& runner,
         Front& front, ConstraintCompiler& compiler, ServingOptions options) {
  options.step_missed = [&world, timeout = options.step_timeout] {
    print_message(
        fmt::format("a step has taken longer than {} ms (engine.step_timeout): a rank of "
                    "{} hangs, the worker ends",
                    timeout.count(), world.size));
    _exit(kExitTimeOut);
  };
  Engine engine(runner, *world.world, *worker.groups, &compiler, std::move(options));
  std::atomic<int> ended_by = 0;
  StopSignals signals([&](int count, int signal) {
    if (count == 1) {
      const EngineStats stats = engine.stats();
      print_message(fmt::format("draining: {} running, {} waiting; another signal ends at once",
                                stats.running, stats.waiting));
      front.drain();
      engine.drain([&engine] { engine.stop(); });
    } else {
      ended_by = signal;
      engine.stop();
    }
  });
  front.set_engine(engine, engine, compiler);
  print_banner(deployment, worker, engine, front);
  const Status served = engine.run();
  // The last answers are on their way to their clients.
  front.stop(std::chrono::seconds(ended_by == 0 ? 10 : 1));
  if (!served.ok()) return fail(world, served, Doing::kRunning);
  return ended_by != 0 ? kExitSignal + ended_by : kExitOk;
}

}  // namespace

int run_serve(const Deployment& said, RankWorld& world) {
  const Result<Deployment> resolved = with_generation_config(said);
  if (const int code = settle(world, resolved.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  const Deployment& deployment = *resolved;
  Result<ModelFiles> files = open_model(deployment);
  if (files.ok() && files->tokenizer == nullptr)
    files = not_found(
        fmt::format("{}: no tokenizer.json and no rwkv_vocab*.txt beside it: give --tokenizer PATH",
                    deployment.model.path));
  if (const int code = settle(world, files.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  const Result<uint32_t> tokens_max = longest_sequence(deployment, files->spec);
  if (const int code = settle(world, tokens_max.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  const Result<RowCosts> costs = row_costs(files->spec);
  if (const int code = settle(world, costs.status(), Doing::kLoadingModel); code != kExitOk)
    return code;

  Result<std::vector<RankPlace>> places = gather_places(world);
  if (const int code = settle(world, places.status(), Doing::kRunning); code != kExitOk)
    return code;
  Result<std::unique_ptr<Front>> front = std::unique_ptr<Front>();
  if (world.rank == 0) front = Front::start(deployment, *files, places.take());
  if (const int code = settle(world, front.status(), Doing::kRunning); code != kExitOk) return code;

  Worker worker;
  if (const int code = place_worker(deployment, *files, world, worker); code != kExitOk)
    return code;
  const StepBudget budget = step_budget(deployment.engine, worker.limits, *costs);
  WorkerShape shape{*tokens_max, budget.tokens_max, {}, 0};
  if (deployment.engine.preemption != PreemptionKind::kRecompute)
    shape.swap_bytes = deployment.engine.swap_space;
  if (deployment.engine.enable_prefix_caching) {
    const BlockCacheOptions cache = cache_options(deployment.engine, "");
    shape.prefixes = {true, ruler_snapshots(*tokens_max, cache.granule, cache.ruler_keep)};
  }
  if (const int code = load_worker(deployment, *files, world, shape, worker); code != kExitOk)
    return code;
  StepRunnerOptions runner_options;
  runner_options.cache = cache_options(deployment.engine, fingerprint(deployment, worker));
  runner_options.eos_token_ids = files->spec.eos_token_ids;
  if (deployment.admin.enabled)
    runner_options.trace_events = static_cast<uint32_t>(deployment.tracing.ring_events);
  GrammarCompiler compiler(*files->tokenizer, files->spec.eos_token_ids,
                           static_cast<int32_t>(files->spec.vocab));
  StepRunner runner(*worker.executor, *worker.groups, &compiler, runner_options);
  if (world.rank == 0) {
    ServingOptions options =
        serving_options(deployment.engine, files->spec, budget, *tokens_max, world.mesh.stages);
    if (deployment.admin.enabled) options.requests_logged = kRequestsLogged;
    options.choices_max = static_cast<uint32_t>(deployment.gateway.max_choices);
    return lead(deployment, world, worker, runner, **front, compiler, std::move(options));
  }
  StopSignals::ignore();
  const Status followed = follow(runner, *world.world, *worker.groups);
  return followed.ok() ? kExitOk : fail(world, followed, Doing::kRunning);
}

}  // namespace trireme
