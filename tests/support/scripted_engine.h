// An engine that says what a test tells it to, step by step: no model, no thread of its own.
//
// Belongs to one thread, which calls step() where the real engine's thread would run a step.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/engine/engine_client.h"

namespace trireme::test {

// What one request gets.
struct Script {
  Status refusal = {};                         // of submit()
  std::vector<std::vector<Event>> steps = {};  // events by step; a request whose choices have no
                                               // end there hangs after the last one
};

Event scheduled_event(uint32_t cached_tokens = 0);
Event token_event(uint32_t choice, int32_t token, float logprob = -1.0f);
Event finished_event(uint32_t choice, FinishReason reason, int32_t stop_token = -1);
Event failed_event(uint32_t choice, Status why);

class ScriptedEngine final : public EngineClient {
 public:
  // Of the next requests, in order; where there is none, what write() says. A request without
  // either is a broken promise of the test's.
  std::deque<Script> scripts;
  std::function<Script(const Request&)> write;
  std::optional<Status> pong = Status();  // none: a ping is never answered
  EngineInfo information;

  // What the engine was asked.
  std::vector<Request> submitted;
  std::vector<RequestId> cancelled;
  std::vector<std::pair<RequestId, uint32_t>> stopped;  // finish_choice()
  uint32_t cache_resets = 0;

  // The next step of every request that has one. False: none had.
  bool step();
  // Choices that have not got their end.
  size_t open_choices() const;
  // Forgets all requests and their sinks.
  void clear() { live_.clear(); }

  const EngineInfo& info() const override { return information; }
  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override;
  void cancel(RequestId id) override;
  // As with the real engine the tokens of one more step are under way.
  void finish_choice(RequestId id, uint32_t choice) override;
  void ping(std::function<void(const Status&)> answer) override;
  void drain(std::function<void()> done) override { done(); }
  void reset_prefix_cache() override { ++cache_resets; }
  EngineStats stats() const override { return {}; }

 private:
  struct Live {
    std::shared_ptr<EventSink> sink;
    std::deque<std::vector<Event>> steps;
    std::vector<bool> ended;  // by choice
  };
  std::map<RequestId, Live> live_;
  RequestId next_ = 1;
};

}  // namespace trireme::test
