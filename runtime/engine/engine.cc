// What front ends ask the engine, from their threads. engine_loop.cc: what the engine's own thread
// does.
#include "runtime/engine/engine.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/schedule/capacity.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t now_ms() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch())
          .count());
}

EngineInfo make_info(const StepRunner& runner, Executor& executor, const Groups& groups,
                     const ServingOptions& options) {
  EngineInfo info;
  info.vocab = executor.model().spec().vocab;
  info.tokens_max = options.tokens_max;
  info.eos_token_ids = options.eos_token_ids;
  info.sequences_max = options.budget.sequences_max;
  info.batched_tokens_max = options.budget.tokens_max;
  for (const SlotClass& c : executor.layout().classes) {
    info.block_bytes.push_back(c.block_bytes);
    info.block_kinds.emplace_back(c.growth != StateSpec::Growth::kPerToken ? "state"
                                  : c.window_tokens > 0                    ? "window"
                                                                           : "pages");
    if (c.growth == StateSpec::Growth::kPerToken) info.block_tokens = c.block_tokens;
  }
  info.blocks_total.assign(executor.blocks_total().begin(), executor.blocks_total().end());
  info.prefix_caching = runner.prefix_caching();
  info.stages = groups.mesh.stages;
  info.shards = groups.mesh.shards;
  info.device = executor.device_name();
  return info;
}

}  // namespace

Engine::Engine(StepRunner& runner, Communicator& world, const Groups& groups,
               ConstraintCompiler* compiler, ServingOptions options)
    : runner_(runner),
      world_(world),
      groups_(groups),
      compiler_(compiler),
      options_(std::move(options)),
      info_(make_info(runner, runner.executor(), groups, options_)),
      log_(options_.requests_logged),
      inbox_(options_.requests_waiting_max),
      book_(
          {options_.tokens_max, options_.eos_token_ids},
          [this](SequenceOp op) { apply(std::move(op)); },
          [this](RequestId id, const Event& event) { log_.happened(id, event); }),
      views_(runner.executor().layout(),
             {options_.tokens_max,
              std::min(options_.budget.tokens_max, options_.budget.prefill_chunk_max), 8,
              options_.aging_ms, true}),
      watchdog_(options_.step_timeout,
                [this] {
                  if (options_.step_missed) options_.step_missed();
                }),
      stage_busy_(static_cast<size_t>(groups.mesh.stages)),
      stage_idle_(static_cast<size_t>(groups.mesh.stages)) {
  CHECK(world.rank() == 0 && options_.pipeline_depth > 0 && options_.tokens_max > 1);
  update_stats();
}

Engine::~Engine() { inbox_.close(unavailable("the engine has ended")); }

Status Engine::check(const Request& r) const {
  if (r.prompt.empty()) return invalid_argument("the prompt is empty: it must have a token");
  for (const int32_t token : r.prompt) {
    if (token < 0 || token >= info_.vocab)
      return invalid_argument(fmt::format(
          "the prompt has token {}: the vocabulary has tokens 0 to {}", token, info_.vocab - 1));
  }
  const uint32_t room = r.score_only ? 0 : 1;
  if (r.prompt.size() + room > options_.tokens_max) {
    return invalid_argument(
        fmt::format("the prompt has {} tokens, and the model's context holds {}, output included: "
                    "shorten the prompt",
                    r.prompt.size(), options_.tokens_max));
  }
  if (r.choices == 0 || r.choices > options_.choices_max)
    return invalid_argument(
        fmt::format("n is {}: it must be from 1 to {}", r.choices, options_.choices_max));
  if (r.score_only && r.choices != 1)
    return invalid_argument("n must be 1 where nothing is generated");
  if (r.prompt_logprobs < -1 || r.prompt_logprobs > kLogprobsMax)
    return invalid_argument(fmt::format("prompt_logprobs is {}: it must be from 0 to {}",
                                        r.prompt_logprobs, kLogprobsMax));
  if (Status s = validate(r.params, info_.vocab); !s.ok()) return s;
  if (Status s =
          can_ever_fit(runner_.executor().layout(), info_.blocks_total, views_.peak(r, false));
      !s.ok())
    return s;
  if (r.constraint.kind == ConstraintSpec::Kind::kNone) return {};
  if (compiler_ == nullptr)
    return invalid_argument("this worker has no tokenizer, so it serves no constrained output");
  return compiler_->compile(r.constraint).status();
}

Result<RequestId> Engine::submit(Request request, std::shared_ptr<EventSink> sink) {
  if (Status s = check(request); !s.ok()) return s;
  if (!options_.priorities) request.priority = 0;
  const RequestId id = next_request_.fetch_add(1);
  if (Status s = inbox_.submit({id, std::move(request), std::move(sink), now_ms()}); !s.ok())
    return s;
  return id;
}

void Engine::cancel(RequestId id) { inbox_.push(CancelCommand{id}); }
void Engine::finish_choice(RequestId id, uint32_t choice) {
  inbox_.push(FinishCommand{id, choice});
}
void Engine::ping(std::function<void(const Status&)> answer) {
  if (!inbox_.push(PingCommand{answer})) answer(unavailable("the engine has ended"));
}
void Engine::drain(std::function<void()> done) {
  inbox_.refuse(unavailable("the server is draining: it takes no new requests"));
  if (!inbox_.push(DrainCommand{done})) done();
}
void Engine::reset_prefix_cache() { inbox_.push(ResetCacheCommand{}); }
void Engine::trace(int64_t since_ns, TraceAnswer done) {
  if (runner_.trace() == nullptr) {
    done(unavailable("this server keeps no traces: give it tracing.ring_events"));
  } else if (!inbox_.push(TraceCommand{since_ns, done})) {
    done(unavailable("the engine has ended"));
  }
}
std::vector<RequestTimeline> Engine::timelines(int64_t since_ns, size_t count) const {
  return log_.since(since_ns, count);
}
void Engine::stop() { inbox_.close(unavailable("the server is shutting down")); }

EngineStats Engine::stats() const {
  const std::lock_guard lock(stats_mutex_);
  EngineStats stats = stats_;
  stats.waiting = inbox_.waiting();
  return stats;
}

void Engine::update_stats() {
  stats_stale_ = false;
  EngineStats s;
  const RequestCounts& counts = book_.counts();
  s.requests = counts.requests;
  s.finished_stop = counts.finished_stop;
  s.finished_length = counts.finished_length;
  s.finished_cancelled = counts.finished_cancelled;
  s.finished_failed = counts.finished_failed;
  s.prompt_tokens = counts.prompt_tokens;
  s.prompt_tokens_cached = counts.prompt_tokens_cached;
  s.generation_tokens = counts.generation_tokens;
  s.prefix_queries = counts.prompt_tokens;
  s.prefix_hits = counts.prompt_tokens_cached;
  s.blocks_evicted = runner_.cache().stats().blocks_evicted;
  for (const auto& [seq, sequence] : runner_.table().sequences())
    s.running += sequence.resident && book_.request_of(seq) != nullptr;
  for (size_t c = 0; c < info_.blocks_total.size(); ++c)
    s.classes.push_back(runner_.cache().usage(c));
  s.spilled_bytes = runner_.saved_bytes();
  s.preemptions = preemptions_;
  s.steps = steps_;
  s.step_rows = step_rows_;
  if (const RecordedSteps* recorded = runner_.executor().recorded_steps()) {
    s.recordings = recorded->counts().recorded;
    s.steps_replayed = recorded->counts().replayed;
  }
  s.step_seconds = step_seconds_;
  s.stage_busy_seconds = stage_busy_;
  s.stage_busy_seconds[0] = runner_.busy_seconds();
  s.stage_idle_seconds = stage_idle_;
  const std::lock_guard lock(stats_mutex_);
  stats_ = std::move(s);
}

}  // namespace trireme
