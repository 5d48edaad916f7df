// Whole lives of requests as the engine leads them, without a model: the book, the view, the
// planner, the tables of a leader and of a follower over real pools and a real prefix cache, with
// preemption into host memory and without, forks, cancels, failures and up to three steps in
// flight.
//
//   submit, cancel -> book -> view -> plan_step -> preempt -> begin -> message -> commit -> cells
//   -> [follower: the same from the message's bytes] -> made-up tokens -> book
//
// Each view is one that came about by itself; each plan is held to its budget; after each, a model
// that knows positions only says how many blocks every sequence must hold, and every byte is free,
// live or cached, once. Rows read what was computed from their own tokens (cell_memory.h), nobody
// starves (fairness_ledger.h), every choice ends once. TRIREME_SEED=<seed> replays, TRIREME_TIMES=n
// runs n times as many seeds.
#include <deque>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/engine/view_builder.h"
#include "runtime/schedule/capacity.h"
#include "tests/runtime/engine/cell_memory.h"
#include "tests/runtime/engine/fairness_ledger.h"
#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {
namespace {

constexpr uint32_t kTokensMax = 48;

struct Counts {
  uint64_t views = 0, preemptions = 0, spills = 0, forks = 0, cancels = 0, failures = 0, hits = 0,
           evicted = 0, waited = 0, rows = 0, wronged = 0;
};

class EndsOnce final : public EventSink {
 public:
  explicit EndsOnce(uint32_t choices) : ends_(choices, 0) {}
  void on_events(std::span<const Event> events) override {
    for (const Event& e : events) {
      if (e.kind == Event::Kind::kToken) CHECK(ends_.at(e.choice) == 0) << "a token after the end";
      ends_.at(e.choice) += e.kind == Event::Kind::kFinished;
    }
  }
  bool all_ended_once() const {
    return std::all_of(ends_.begin(), ends_.end(), [](uint32_t n) { return n == 1; });
  }

 private:
  std::vector<uint32_t> ends_;
};

struct Tables {
  BlockCache cache;
  CellMemory memory;
  SequenceTable table;
  Tables(const CacheLayout& layout, std::span<const uint32_t> total, const BlockCacheOptions& o)
      : cache(layout, total, o), memory(layout, total), table(layout, cache, memory) {}
};

class World {
 public:
  // `unfair`: the planner is shown the latest first.
  World(uint64_t seed, Counts& counts, bool unfair = false)
      : unfair_(unfair),
        random_(seed),
        counts_(counts),
        layout_(random_layout(random_)),
        budget_(random_budget()),
        aging_ms_(random_.up_to(30)),
        total_(random_totals()),
        leader_(layout_, total_, cache_options()),
        follower_(layout_, total_, options_),
        book_({kTokensMax, {2}}, [this](SequenceOp op) { apply(std::move(op)); }),
        views_(layout_, {kTokensMax, chunk_max(), random_.between(1, 8), aging_ms_, true}),
        ledger_(book_, leader_.table, kTokensMax, aging_ms_),
        depth_(random_.between(1, 3)),
        arrive_(random_.between(1, 4)) {}

  void run() {
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
      if (!flights_.empty() && (!moved || flights_.size() == depth_ || random_.one_in(3)))
        collect();
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

 private:
  // ---- what there is ----

  uint32_t chunk_max() const { return std::min(budget_.tokens_max, budget_.prefill_chunk_max); }
  uint32_t last_id() const { return static_cast<uint32_t>(sinks_.size()); }

  StepBudget random_budget() {
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
  std::vector<uint32_t> random_totals() {
    std::vector<uint32_t> total;
    for (const SlotClass& c : layout_.classes) {
      const uint32_t peak = blocks_peak(c, kTokensMax, chunk_max());
      total.push_back(peak + random_.up_to(random_.one_in(2) ? peak / 2 : 4 * peak));
    }
    return total;
  }
  const BlockCacheOptions& cache_options() {
    options_.prefix_caching = !random_.one_in(4);
    options_.granule = random_.between(2, 9);
    options_.ruler_keep = random_.between(1, 3);
    options_.nodes_max = random_.one_in(4) ? 10 : 1000;
    return options_;
  }

  Request random_request() {
    Request r;
    if (!old_.empty() && random_.one_in(2)) {
      r.prompt = old_[random_.up_to(static_cast<uint32_t>(old_.size()) - 1)];
      r.prompt.resize(random_.between(1, static_cast<uint32_t>(r.prompt.size())));
    }
    for (uint32_t n = random_.between(1, 12); n > 0 && r.prompt.size() < kTokensMax - 1; --n)
      r.prompt.push_back(static_cast<int32_t>(random_.up_to(1)));
    if (r.prompt.size() >= kTokensMax) r.prompt.pop_back();
    r.params.max_tokens = random_.between(1, 25);
    r.params.ignore_eos = random_.one_in(2);
    r.priority = static_cast<int32_t>(random_.up_to(3));
    r.cache_salt = random_.one_in(4) ? "salt" : "";
    if (random_.one_in(8)) r.prompt_logprobs = 0;
    r.score_only = random_.one_in(12);
    if (!r.score_only && random_.one_in(5)) r.choices = random_.between(2, 4);
    return r;
  }

  // ---- the engine's loop ----

  void submit() {
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

  void apply(SequenceOp op) {
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

  void launch(bool& moved) {
    StepBudget budget = budget_;
    const auto active =
        static_cast<uint32_t>(std::min<size_t>(views_.size(), budget.sequences_max));
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

  void tell(const std::vector<StepPlan::Run>& runs) {
    StepMessage message;
    message.kind = runs.empty() ? StepMessage::Kind::kProbe : StepMessage::Kind::kStep;
    message.step = step_;
    message.ops.swap(ops_);
    message.runs = runs;
    message.digest = leader_.table.digest();
    messages_.push_back(write_step_message(message));
  }

  void compute(Tables& rank, const std::vector<StepPlan::Run>& runs) {
    std::vector<CellMemory::Run> written;
    for (const StepPlan::Run& run : runs)
      written.push_back(rank.memory.write_down(rank.table.at(run.seq), run));
    const std::span<const BlockCopy> copies = rank.table.commit(step_);
    for (const CellMemory::Run& run : written) ASSERT_EQ(rank.memory.compute(run), "");
    rank.memory.copy_blocks(copies);
  }

  // The follower does what it was told, some time later.
  void follow(size_t messages) {
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

  StepResult make_up_result(const std::vector<StepPlan::Run>& runs) {
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

  void collect() {
    const StepResult result = std::move(flights_.front());
    flights_.pop_front();
    for (; in_flight_.front() != 0; in_flight_.pop_front()) {
      views_.set_busy(in_flight_.front(), false);
      busy_.erase(in_flight_.front());
    }
    in_flight_.pop_front();
    book_.accept(result);
  }

  // ---- what must hold ----

  void check_budget(const StepPlan& plan, const StepBudget& budget) const {
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

  // By positions alone: what each sequence holds; by ids: which blocks that makes, each once.
  void check_bytes(const Tables& rank) const {
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

  void check_rest() {
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

  const bool unfair_;
  Random random_;
  Counts& counts_;
  const CacheLayout layout_;
  const StepBudget budget_;
  const uint32_t aging_ms_;
  const std::vector<uint32_t> total_;
  BlockCacheOptions options_;
  Tables leader_, follower_;
  RequestBook book_;
  ViewBuilder views_;
  FairnessLedger ledger_;
  const uint32_t depth_, arrive_;  // steps in flight; a request comes in one of so many rounds
  std::vector<std::shared_ptr<EndsOnce>> sinks_;  // by request
  std::vector<std::vector<int32_t>> old_;         // prompts
  std::set<SeqId> busy_;
  std::deque<SeqId> in_flight_;  // of each step, with a 0 after its last
  std::deque<StepResult> flights_;
  std::vector<SequenceOp> ops_;
  std::deque<std::vector<std::byte>> messages_;
  uint64_t step_ = 1, now_ms_ = 0;
};

TEST(TableLife, NothingIsLostAndNobodyStarves) {
  Counts n;
  for (const uint64_t seed : seeds(2500)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    World world(seed, n);
    world.run();
    if (HasFatalFailure()) return;
  }
  fmt::print("{} views, {} rows, {} preemptions ({} spills), {} forks, {} cancelled, {} failures\n",
             n.views, n.rows, n.preemptions, n.spills, n.forks, n.cancels, n.failures);
  fmt::print("{} cached tokens, {} blocks evicted, {} steps waited\n", n.hits, n.evicted, n.waited);
  if (replays_one_seed()) return;
  // The lives are no monoculture.
  EXPECT_GT(n.views, 200000u);
  EXPECT_GT(n.preemptions, 2000u);
  EXPECT_GT(n.spills, 1000u);
  EXPECT_GT(n.forks, 4000u);
  EXPECT_GT(n.cancels, 4000u);
  EXPECT_GT(n.failures, 100u);
  EXPECT_GT(n.hits, 5000u);
  EXPECT_GT(n.evicted, 50000u);
}

// The ledger finds whom it should find.
TEST(TableLife, APlannerThatServesTheLatestFirstIsFoundOut) {
  Counts n;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world(seed, n, /*unfair=*/true);
    world.run();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(n.wronged, 20u);
}

}  // namespace
}  // namespace trireme::test
