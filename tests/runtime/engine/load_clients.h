// Clients of a loaded engine: requests drawn from a seed, and what each client does with its own.
// They read their mailboxes late and decide by what they have read, so a cancel may come for a
// request that has ended long ago.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <latch>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "tests/runtime/schedule/random_work.h"
#include "tests/support/engine_harness.h"

namespace trireme::test {

// Rings when there is something new in one of a client's mailboxes.
class Bell {
 public:
  void ring() {
    {
      const std::lock_guard lock(mutex_);
      ++rings_;
    }
    rung_.notify_one();
  }
  uint64_t rings() {
    const std::lock_guard lock(mutex_);
    return rings_;
  }
  void wait_past(uint64_t seen) {
    std::unique_lock lock(mutex_);
    rung_.wait(lock, [&] { return rings_ != seen; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable rung_;
  uint64_t rings_ = 0;
};

// What a client that reads late has not read yet.
class LateMailbox final : public EventSink {
 public:
  LateMailbox(uint32_t choices, Bell& bell) : bell_(bell), unfinished_(choices) {}
  void on_events(std::span<const Event> events) override {
    const std::lock_guard lock(mutex_);
    for (const Event& e : events) {
      CHECK(unfinished_ > 0) << "an event after the last end";
      unfinished_ -= e.kind == Event::Kind::kFinished;
      unread_.push_back(e);
    }
    bell_.ring();
  }
  bool empty() {
    const std::lock_guard lock(mutex_);
    return unread_.empty();
  }
  std::vector<Event> read() {
    const std::lock_guard lock(mutex_);
    return std::exchange(unread_, {});
  }

 private:
  Bell& bell_;
  std::mutex mutex_;
  std::vector<Event> unread_;
  uint32_t unfinished_;
};

enum class Manner : uint8_t { kWhole, kCancel, kEndChoice };

// One request, what its client means to do with it, and what came of it.
struct Job {
  Request request;
  Manner manner = Manner::kWhole;
  uint32_t after = 0;  // tokens that the client has read when it cancels, or ends the last choice
  uint32_t lag = 0;    // rounds that something lies in the mailbox before it looks
  RequestId id = 0;
  std::shared_ptr<LateMailbox> mailbox;
  uint32_t rounds = 0, read = 0, scheduled = 0;
  bool acted = false;
  std::vector<Collector::Choice> choices;

  bool submitted() const { return mailbox != nullptr; }
  bool ended() const {
    return submitted() && std::all_of(choices.begin(), choices.end(),
                                      [](const Collector::Choice& c) { return c.finishes > 0; });
  }
};

// What the requests are drawn from. REQUIRES: clients * crowd requests are let in at a time.
struct Load {
  size_t requests = 120;  // of all clients
  size_t clients = 2;
  size_t crowd = 12;  // the first of each client: long, and whole
  uint32_t vocab = 1023, prompt_max = 110, output_max = 50;
};
std::vector<Job> make_jobs(const Load& load, Random& random);

class LoadClient {
 public:
  // At most `open_max` of its requests are open at a time. It waits at the `gate` when it has
  // submitted its crowd.
  LoadClient(Engine& engine, std::span<Job> jobs, size_t open_max, size_t crowd, std::latch& gate,
             uint64_t seed)
      : engine_(engine),
        jobs_(jobs),
        open_max_(open_max),
        crowd_(crowd),
        gate_(gate),
        random_(seed) {}

  // Submits all, reads and acts until all have ended.
  void run();

 private:
  bool submit(Job& job);  // whether it was let in
  void look_at(Job& job);
  void act(Job& job);

  Engine& engine_;
  const std::span<Job> jobs_;
  const size_t open_max_, crowd_;
  std::latch& gate_;
  Random random_;
  Bell bell_;
  size_t next_ = 0, ended_ = 0;
};

}  // namespace trireme::test
