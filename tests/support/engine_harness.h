// A whole worker in this process: ranks as threads, rank 0 leads. What tests of serving drive.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/engine/engine.h"
#include "tests/support/thread_ranks.h"

namespace trireme::test {

struct EngineHarnessOptions {
  std::string path;
  RankOptions ranks;
  ServingOptions engine;  // tokens_max and budget.sequences_max are those of `ranks`
  BlockCacheOptions cache;
  ConstraintCompiler* compiler = nullptr;
  uint32_t trace_events = 0;
  // Changes the cache's options on one rank: mistakes that must show.
  std::function<void(int rank, BlockCacheOptions&)> cache_of_rank;
};

class EngineHarness {
 public:
  // Returns once the engine takes requests. CHECKs that it does.
  explicit EngineHarness(EngineHarnessOptions options);
  ~EngineHarness() { (void)stop().ok(); }
  EngineHarness(const EngineHarness&) = delete;

  Engine& engine() { return *engine_; }
  const EngineInfo& info() const { return engine_->info(); }
  // Ends the worker: the first error of any rank.
  Status stop();
  // The tables of the leader after stop(): blocks of each class that are live.
  const std::vector<ClassUsage>& usage_at_end() const { return usage_at_end_; }
  const CacheStats& cache_stats_at_end() const { return cache_stats_at_end_; }
  // Plans that were made ahead and fitted.
  uint64_t ahead_hits() const { return ahead_hits_; }

 private:
  Status serve(Rank& rank);

  EngineHarnessOptions options_;
  std::unique_ptr<Engine> engine_;  // outlives its thread; nothing but stop() and stats() then
  std::promise<void> ready_;
  std::vector<ClassUsage> usage_at_end_;
  CacheStats cache_stats_at_end_;
  uint64_t ahead_hits_ = 0;
  Status result_;
  std::thread thread_;
};

// Collects the events of one request.
class Collector final : public EventSink {
 public:
  struct Choice {
    std::vector<SampledToken> tokens;
    FinishReason finish = FinishReason::kNone;
    int32_t stop_token = -1;
    Status failure;
    uint32_t finishes = 0;  // must be one
  };
  explicit Collector(uint32_t choices = 1) : choices_(choices) {}

  void on_events(std::span<const Event> events) override;
  // Called for each event, on the engine's thread.
  std::function<void(const Event&)> on_event;

  void wait();  // for the end of every choice
  std::vector<Choice> choices();
  std::vector<SampledToken> prompt_scores();
  uint32_t cached_tokens();
  uint32_t scheduled();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Choice> choices_;
  std::vector<SampledToken> scores_;
  uint32_t cached_ = 0, scheduled_ = 0, scored_ = 0;
};

}  // namespace trireme::test
