#include "runtime/engine/follower.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "comm/wire/messenger.h"
#include "runtime/engine/rank_trace.h"
#include "runtime/engine/ranks.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t microseconds_since(Clock::time_point start) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
}

class Follower {
 public:
  Follower(StepRunner& runner, Communicator& world, const Groups& groups)
      : runner_(runner), world_(world), groups_(groups) {}

  Status run() {
    for (;;) {
      const Clock::time_point start = Clock::now();
      Result<std::vector<std::byte>> bytes = next_message();
      if (!bytes.ok()) return bytes.status();
      Result<StepMessage> message = read_step_message(*bytes);
      if (!message.ok()) return message.status();
      waited_us_ += microseconds_since(start);
      waited_us_ -= std::min(waited_us_, message->idle_us);
      if (message->kind == StepMessage::Kind::kStop) return {};
      const Status done = message->kind == StepMessage::Kind::kTrace
                              ? send_trace(world_, runner_.trace())
                              : obey(*message);
      if (!done.ok()) return done;
    }
  }

 private:
  Result<std::vector<std::byte>> next_message() {
    const TraceSpan span(runner_.trace(), TraceEvent::Name::kIdle);
    return receive_message(world_, 0);
  }

  Status obey(StepMessage& message) {
    for (const SequenceOp& op : message.ops) runner_.apply(op, message.step);
    if (Status s = runner_.begin(message.runs, /*leads=*/false, message.step); !s.ok()) return s;
    if (runner_.digest() != message.digest) {
      return data_loss(
          fmt::format("the cache tables of rank {} differ from the leader's at step {}: the ranks "
                      "of this worker "
                      "run different programs, or one has damaged memory",
                      world_.rank(), message.step));
    }
    if (message.kind == StepMessage::Kind::kProbe) return meet(world_, runner_.digest());
    if (message.runs.empty()) return {};
    runner_.commit(message.step);
    StepResult result;
    const double busy = runner_.busy_seconds();
    const double waited = runner_.executor().stage_wait_seconds();
    if (Status s = runner_.compute(result); !s.ok()) return s;
    if (groups_.first_stage() || groups_.here.shard != 0) return {};
    result.step = message.step;
    result.busy_us = static_cast<uint64_t>(1e6 * (runner_.busy_seconds() - busy));
    result.idle_us = waited_us_ + static_cast<uint64_t>(
                                      1e6 * (runner_.executor().stage_wait_seconds() - waited));
    waited_us_ = 0;
    return send_message(world_, 0, write_step_result(result));
  }

  StepRunner& runner_;
  Communicator& world_;
  const Groups& groups_;
  uint64_t waited_us_ = 0;
};

}  // namespace

Status follow(StepRunner& runner, Communicator& world, const Groups& groups) {
  return Follower(runner, world, groups).run();
}

}  // namespace trireme
