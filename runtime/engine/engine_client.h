// The engine as its front ends see it. Every function may be called from any thread but that of the
// engine, and none waits for a step.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cache/block_cache.h"
#include "runtime/engine/request.h"

namespace trireme {

// What does not change while the engine runs.
struct EngineInfo {
  int32_t vocab = 0;
  uint32_t tokens_max = 0;  // of prompt and output together
  std::vector<int32_t> eos_token_ids;
  uint32_t sequences_max = 0;       // of one step
  uint32_t batched_tokens_max = 0;  // of one step
  uint32_t block_tokens = 0;
  std::vector<uint32_t> blocks_total;    // by slot class
  std::vector<uint64_t> block_bytes;     // by slot class, on the leader's rank
  std::vector<std::string> block_kinds;  // by slot class: "pages", "window", "state"
  bool prefix_caching = false;
  int stages = 1;
  int shards = 1;
  std::string device;  // "cpu/avx512"
};

struct EngineStats {
  uint32_t running = 0;             // sequences that hold blocks
  uint32_t waiting = 0;             // requests, or choices, that hold none
  std::vector<ClassUsage> classes;  // blocks by slot class
  uint64_t spilled_bytes = 0;       // of preempted sequences in host memory
  // Counters since the start.
  uint64_t requests = 0, finished_stop = 0, finished_length = 0, finished_cancelled = 0,
           finished_failed = 0;  // requests accepted; choices by their end
  uint64_t prompt_tokens = 0;    // computed or found in the cache
  uint64_t prompt_tokens_cached = 0;
  uint64_t generation_tokens = 0;
  uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  uint64_t blocks_evicted = 0;                   // cached blocks that gave way
  uint64_t preemptions = 0;
  uint64_t steps = 0;
  uint64_t step_rows = 0;                  // computed rows, of all steps
  uint64_t recordings = 0;                 // of the leader's device: sizes of steps that it knows
  uint64_t steps_replayed = 0;             // by them
  double step_seconds = 0;                 // of the leader's rank, with at least one step under way
  std::vector<double> stage_busy_seconds;  // by stage: computing, on its shard 0
  std::vector<double> stage_idle_seconds;  // by stage: waiting for another stage or for work, while
                                           // the engine had some
};

class EngineClient {
 public:
  virtual ~EngineClient() = default;

  virtual const EngineInfo& info() const = 0;

  // Accepts a request: from now on `sink` gets exactly one kFinished for each of its choices.
  // kInvalidArgument: it can never run (a field out of range, a prompt that leaves no room, more
  // cache than there is, a bad constraint), with the numbers. kResourceExhausted: too many requests
  // wait; try again later. kUnavailable: the engine is draining, or has ended.
  virtual Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) = 0;

  // Ends what is left of a request; its unfinished choices finish with kCancelled. A request that
  // is not there any more is no mistake.
  virtual void cancel(RequestId id) = 0;

  // Ends one choice with kStop: its text has met a stop string. Tokens that are under way still
  // come as events; they are beyond the end.
  virtual void finish_choice(RequestId id, uint32_t choice) = 0;

  // Calls `answer` on the engine's thread once its loop has come by: with ok, or with the reason
  // why it can no longer serve. An engine that hangs does not answer.
  virtual void ping(std::function<void(const Status&)> answer) = 0;

  // Refuses new requests from now on; `done` is called on the engine's thread once none is left.
  virtual void drain(std::function<void()> done) = 0;

  // Forgets all cached prefixes that no sequence holds.
  virtual void reset_prefix_cache() = 0;

  virtual EngineStats stats() const = 0;
};

}  // namespace trireme
