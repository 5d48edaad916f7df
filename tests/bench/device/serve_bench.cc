#include "tests/bench/device/serve_bench.h"

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/base/random.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/follower.h"
#include "tests/bench/device/figures.h"

namespace trireme::bench {
namespace {

// The ends of all requests, and the times of the last one's tokens.
class Clients {
 public:
  explicit Clients(int64_t count) : left_(count) {}

  std::shared_ptr<EventSink> sink(bool timed) { return std::make_shared<Sink>(*this, timed); }

  Status wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return left_ == 0; });
    return failure_;
  }
  std::vector<double> times() {
    const std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  class Sink final : public EventSink {
   public:
    Sink(Clients& clients, bool timed) : clients_(clients), timed_(timed) {}
    void on_events(std::span<const Event> events) override {
      for (const Event& e : events) clients_.take(e, timed_);
    }

   private:
    Clients& clients_;
    bool timed_;
  };

  void take(const Event& event, bool timed) {
    const std::lock_guard lock(mutex_);
    if (timed && event.kind == Event::Kind::kToken) times_.push_back(now_seconds());
    if (event.kind != Event::Kind::kFinished) return;
    if (failure_.ok()) failure_ = event.failure;
    if (--left_ == 0) ended_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable ended_;
  int64_t left_;
  Status failure_;
  std::vector<double> times_;
};

Request request(int64_t index, int32_t vocab, const ServePlan& plan) {
  Request made;
  for (int64_t i = 0; i < plan.prompt; ++i) {
    const double u = uniform(20261128, static_cast<uint32_t>(index), static_cast<uint32_t>(i));
    made.prompt.push_back(static_cast<int32_t>(u * vocab));
  }
  made.params.temperature = 0;
  made.params.max_tokens = static_cast<uint32_t>(plan.answer);
  made.params.ignore_eos = true;
  return made;
}

double median_of_gaps(const std::vector<double>& times, size_t from) {
  std::vector<double> gaps;
  for (size_t i = std::max<size_t>(from, 1); i < times.size(); ++i)
    gaps.push_back(times[i] - times[i - 1]);
  if (gaps.empty()) return 0;
  std::nth_element(gaps.begin(), gaps.begin() + gaps.size() / 2, gaps.end());
  return gaps[gaps.size() / 2];
}

}  // namespace

Result<double> served_step_seconds(Executor& executor, Communicator& world, const Groups& groups,
                                   const ServePlan& plan) {
  StepRunnerOptions runner_options;
  runner_options.cache.prefix_caching = false;
  StepRunner runner(executor, groups, nullptr, runner_options);
  if (world.rank() != 0) {
    if (Status s = follow(runner, world, groups); !s.ok()) return s;
    return 0.0;
  }
  ServingOptions options;
  options.tokens_max = static_cast<uint32_t>(plan.prompt + plan.answer + 1);
  options.budget.sequences_max = static_cast<uint32_t>(plan.requests);
  options.budget.tokens_max = static_cast<uint32_t>(executor.model().rows_max());
  options.budget.prefill_chunk_max =
      static_cast<uint32_t>(std::min(plan.prompt, executor.model().rows_max()));
  Engine engine(runner, world, groups, nullptr, options);
  Clients clients(plan.requests);
  Status answered;
  // The engine has this thread, on which the device is current.
  std::thread client([&] {
    for (int64_t i = 0; i < plan.requests && answered.ok(); ++i)
      answered = engine
                     .submit(request(i, executor.model().spec().vocab, plan),
                             clients.sink(i == plan.requests - 1))
                     .status();
    if (answered.ok()) answered = clients.wait();
    engine.stop();
  });
  const Status served = engine.run();
  client.join();
  if (!served.ok()) return served;
  if (!answered.ok()) return answered;
  // The last request came in last: from its first tokens on all decode. Some steps are left out, of
  // which a device records one.
  return median_of_gaps(clients.times(), static_cast<size_t>(plan.answer) / 4);
}

}  // namespace trireme::bench
