#include "tests/support/scripted_engine.h"

#include <algorithm>

namespace trireme::test {

Event scheduled_event(uint32_t cached_tokens) {
  Event event;
  event.kind = Event::Kind::kScheduled;
  event.cached_tokens = cached_tokens;
  return event;
}

Event token_event(uint32_t choice, int32_t token, float logprob) {
  Event event;
  event.kind = Event::Kind::kToken;
  event.choice = choice;
  event.sampled.token = token;
  event.sampled.logprob = logprob;
  return event;
}

Event finished_event(uint32_t choice, FinishReason reason, int32_t stop_token) {
  Event event;
  event.kind = Event::Kind::kFinished;
  event.choice = choice;
  event.finish = reason;
  event.stop_token = stop_token;
  return event;
}

Event failed_event(uint32_t choice, Status why) {
  Event event = finished_event(choice, FinishReason::kFailed);
  event.failure = std::move(why);
  return event;
}

Result<RequestId> ScriptedEngine::submit(Request request, std::shared_ptr<EventSink> sink) {
  CHECK(!scripts.empty() || write) << "no script for this request";
  if (scripts.empty()) scripts.push_back(write(request));
  Script script = std::move(scripts.front());
  scripts.pop_front();
  if (!script.refusal.ok()) return script.refusal;
  Live live;
  live.sink = std::move(sink);
  live.steps.assign(script.steps.begin(), script.steps.end());
  live.ended.assign(request.choices, false);
  submitted.push_back(std::move(request));
  live_.emplace(next_, std::move(live));
  return next_++;
}

bool ScriptedEngine::step() {
  bool any = false;
  for (auto it = live_.begin(); it != live_.end();) {
    Live& live = it->second;
    if (live.steps.empty()) {
      ++it;
      continue;
    }
    any = true;
    const std::vector<Event> events = std::move(live.steps.front());
    live.steps.pop_front();
    for (const Event& event : events) {
      const bool of_choice =
          event.kind == Event::Kind::kToken || event.kind == Event::Kind::kFinished;
      CHECK(!of_choice || !live.ended.at(event.choice)) << "an event after a choice's end";
      if (event.kind == Event::Kind::kFinished) live.ended[event.choice] = true;
    }
    live.sink->on_events(events);
    const bool over = std::find(live.ended.begin(), live.ended.end(), false) == live.ended.end();
    it = over ? live_.erase(it) : std::next(it);
  }
  return any;
}

size_t ScriptedEngine::open_choices() const {
  size_t open = 0;
  for (const auto& [id, live] : live_)
    open += static_cast<size_t>(std::count(live.ended.begin(), live.ended.end(), false));
  return open;
}

void ScriptedEngine::cancel(RequestId id) {
  cancelled.push_back(id);
  const auto found = live_.find(id);
  if (found == live_.end()) return;
  Live& live = found->second;
  live.steps.assign(1, {});
  for (uint32_t c = 0; c < live.ended.size(); ++c) {
    if (!live.ended[c]) live.steps[0].push_back(finished_event(c, FinishReason::kCancelled));
  }
}

void ScriptedEngine::finish_choice(RequestId id, uint32_t choice) {
  stopped.emplace_back(id, choice);
  const auto found = live_.find(id);
  if (found == live_.end() || found->second.ended.at(choice)) return;
  std::deque<std::vector<Event>>& steps = found->second.steps;
  if (steps.empty()) steps.emplace_back();
  for (size_t i = 0; i < steps.size(); ++i) {
    std::erase_if(steps[i], [&](const Event& event) {
      const bool under_way = i == 0 && event.kind == Event::Kind::kToken;
      return event.choice == choice && event.kind != Event::Kind::kScheduled && !under_way;
    });
  }
  steps[0].push_back(finished_event(choice, FinishReason::kStop));
}

void ScriptedEngine::ping(std::function<void(const Status&)> answer) {
  if (pong.has_value()) answer(*pong);
}

}  // namespace trireme::test
