// The engine's thread: one step after the other. engine.cc: what other threads ask.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "comm/wire/messenger.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/rank_trace.h"
#include "runtime/engine/ranks.h"

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

int64_t nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Status Engine::run() {
  const Status served = serve();
  watchdog_.disarm();
  ahead_.drop();  // the model may go before this does
  // To those who wait, whatever ended the engine is no fault of theirs.
  end(unavailable(served.ok() ? "the server is shutting down" : std::string(served.message())));
  if (!served.ok()) return served;
  StepMessage stop;
  stop.kind = StepMessage::Kind::kStop;
  stop.step = step_;
  return tell_all(world_, stop);
}

Status Engine::serve() {
  while (!inbox_.closed()) {
    const bool nothing_to_do = in_flight_.empty() && !views_.any_runnable();
    if (nothing_to_do) book_.flush();
    answer_drained();  // before a wait that nothing would end
    const Clock::time_point before = Clock::now();
    take_commands(nothing_to_do);
    if (nothing_to_do) unreported_idle_seconds_ += seconds_since(before);
    if (stats_stale_) update_stats();
    if (Status s = answer_pings(); !s.ok()) return s;
    if (Status s = answer_traces(); !s.ok()) return s;
    bool launched = false;
    if (in_flight_.size() < options_.pipeline_depth && views_.any_runnable()) {
      Result<bool> any = launch();
      if (!any.ok()) return any.status();
      launched = *any;
    }
    if (!launched) book_.flush();
    const bool full = in_flight_.size() >= options_.pipeline_depth;
    if (!in_flight_.empty() && (full || !launched)) {
      if (Status s = collect(); !s.ok()) return s;
    }
  }
  // Steps that are under way end, so that the followers are where they can be told to stop.
  while (!in_flight_.empty()) {
    if (Status s = collect(); !s.ok()) return s;
  }
  return {};
}

// Whoever still waits for something is told that nothing more will come.
void Engine::end(const Status& why) {
  inbox_.close(why);
  take_commands(false);
  book_.fail_all(why);
  book_.flush();
  for (const auto& answer : pings_) answer(why);
  pings_.clear();
  for (const TraceCommand& command : traces_) command.done(why);
  traces_.clear();
  answer_drained();
  update_stats();
}

void Engine::take_commands(bool wait) {
  const TraceSpan span(runner_.trace(),
                       wait ? TraceEvent::Name::kIdle : TraceEvent::Name::kCommands, step_);
  for (EngineCommand& command : inbox_.take(wait)) {
    stats_stale_ = true;
    std::visit([this](auto& c) { handle(std::move(c)); }, command);
  }
}

void Engine::handle(SubmitCommand&& command) {
  const int32_t priority = command.request.priority;
  const uint64_t arrived_ms = command.arrived_ms;
  log_.arrived(command.id, command.request);
  const SeqId seq = book_.admit(std::move(command));
  views_.add(seq, priority, arrived_ms);
}

void Engine::handle(ResetCacheCommand&&) {
  SequenceOp op;
  op.kind = SequenceOp::Kind::kReset;
  apply(std::move(op));
}

// An idle engine shows that all its ranks are alive; a busy one does by ending steps.
Status Engine::answer_pings() {
  if (pings_.empty()) return {};
  if (in_flight_.empty()) {
    StepMessage probe;
    probe.kind = StepMessage::Kind::kProbe;
    probe.step = step_;
    probe.ops.swap(ops_);
    probe.digest = runner_.digest();
    watchdog_.arm();
    if (Status s = tell_all(world_, probe); !s.ok()) return s;
    if (Status s = meet(world_, runner_.digest()); !s.ok()) return s;
    watchdog_.disarm();
  }
  for (const auto& answer : pings_) answer({});
  pings_.clear();
  return {};
}

// Nothing is under way meanwhile: a follower's events come by the way of its results.
Status Engine::answer_traces() {
  if (traces_.empty()) return {};
  while (!in_flight_.empty()) {
    if (Status s = collect(); !s.ok()) return s;
  }
  for (const TraceCommand& command : std::exchange(traces_, {})) {
    StepMessage message;
    message.kind = StepMessage::Kind::kTrace;
    message.step = step_;
    watchdog_.arm();
    if (Status s = tell_all(world_, message); !s.ok()) return s;
    std::vector<RankTrace> traces(1);
    TraceRing::Cut mine = runner_.trace()->since(command.since_ns);
    traces[0].events = std::move(mine.events);
    traces[0].lost_until_ns = mine.lost_until_ns;
    for (int rank = 1; rank < world_.size(); ++rank) {
      Result<RankTrace> trace = receive_trace(world_, rank, command.since_ns);
      if (!trace.ok()) return trace.status();
      traces.push_back(trace.take());
    }
    watchdog_.disarm();
    command.done(std::move(traces));
  }
  return {};
}

void Engine::answer_drained() {
  if (!book_.empty()) return;
  for (const auto& done : drained_) done();
  drained_.clear();
}

// Every change of a sequence comes by here, in order.
void Engine::apply(SequenceOp op) {
  if (op.kind == SequenceOp::Kind::kDrop) {
    if (views_.waits(op.seq)) inbox_.waits_no_longer();
    views_.remove(op.seq);
  }
  runner_.apply(op, step_);
  if (op.kind == SequenceOp::Kind::kFork) {
    const Request& r = *book_.request_of(op.child);
    views_.add(op.child, r.priority, book_.arrived_ms(op.child));
    views_.set_scheduled(op.child);
  }
  ops_.push_back(std::move(op));
}

StepBudget Engine::budget() const {
  StepBudget budget = options_.budget;
  if (options_.pipeline_depth > 1) {
    const auto active =
        static_cast<uint32_t>(std::min<size_t>(views_.size(), options_.budget.sequences_max));
    const uint32_t part = (active + options_.pipeline_depth - 1) / options_.pipeline_depth;
    budget.runs_max = std::max(part, 1u);
  }
  return budget;
}

Result<bool> Engine::launch() {
  OwnedView view;
  StepPlan plan;
  {
    TraceSpan span(runner_.trace(), TraceEvent::Name::kPlan, step_);
    view = views_.build(runner_.table(), runner_.cache(), book_);
    plan = ahead_.take(view.view, budget());
    span.set_value(static_cast<uint32_t>(plan.runs.size()));
  }
  if (plan.runs.empty() && plan.preempted.empty()) {
    CHECK(!in_flight_.empty() || view.sequences.empty())
        << "sequences wait, nothing runs, and nothing can be planned";
    return false;
  }
  stats_stale_ = true;
  preempt(plan);
  if (plan.runs.empty()) return true;
  if (Status s = run_step(plan.runs); !s.ok()) return s;
  return true;
}

void Engine::preempt(const StepPlan& plan) {
  if (plan.preempted.empty()) return;
  const TraceSpan span(runner_.trace(), TraceEvent::Name::kPreempt, step_,
                       static_cast<uint32_t>(plan.preempted.size()));
  for (const SeqId seq : plan.preempted) {
    const SequenceTable::Sequence& s = runner_.table().at(seq);
    SequenceOp op;
    op.kind = SequenceOp::Kind::kPreempt;
    op.seq = seq;
    op.flag = options_.preemption == PreemptionPolicy::kSpill;
    const uint64_t bytes = runner_.executor().traffic().bytes_of(s.blocks);
    if (options_.preemption != PreemptionPolicy::kRecompute) {
      SpillQuestion question;
      question.rows = s.computed;
      question.bytes = bytes;
      question.host_bytes_free =
          options_.swap_bytes - std::min(options_.swap_bytes, runner_.saved_bytes());
      const bool fits = question.bytes <= question.host_bytes_free;
      op.flag = fits && (op.flag || should_spill(question, rates_));
    }
    ++preemptions_;
    log_.preempted(book_.id_of(seq));
    // Copies beside the steps cost the host nothing that it could measure.
    const bool copies = op.flag && !runner_.executor().traffic().aside();
    const Clock::time_point start = Clock::now();
    apply(std::move(op));
    if (copies) rates_.note_copy(bytes, seconds_since(start));
  }
}

void Engine::note_scheduled(std::span<const StepPlan::Run> runs) {
  for (const StepPlan::Run& run : runs) {
    if (!views_.waits(run.seq)) continue;
    views_.set_scheduled(run.seq);
    if (book_.scheduled(run.seq, run.first)) inbox_.waits_no_longer();
  }
}

Status Engine::run_step(const std::vector<StepPlan::Run>& runs) {
  StepMessage message;
  message.step = step_;
  message.ops.swap(ops_);
  message.runs = runs;
  if (Status s = runner_.begin(message.runs, /*leads=*/true, step_); !s.ok()) return s;
  note_scheduled(message.runs);
  message.digest = runner_.digest();
  message.idle_us = static_cast<uint64_t>(1e6 * unreported_idle_seconds_);
  unreported_idle_seconds_ = 0;
  watchdog_.arm();
  {
    const TraceSpan span(runner_.trace(), TraceEvent::Name::kTell, step_);
    if (Status s = tell_all(world_, message); !s.ok()) return s;
  }

  InFlight flight;
  flight.step = step_;
  flight.start = Clock::now();
  for (const StepPlan::Run& run : message.runs) {
    flight.runs.push_back(run);
    flight.rows += run.count;
    views_.set_busy(run.seq, true);
  }
  runner_.commit(step_);
  ++step_;
  StepResult result;
  // With many clients, telling them takes a good part of a millisecond.
  const auto meanwhile = [&] {
    plan_ahead(message.runs);
    book_.flush();
  };
  if (Status s = runner_.compute(result, meanwhile); !s.ok()) return s;
  if (runner_.samples()) flight.result = std::move(result);
  step_rows_ += flight.rows;
  ++steps_;
  in_flight_.push_back(std::move(flight));
  return {};
}

// While a step computes, the next is planned as though all that sample go on.
void Engine::plan_ahead(std::span<const StepPlan::Run> runs) {
  if (options_.pipeline_depth > 1) return;
  const TraceSpan span(runner_.trace(), TraceEvent::Name::kPlanAhead, step_);
  std::set<SeqId> guess;
  for (const StepPlan::Run& run : runs) guess.insert(run.seq);
  ahead_.prepare(views_.build(runner_.table(), runner_.cache(), book_, &guess).view, budget());
}

// Every stage but this rank's own tells how it fared, the last one what it sampled.
Status Engine::receive_results(InFlight& flight) {
  const TraceSpan span(runner_.trace(), TraceEvent::Name::kAwait, flight.step);
  const Clock::time_point waiting = Clock::now();
  for (int stage = groups_.mesh.stages - 1; stage > 0; --stage) {
    Result<std::vector<std::byte>> bytes = receive_message(world_, groups_.mesh.rank({stage, 0}));
    if (!bytes.ok()) return bytes.status();
    Result<StepResult> result = read_step_result(*bytes);
    if (!result.ok()) return result.status();
    if (result->step != flight.step)
      return data_loss(fmt::format("the result of step {} came where that of step {} was due",
                                   result->step, flight.step));
    stage_busy_[static_cast<size_t>(stage)] += 1e-6 * static_cast<double>(result->busy_us);
    stage_idle_[static_cast<size_t>(stage)] += 1e-6 * static_cast<double>(result->idle_us);
    if (stage == groups_.mesh.stages - 1) flight.result = result.take();
  }
  stage_idle_[0] += seconds_since(waiting);
  return {};
}

Status Engine::collect() {
  InFlight flight = std::move(in_flight_.front());
  in_flight_.pop_front();
  TraceSpan span(runner_.trace(), TraceEvent::Name::kCollect, flight.step);
  if (groups_.mesh.stages > 1) {
    if (Status s = receive_results(flight); !s.ok()) return s;
  }
  if (in_flight_.empty()) watchdog_.disarm();
  const double took = seconds_since(flight.start);
  step_seconds_ += took;
  rates_.note_step(flight.rows, took);
  for (const StepPlan::Run& run : flight.runs) views_.set_busy(run.seq, false);
  log_prompt_chunks(flight);
  span.set_value(static_cast<uint32_t>(flight.result->sampled.size()));
  book_.accept(*flight.result);
  update_stats();  // whoever is told of an end finds it counted
  // Those who write to clients need a core: better while this thread plans than while all compute.
  if (!runner_.executor().computes_aside()) book_.flush();
  trace_counters(flight.rows);
  runner_.check_in_debug();
  return {};
}

void Engine::log_prompt_chunks(const InFlight& flight) {
  if (options_.requests_logged == 0) return;
  const int64_t now = trace_now();
  for (const StepPlan::Run& run : flight.runs) {
    const Request* request = book_.request_of(run.seq);
    if (request == nullptr || run.first >= request->prompt.size()) continue;
    log_.computed(book_.id_of(run.seq), {now - nanoseconds_since(flight.start), now, run.count});
  }
}

void Engine::trace_counters(uint32_t rows) {
  TraceRing* const trace = runner_.trace();
  if (trace == nullptr) return;
  trace->counter(TraceEvent::Name::kRows, rows);
  trace->counter(TraceEvent::Name::kRunning, stats_.running);
  trace->counter(TraceEvent::Name::kWaiting, inbox_.waiting());
  for (size_t c = 0; c < stats_.classes.size(); ++c) {
    trace->counter(TraceEvent::Name::kLive, stats_.classes[c].live, static_cast<uint16_t>(c));
    trace->counter(TraceEvent::Name::kCached, stats_.classes[c].cached, static_cast<uint16_t>(c));
  }
}

}  // namespace trireme
