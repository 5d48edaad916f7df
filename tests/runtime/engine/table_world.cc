#include "tests/runtime/engine/table_world.h"

#include "runtime/schedule/capacity.h"

namespace trireme::test {

TableWorld::TableWorld(uint64_t seed, WorldCounts& counts, bool unfair)
    : unfair_(unfair),
      random_(seed),
      counts_(counts),
      layout_(random_layout(random_)),
      budget_(random_budget()),
      aging_ms_(random_.up_to(30)),
      total_(random_totals()),
      leader_(layout_, total_, cache_options()),
      follower_(layout_, total_, options_),
      book_({kWorldTokensMax, {2}}, [this](SequenceOp op) { apply(std::move(op)); }),
      views_(layout_, {kWorldTokensMax, chunk_max(), random_.between(1, 8), aging_ms_, true}),
      ledger_(book_, leader_.table, kWorldTokensMax, aging_ms_),
      depth_(random_.between(1, 3)),
      arrive_(random_.between(1, 4)) {}

void TableWorld::run() {
  const uint32_t requests = random_.between(1, 30);
  for (now_ms_ = 1; sinks_.size() < requests || !book_.empty(); ++now_ms_) {
    ASSERT_LT(now_ms_, 20000u) << "no end in sight";
    if (sinks_.size() < requests && (book_.empty() || random_.one_in(arrive_))) submit();
    if (random_.one_in(25) && !sinks_.empty()) book_.cancel(1 + random_.up_to(last_id()));
    if (random_.one_in(25) && !sinks_.empty())
      book_.finish_choice(1 + random_.up_to(last_id()), random_.up_to(2));
    bool moved = false;
    if (flights_.size() < depth_ && views_.any_runnable()) launch(moved);
    if (testing::Test::HasFatalFailure()) return;
    if (!flights_.empty() && (!moved || flights_.size() == depth_ || random_.one_in(3))) collect();
    check_bytes(leader_);
    if (random_.one_in(4)) follow(random_.up_to(2));
    if (testing::Test::HasFatalFailure()) return;
    book_.flush();
  }
  while (!flights_.empty()) collect();
  tell({});
  follow(messages_.size());
  check_rest();
}

StepBudget TableWorld::random_budget() {
  StepBudget b;
  b.tokens_max = random_.between(1, 40);
  b.sequences_max = random_.between(1, 8);
  b.prefill_chunk_max = random_.one_in(2) ? b.tokens_max : random_.between(1, 20);
  b.admission = random_.one_in(3) ? Admission::kReserve : Admission::kOptimistic;
  b.decode_first = !random_.one_in(5);
  b.chunk_align = random_.one_in(2) ? 1 : random_.between(1, 8);
  if (random_.one_in(3)) {
    b.row_cost = random_.up_to(3);
    b.logit_row_cost = random_.up_to(5);
    b.cost_max = random_.between(1, 80);
  }
  return b;
}

std::vector<uint32_t> TableWorld::random_totals() {
  std::vector<uint32_t> total;
  for (const SlotClass& c : layout_.classes) {
    const uint32_t peak = blocks_peak(c, kWorldTokensMax, chunk_max());
    total.push_back(peak + random_.up_to(random_.one_in(2) ? peak / 2 : 4 * peak));
  }
  return total;
}

const BlockCacheOptions& TableWorld::cache_options() {
  options_.prefix_caching = !random_.one_in(4);
  options_.granule = random_.between(2, 9);
  options_.ruler_keep = random_.between(1, 3);
  options_.nodes_max = random_.one_in(4) ? 10 : 1000;
  return options_;
}

Request TableWorld::random_request() {
  Request r;
  if (!old_.empty() && random_.one_in(2)) {
    r.prompt = old_[random_.up_to(static_cast<uint32_t>(old_.size()) - 1)];
    r.prompt.resize(random_.between(1, static_cast<uint32_t>(r.prompt.size())));
  }
  for (uint32_t n = random_.between(1, 12); n > 0 && r.prompt.size() < kWorldTokensMax - 1; --n)
    r.prompt.push_back(static_cast<int32_t>(random_.up_to(1)));
  if (r.prompt.size() >= kWorldTokensMax) r.prompt.pop_back();
  r.params.max_tokens = random_.between(1, 25);
  r.params.ignore_eos = random_.one_in(2);
  r.priority = static_cast<int32_t>(random_.up_to(3));
  r.cache_salt = random_.one_in(4) ? "salt" : "";
  if (random_.one_in(8)) r.prompt_logprobs = 0;
  r.score_only = random_.one_in(12);
  if (!r.score_only && random_.one_in(5)) r.choices = random_.between(2, 4);
  return r;
}

void TableWorld::submit() {
  SubmitCommand command;
  command.request = random_request();
  if (!can_ever_fit(layout_, total_, views_.peak(command.request, false)).ok())
    command.request.choices = 1;
  const auto sink = std::make_shared<EndsOnce>(command.request.choices);
  sinks_.push_back(sink);
  old_.push_back(command.request.prompt);
  command.id = sinks_.size();
  command.sink = sink;
  command.arrived_ms = now_ms_;
  const int32_t priority = command.request.priority;
  const SeqId seq = book_.admit(std::move(command));
  views_.add(seq, priority, now_ms_);
  ledger_.add(seq);
}

void TableWorld::apply(SequenceOp op) {
  if (op.kind == SequenceOp::Kind::kDrop) {
    views_.remove(op.seq);
    ledger_.remove(op.seq);
    busy_.erase(op.seq);
  }
  if (op.kind == SequenceOp::Kind::kPreempt) ledger_.preempted(op.seq, op.flag);
  leader_.table.apply(op, step_);
  if (op.kind == SequenceOp::Kind::kFork) {
    views_.add(op.child, book_.request_of(op.child)->priority, book_.arrived_ms(op.child));
    views_.set_scheduled(op.child);
    ledger_.add(op.child);
    ++counts_.forks;
  }
  ops_.push_back(std::move(op));
}

void TableWorld::launch(bool& moved) {
  StepBudget budget = budget_;
  const auto active = static_cast<uint32_t>(std::min<size_t>(views_.size(), budget.sequences_max));
  if (depth_ > 1) budget.runs_max = std::max(1u, (active + depth_ - 1) / depth_);
  OwnedView view = views_.build(leader_.table, leader_.cache, book_);
  if (unfair_) std::ranges::reverse(view.sequences);
  StepPlan plan = plan_step(view.view, budget);
  ++counts_.views;
  moved = !plan.runs.empty() || !plan.preempted.empty();
  ASSERT_TRUE(moved || !flights_.empty()) << "sequences wait, and nothing can be planned";
  if (!moved) return;
  ASSERT_TRUE(plan.preempted.empty() || budget.admission == Admission::kOptimistic);
  for (const SeqId seq : plan.preempted) {
    ASSERT_FALSE(busy_.contains(seq)) << "who yields is in flight";
    SequenceOp op;
    op.kind = SequenceOp::Kind::kPreempt;
    op.seq = seq;
    op.flag = random_.one_in(2);
    counts_.spills += op.flag;
    ++counts_.preemptions;
    apply(std::move(op));
  }
  check_budget(plan, budget);
  const std::string wronged = ledger_.step(plan.runs, busy_);
  ASSERT_TRUE(unfair_ || wronged.empty()) << wronged;
  counts_.wronged += !wronged.empty();
  if (plan.runs.empty()) return;
  const Status begun = leader_.table.begin(plan.runs, /*leads=*/true, step_);
  ASSERT_TRUE(begun.ok()) << begun.message();
  for (const StepPlan::Run& run : plan.runs) {
    if (views_.waits(run.seq) && book_.scheduled(run.seq, run.first)) counts_.hits += run.first;
    views_.set_scheduled(run.seq);
    views_.set_busy(run.seq, true);
    busy_.insert(run.seq);
  }
  tell(plan.runs);
  compute(leader_, plan.runs);
  flights_.push_back(make_up_result(plan.runs));
  ++step_;
}

void TableWorld::tell(const std::vector<StepPlan::Run>& runs) {
  StepMessage message;
  message.kind = runs.empty() ? StepMessage::Kind::kProbe : StepMessage::Kind::kStep;
  message.step = step_;
  message.ops.swap(ops_);
  message.runs = runs;
  message.digest = leader_.table.digest();
  messages_.push_back(write_step_message(message));
}

void TableWorld::compute(Tables& rank, const std::vector<StepPlan::Run>& runs) {
  std::vector<CellMemory::Run> written;
  for (const StepPlan::Run& run : runs)
    written.push_back(rank.memory.write_down(rank.table.at(run.seq), run));
  const std::span<const BlockCopy> copies = rank.table.commit(step_);
  for (const CellMemory::Run& run : written) ASSERT_EQ(rank.memory.compute(run), "");
  rank.memory.copy_blocks(copies);
}

void TableWorld::follow(size_t messages) {
  for (; messages > 0 && !messages_.empty(); --messages) {
    Result<StepMessage> read = read_step_message(messages_.front());
    messages_.pop_front();
    ASSERT_TRUE(read.ok()) << read.status().message();
    for (const SequenceOp& op : read->ops) follower_.table.apply(op, read->step);
    const Status begun = follower_.table.begin(read->runs, /*leads=*/false, read->step);
    ASSERT_TRUE(begun.ok()) << begun.message();
    ASSERT_EQ(follower_.table.digest(), read->digest) << "the ranks have come apart";
    if (read->runs.empty()) continue;
    const uint64_t leads = std::exchange(step_, read->step);
    compute(follower_, read->runs);
    step_ = leads;
    check_bytes(follower_);
  }
}

StepResult TableWorld::make_up_result(const std::vector<StepPlan::Run>& runs) {
  StepResult result;
  result.step = step_;
  for (const StepPlan::Run& run : runs) {
    counts_.rows += run.count;
    if (!run.wants_logits) continue;
    StepResult::Sampled s;
    s.seq = run.seq;
    s.tokens.resize(book_.forked(run.seq) ? 1 : book_.request_of(run.seq)->choices);
    for (SampledToken& t : s.tokens)
      t.token = random_.one_in(12) ? 2 : static_cast<int32_t>(random_.up_to(1));
    if (random_.one_in(500)) s.tokens.clear(), s.failure = data_loss("no token is allowed");
    counts_.failures += s.tokens.empty();
    result.sampled.push_back(std::move(s));
  }
  for (const StepPlan::Run& run : runs) in_flight_.push_back(run.seq);
  in_flight_.push_back(0);
  return result;
}

void TableWorld::collect() {
  const StepResult result = std::move(flights_.front());
  flights_.pop_front();
  for (; in_flight_.front() != 0; in_flight_.pop_front()) {
    views_.set_busy(in_flight_.front(), false);
    busy_.erase(in_flight_.front());
  }
  in_flight_.pop_front();
  book_.accept(result);
}

void TableWorld::check_budget(const StepPlan& plan, const StepBudget& budget) const {
  uint64_t rows = 0, cost = 0;
  std::set<SeqId> running;
  for (const StepPlan::Run& run : plan.runs) {
    const SequenceTable::Sequence& s = leader_.table.at(run.seq);
    ASSERT_TRUE(running.insert(run.seq).second && !busy_.contains(run.seq));
    ASSERT_TRUE(run.count > 0 && run.count <= budget.prefill_chunk_max);
    ASSERT_LE(run.first + run.count, s.tokens.size());
    ASSERT_EQ(run.wants_logits, run.first + run.count == s.tokens.size());
    rows += run.count;
    const uint32_t logits = s.scores_prompt ? run.count : uint32_t{run.wants_logits};
    cost += uint64_t{run.count} * budget.row_cost + uint64_t{logits} * budget.logit_row_cost;
  }
  ASSERT_LE(rows, budget.tokens_max);
  ASSERT_LE(running.size(), budget.runs_max > 0 ? budget.runs_max : budget.sequences_max);
  const uint64_t row = uint64_t{budget.row_cost} + budget.logit_row_cost;
  ASSERT_TRUE(budget.cost_max == 0 || cost <= std::max(budget.cost_max, row));
}

void TableWorld::check_bytes(const Tables& rank) const {
  uint64_t saved = 0;
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    const SlotClass& shape = layout_.classes[c];
    std::set<BlockId> live;
    for (const auto& [id, s] : rank.table.sequences()) {
      const std::vector<BlockId>& ids = s.blocks.table(c).ids;
      ASSERT_EQ(ids.size(), s.resident ? blocks_needed(shape, s.computed, s.computed) : 0)
          << "sequence " << id << " class " << c;
      live.insert(ids.begin(), ids.end());
      saved += c == 0 && s.saved;
    }
    const ClassUsage u = rank.cache.usage(c);
    ASSERT_EQ(uint64_t{u.live} * shape.block_bytes, live.size() * shape.block_bytes);
    ASSERT_EQ(u.free + u.live + u.cached, total_[c]) << "a block is lost";
  }
  ASSERT_EQ(rank.memory.saved().size(), saved) << "bytes in host memory are nobody's";
  rank.table.check();
}

void TableWorld::check_rest() {
  for (const auto& sink : sinks_) ASSERT_TRUE(sink->all_ended_once());
  const RequestCounts& n = book_.counts();
  counts_.cancels += n.finished_cancelled;
  counts_.evicted += leader_.cache.stats().blocks_evicted;
  counts_.waited += ledger_.waited();
  for (Tables* rank : {&leader_, &follower_}) {
    ASSERT_TRUE(rank->table.sequences().empty());
    ASSERT_TRUE(rank->memory.saved().empty());
    for (const ClassUsage& u : rank->cache.usage()) ASSERT_EQ(u.live, 0u);
    rank->cache.reset();
    for (const ClassUsage& u : rank->cache.usage()) ASSERT_EQ(u.free, u.total);
  }
}

}  // namespace trireme::test
