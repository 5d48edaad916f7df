// What front ends ask of the engine, from their threads to its own: a queue in order. Bounded: no
// more requests wait than `waiting_max`; everything else in it is about a request that was let in,
// or there once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "runtime/engine/rank_trace.h"
#include "runtime/engine/request.h"

namespace trireme {

struct SubmitCommand {
  RequestId id = 0;
  Request request;
  std::shared_ptr<EventSink> sink;
  uint64_t arrived_ms = 0;
};
struct CancelCommand {
  RequestId id = 0;
};
struct FinishCommand {
  RequestId id = 0;
  uint32_t choice = 0;
};
struct PingCommand {
  std::function<void(const Status&)> answer;
};
struct DrainCommand {
  std::function<void()> done;
};
struct ResetCacheCommand {};
struct TraceCommand {
  int64_t since_ns = 0;
  std::function<void(Result<std::vector<RankTrace>>)> done;
};

using EngineCommand = std::variant<SubmitCommand, CancelCommand, FinishCommand, PingCommand,
                                   DrainCommand, ResetCacheCommand, TraceCommand>;

class Inbox {
 public:
  explicit Inbox(uint32_t waiting_max) : waiting_max_(waiting_max) {}

  // A submission: kResourceExhausted where too many wait, kUnavailable after close().
  Status submit(SubmitCommand command);
  // Anything else. False after close().
  bool push(EngineCommand command);

  // Everything that has come, in order. `wait`: until something has come or the inbox is closed.
  std::vector<EngineCommand> take(bool wait);

  // A request that was let in waits no longer.
  void waits_no_longer() { waiting_.fetch_sub(1, std::memory_order_relaxed); }
  uint32_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

  // Refuses submissions from now on with this reason; other commands still come.
  void refuse(Status why);
  // Nothing comes any more; take() does not wait.
  void close(Status why);
  bool closed() const;

 private:
  const uint32_t waiting_max_;
  std::atomic<uint32_t> waiting_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<EngineCommand> commands_;
  std::optional<Status> refused_;  // why no submission is taken
  bool closed_ = false;
};

}  // namespace trireme
