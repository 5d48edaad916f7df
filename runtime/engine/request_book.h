// The leader's book of requests: which sequences serve which choice, what every front end is told,
// and when a choice has ended. Decides purely: what changes about sequences goes out as
// SequenceOps, what front ends learn as Events; it reads no clock and touches no block.
//
// INVARIANT: every choice of every request that was admitted gets exactly one kFinished, after
// which no event names it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/engine/inbox.h"
#include "runtime/engine/step_message.h"
#include "runtime/engine/step_result.h"

namespace trireme {

struct RequestBookOptions {
  uint32_t tokens_max = 0;  // of a sequence
  std::vector<int32_t> eos_token_ids;
};

struct RequestCounts {
  uint64_t requests = 0;
  uint64_t finished_stop = 0, finished_length = 0, finished_cancelled = 0, finished_failed = 0;
  uint64_t prompt_tokens = 0, prompt_tokens_cached = 0, generation_tokens = 0;
};

class RequestBook {
 public:
  using Apply = std::function<void(SequenceOp)>;
  using Observe = std::function<void(RequestId, const Event&)>;

  // `apply` is told of each change in order, before the next is decided; `observe` of each event,
  // before its request's sink is.
  RequestBook(RequestBookOptions options, Apply apply, Observe observe = {})
      : options_(std::move(options)), apply_(std::move(apply)), observe_(std::move(observe)) {}

  // The request's first sequence gets a new id.
  SeqId admit(SubmitCommand command);
  void cancel(RequestId id);
  void finish_choice(RequestId id, uint32_t choice);
  // A sequence takes part in a step for the first time; true if its request does. `cached`: tokens
  // of its prompt that need no computing.
  bool scheduled(SeqId seq, uint32_t cached);
  // Tokens of sequences that have ended meanwhile are nobody's any more.
  void accept(const StepResult& result);
  // Every request that is left ends with kFailed.
  void fail_all(const Status& why);

  // Tells the front ends what has come up since the last call.
  void flush();

  bool empty() const { return requests_.empty(); }
  const RequestCounts& counts() const { return counts_; }
  // Whose sequence it is; nullptr where it has ended.
  const Request* request_of(SeqId seq) const;
  // 0 where it has ended.
  RequestId id_of(SeqId seq) const;
  // Whether each choice of its request has a sequence of its own. REQUIRES: it has not ended.
  bool forked(SeqId seq) const { return requests_.at(owners_.at(seq).request).forked; }
  uint64_t arrived_ms(SeqId seq) const;

 private:
  struct Choice {
    SeqId seq = 0;
    FinishReason finish = FinishReason::kNone;
    uint32_t output = 0;  // tokens
  };
  struct Live {
    Request request;
    std::shared_ptr<EventSink> sink;
    uint64_t arrived_ms = 0;
    std::vector<Choice> choices;
    uint32_t unfinished = 0;
    bool forked = false;  // each choice has a sequence of its own
    bool scheduled = false;
    std::vector<Event> events;
  };
  struct Owner {
    RequestId request = 0;
    uint32_t choice = 0;
  };
  Live* find(RequestId id);
  void emit(RequestId id, Live& live, Event event);
  void fork(RequestId id, Live& live, SeqId parent);
  void accept_token(RequestId id, Live& live, uint32_t choice, const SampledToken& token);
  // Ends a choice and, `drop`, its sequence; `complete`: what was computed may be kept.
  void finish(RequestId id, Live& live, uint32_t choice, FinishReason reason, bool complete,
              int32_t stop_token = -1, const Status& failure = {});
  void drop(SeqId seq, bool complete);
  void fail(RequestId id, Live& live, const Status& why);

  const RequestBookOptions options_;
  const Apply apply_;
  const Observe observe_;
  std::map<RequestId, Live> requests_;
  std::unordered_map<SeqId, Owner> owners_;
  std::vector<RequestId> touched_;  // have events
  SeqId next_seq_ = 1;
  RequestCounts counts_;
};

}  // namespace trireme
