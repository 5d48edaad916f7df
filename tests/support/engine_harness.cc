#include "tests/support/engine_harness.h"

#include <algorithm>

#include "runtime/engine/follower.h"

namespace trireme::test {

EngineHarness::EngineHarness(EngineHarnessOptions options) : options_(std::move(options)) {
  std::future<void> ready = ready_.get_future();
  thread_ = std::thread([this] {
    result_ = run_ranks(options_.path, options_.ranks, [this](Rank& rank) { return serve(rank); });
    if (engine_ == nullptr) {
      CHECK(false) << "the worker did not start: " << result_.message();
    }
  });
  ready.wait();
}

Status EngineHarness::serve(Rank& rank) {
  StepRunnerOptions runner_options;
  runner_options.cache = options_.cache;
  if (options_.cache_of_rank) options_.cache_of_rank(rank.world.rank(), runner_options.cache);
  runner_options.eos_token_ids = options_.engine.eos_token_ids;
  runner_options.trace_events = options_.trace_events;
  StepRunner runner(rank.executor, rank.groups, options_.compiler, runner_options);
  if (rank.world.rank() != 0) return follow(runner, rank.world, rank.groups);
  ServingOptions options = options_.engine;
  options.tokens_max = options_.ranks.tokens_max;
  engine_ = std::make_unique<Engine>(runner, rank.world, rank.groups, options_.compiler, options);
  ready_.set_value();
  const Status ran = engine_->run();
  usage_at_end_ = engine_->stats().classes;
  cache_stats_at_end_ = runner.cache().stats();
  ahead_hits_ = engine_->ahead_planner().hits();
  runner.table().check();
  if (ran.ok()) CHECK(runner.table().sequences().empty());
  return ran;
}

Status EngineHarness::stop() {
  if (!thread_.joinable()) return result_;
  engine_->stop();
  thread_.join();
  return result_;
}

void Collector::on_events(std::span<const Event> events) {
  const std::lock_guard lock(mutex_);
  for (const Event& e : events) {
    if (on_event) on_event(e);
    switch (e.kind) {
      case Event::Kind::kScheduled:
        ++scheduled_;
        cached_ = e.cached_tokens;
        break;
      case Event::Kind::kPromptScored:
        CHECK(scored_++ == 0);
        scores_ = e.prompt_scores;
        break;
      case Event::Kind::kToken:
        CHECK(choices_[e.choice].finishes == 0) << "a token after the end";
        choices_[e.choice].tokens.push_back(e.sampled);
        break;
      case Event::Kind::kFinished: {
        Choice& c = choices_[e.choice];
        c.finish = e.finish;
        c.stop_token = e.stop_token;
        c.failure = e.failure;
        ++c.finishes;
        break;
      }
    }
  }
  changed_.notify_all();
}

void Collector::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::all_of(choices_.begin(), choices_.end(),
                       [](const Choice& c) { return c.finishes > 0; });
  });
}

std::vector<Collector::Choice> Collector::choices() {
  const std::lock_guard lock(mutex_);
  return choices_;
}
std::vector<SampledToken> Collector::prompt_scores() {
  const std::lock_guard lock(mutex_);
  return scores_;
}
uint32_t Collector::cached_tokens() {
  const std::lock_guard lock(mutex_);
  return cached_;
}
uint32_t Collector::scheduled() {
  const std::lock_guard lock(mutex_);
  return scheduled_;
}

}  // namespace trireme::test
