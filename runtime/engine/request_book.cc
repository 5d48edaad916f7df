#include "runtime/engine/request_book.h"

#include <algorithm>
#include <utility>

namespace trireme {

SeqId RequestBook::admit(SubmitCommand command) {
  const SeqId seq = next_seq_++;
  SequenceOp op;
  op.kind = SequenceOp::Kind::kAdmit;
  op.seq = seq;
  const Request& r = command.request;
  op.admission = {r.prompt, r.params, r.choices, r.prompt_logprobs, r.constraint, r.cache_salt};

  Live live;
  live.request = std::move(command.request);
  live.sink = std::move(command.sink);
  live.arrived_ms = command.arrived_ms;
  live.choices.resize(live.request.choices);
  live.choices[0].seq = seq;
  live.unfinished = live.request.choices;
  live.forked = live.request.choices == 1;
  ++counts_.requests;
  owners_[seq] = {command.id, 0};
  const bool is_new = requests_.emplace(command.id, std::move(live)).second;
  CHECK(is_new) << "request " << command.id << " was admitted twice";
  apply_(std::move(op));
  return seq;
}

RequestBook::Live* RequestBook::find(RequestId id) {
  const auto it = requests_.find(id);
  return it == requests_.end() ? nullptr : &it->second;
}

const Request* RequestBook::request_of(SeqId seq) const {
  const auto owner = owners_.find(seq);
  return owner == owners_.end() ? nullptr : &requests_.at(owner->second.request).request;
}

RequestId RequestBook::id_of(SeqId seq) const {
  const auto owner = owners_.find(seq);
  return owner == owners_.end() ? 0 : owner->second.request;
}

uint64_t RequestBook::arrived_ms(SeqId seq) const {
  return requests_.at(owners_.at(seq).request).arrived_ms;
}

void RequestBook::emit(RequestId id, Live& live, Event event) {
  if (observe_) observe_(id, event);
  if (live.events.empty()) touched_.push_back(id);
  live.events.push_back(std::move(event));
}

bool RequestBook::scheduled(SeqId seq, uint32_t cached) {
  const RequestId id = owners_.at(seq).request;
  Live& live = *find(id);
  if (live.scheduled) return false;
  live.scheduled = true;
  counts_.prompt_tokens += live.request.prompt.size();
  counts_.prompt_tokens_cached += cached;
  Event event;
  event.kind = Event::Kind::kScheduled;
  event.cached_tokens = cached;
  emit(id, live, std::move(event));
  return true;
}

void RequestBook::cancel(RequestId id) {
  Live* live = find(id);
  if (live == nullptr) return;
  for (uint32_t c = 0; c < live->choices.size(); ++c) {
    if (live->choices[c].finish == FinishReason::kNone)
      finish(id, *live, c, FinishReason::kCancelled, false);
  }
}

void RequestBook::finish_choice(RequestId id, uint32_t choice) {
  Live* live = find(id);
  if (live == nullptr || choice >= live->choices.size()) return;
  if (live->choices[choice].finish == FinishReason::kNone)
    finish(id, *live, choice, FinishReason::kStop, true);
}

void RequestBook::fail(RequestId id, Live& live, const Status& why) {
  for (uint32_t c = 0; c < live.choices.size(); ++c) {
    if (live.choices[c].finish == FinishReason::kNone)
      finish(id, live, c, FinishReason::kFailed, false, -1, why);
  }
}

void RequestBook::fail_all(const Status& why) {
  for (auto& [id, live] : requests_) fail(id, live, why);
}

void RequestBook::finish(RequestId id, Live& live, uint32_t choice, FinishReason reason,
                         bool complete, int32_t stop_token, const Status& failure) {
  Choice& c = live.choices[choice];
  CHECK(c.finish == FinishReason::kNone && live.unfinished > 0);
  c.finish = reason;
  --live.unfinished;
  (reason == FinishReason::kStop        ? counts_.finished_stop
   : reason == FinishReason::kLength    ? counts_.finished_length
   : reason == FinishReason::kCancelled ? counts_.finished_cancelled
                                        : counts_.finished_failed) += 1;
  Event event;
  event.kind = Event::Kind::kFinished;
  event.choice = choice;
  event.finish = reason;
  event.stop_token = stop_token;
  event.failure = failure;
  emit(id, live, std::move(event));
  // Choices that have not been forked yet live in the sequence of the first.
  if (live.forked) {
    drop(c.seq, complete);
  } else if (live.unfinished == 0) {
    drop(live.choices[0].seq, complete);
  }
}

void RequestBook::drop(SeqId seq, bool complete) {
  owners_.erase(seq);
  SequenceOp op;
  op.kind = SequenceOp::Kind::kDrop;
  op.seq = seq;
  op.flag = complete;
  apply_(std::move(op));
}

void RequestBook::fork(RequestId id, Live& live, SeqId parent) {
  live.forked = true;
  for (uint32_t c = 1; c < live.choices.size(); ++c) {
    if (live.choices[c].finish != FinishReason::kNone) continue;
    SequenceOp op;
    op.kind = SequenceOp::Kind::kFork;
    op.seq = parent;
    op.child = next_seq_++;
    op.choice = c;
    live.choices[c].seq = op.child;
    owners_[op.child] = {id, c};
    apply_(std::move(op));
  }
}

void RequestBook::accept(const StepResult& result) {
  for (const StepResult::PromptScores& s : result.scores) {
    const auto owner = owners_.find(s.seq);
    if (owner == owners_.end()) continue;
    Event event;
    event.kind = Event::Kind::kPromptScored;
    event.prompt_scores = s.tokens;
    emit(owner->second.request, *find(owner->second.request), std::move(event));
  }
  for (const StepResult::Sampled& s : result.sampled) {
    const auto owner = owners_.find(s.seq);
    if (owner == owners_.end()) continue;
    const auto [id, choice] = owner->second;
    Live& live = *find(id);
    if (s.tokens.empty()) {
      fail(id, live, s.failure);
    } else if (live.request.score_only) {
      finish(id, live, choice, FinishReason::kLength, true);
    } else if (live.forked) {
      accept_token(id, live, choice, s.tokens[0]);
    } else {
      CHECK(s.tokens.size() == live.choices.size());
      const bool first_left = live.choices[0].finish != FinishReason::kNone;
      fork(id, live, s.seq);
      for (uint32_t c = 0; c < live.choices.size(); ++c) {
        if (live.choices[c].finish == FinishReason::kNone) accept_token(id, live, c, s.tokens[c]);
      }
      if (first_left) drop(s.seq, false);  // it only carried the others so far
    }
  }
}

void RequestBook::accept_token(RequestId id, Live& live, uint32_t choice,
                               const SampledToken& token) {
  Choice& c = live.choices[choice];
  const SamplingParams& params = live.request.params;
  const auto is_one_of = [&](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token.token) != ids.end();
  };
  const bool ends =
      c.output >= params.min_tokens && (is_one_of(params.stop_token_ids) ||
                                        (!params.ignore_eos && is_one_of(options_.eos_token_ids)));
  ++counts_.generation_tokens;
  if (ends) {
    finish(id, live, choice, FinishReason::kStop, true, token.token);
    return;
  }
  ++c.output;
  SequenceOp op;
  op.kind = SequenceOp::Kind::kAccept;
  op.seq = c.seq;
  op.token = token.token;
  apply_(std::move(op));
  Event event;
  event.kind = Event::Kind::kToken;
  event.choice = choice;
  event.sampled = token;
  emit(id, live, std::move(event));
  if (c.output >= params.max_tokens || live.request.prompt.size() + c.output >= options_.tokens_max)
    finish(id, live, choice, FinishReason::kLength, true);
}

void RequestBook::flush() {
  std::vector<RequestId> touched;
  touched.swap(touched_);
  for (const RequestId id : touched) {
    const auto it = requests_.find(id);
    if (it == requests_.end()) continue;
    std::vector<Event> events;
    events.swap(it->second.events);
    const std::shared_ptr<EventSink> sink = it->second.sink;
    if (it->second.unfinished == 0) requests_.erase(it);
    sink->on_events(events);
  }
}

}  // namespace trireme
