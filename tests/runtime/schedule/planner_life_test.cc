// Whole lives of random sequences, driven by the planner over pools of reference-counted blocks: to
// the end, with prefixes shared between sequences, forks, resume points, spills, cancels,
// priorities and up to three steps in flight.
//
//   arrive, cancel -> view -> plan_step -> take and share blocks -> in flight -> complete, fork,
//   end
//
// A plan that does not fit the pools, a block that is lost or counted twice, a step over budget, a
// resident that yields although its peak was reserved, or a step without progress fails.
#include <algorithm>
#include <deque>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/schedule/planner.h"
#include "runtime/schedule/priority.h"
#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {
namespace {

// The blocks of one class; each may have several holders.
class CountedPool {
 public:
  explicit CountedPool(uint32_t total) : holders_(total, 0), free_(total) {
    for (uint32_t i = 0; i < total; ++i) free_[i] = i;
  }
  bool take(uint32_t& id) {
    if (free_.empty()) return false;
    id = free_.back();
    free_.pop_back();
    holders_[id] = 1;
    return true;
  }
  void share(uint32_t id) { ++holders_[id]; }
  void release(uint32_t id) {
    CHECK(holders_[id] > 0);
    if (--holders_[id] == 0) free_.push_back(id);
  }
  uint32_t holders(uint32_t id) const { return holders_[id]; }
  uint32_t available() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t total() const { return static_cast<uint32_t>(holders_.size()); }

 private:
  std::vector<uint32_t> holders_, free_;
};

struct Life {
  uint32_t prompt = 0, output = 0;  // tokens; the last of the output is never computed
  uint32_t tokens = 0, computed = 0;
  int32_t priority = 0;
  uint64_t arrival = 0, arrived_ms = 0;
  uint32_t forks = 0;  // to be made when the prompt is computed
  size_t source = 0;   // whose tokens it shares up to `common`; itself: nobody's
  uint32_t common = 0;
  uint32_t logits_from = std::numeric_limits<uint32_t>::max(), stop = 0;
  bool resident = false, done = false, cancelled = false;
  uint32_t run_end = 0;  // of its run in flight; 0: none
  struct Table {
    std::vector<uint32_t> ids;
    uint32_t first = 0;
  };
  std::vector<Table> tables;  // by class
  std::vector<uint32_t> shared, peak;

  bool busy() const { return run_end > 0; }
};

struct Counts {
  uint64_t plans = 0, preemptions = 0, shared_blocks = 0, forks = 0, cancels = 0, spills = 0;
  uint64_t resumed = 0, busy_views = 0, handoffs = 0, stops = 0;
};

class World {
 public:
  World(uint64_t seed, Counts& counts) : random_(seed), counts_(counts) {
    layout_ = random_layout(random_);
    depth_ = random_.between(1, 3);
    counts_shared_ = !random_.one_in(4);
    aging_ms_ = random_.one_in(3) ? 0 : random_.between(1, 50);
    make_budget();
    make_lives();
  }

  void run() {
    uint64_t idle = 0;
    while (finished_ < lives_.size()) {
      ASSERT_LE(++now_, work_ * 12 + 3000) << "no end in sight";
      arrive();
      cancel_at_times();
      end_handoffs();
      bool moved = false;
      if (flights_.size() < depth_) {
        const StepPlan plan = make_plan();
        if (testing::Test::HasFatalFailure()) return;
        apply(plan);
        if (testing::Test::HasFatalFailure()) return;
        moved = !plan.runs.empty() || !plan.preempted.empty();
      }
      if (!flights_.empty() && (!moved || flights_.size() == depth_ || random_.one_in(3))) {
        complete();
        moved = true;
      }
      check_accounts();
      if (testing::Test::HasFatalFailure()) return;
      const bool may_idle = nobody_is_here() || awaits_handoff_anywhere();
      idle = moved || may_idle ? 0 : idle + 1;
      ASSERT_EQ(idle, 0u) << "there is work, and nothing moves";
    }
    while (!flights_.empty()) complete();
    for (const CountedPool& pool : pools_)
      ASSERT_EQ(pool.available(), pool.total()) << "blocks are live at rest";
  }

 private:
  // ---- what there is ----

  void make_budget() {
    budget_.tokens_max = random_.between(1, 40);
    budget_.sequences_max = random_.between(1, 8);
    budget_.prefill_chunk_max = random_.one_in(2) ? budget_.tokens_max : random_.between(1, 20);
    budget_.decode = !random_.one_in(5);
    budget_.admission = random_.one_in(2) ? Admission::kReserve : Admission::kOptimistic;
    budget_.decode_first = !random_.one_in(5);
    budget_.chunk_align = random_.one_in(2) ? 1 : random_.between(1, 8);
    if (random_.one_in(2)) return;
    budget_.row_cost = random_.up_to(3);
    budget_.logit_row_cost = random_.up_to(5);
    budget_.cost_max = random_.between(1, 80);
  }

  void make_lives() {
    const uint32_t count = random_.between(1, 24);
    for (uint32_t i = 0; i < count; ++i) {
      Life life;
      life.prompt = random_.between(1, 40);
      life.output = budget_.decode ? random_.between(1, 25) : 1;
      life.tokens = life.prompt;
      life.priority = static_cast<int32_t>(random_.up_to(3));
      life.forks = budget_.decode && random_.one_in(5) ? random_.between(1, 3) : 0;
      life.source = lives_.size();
      if (random_.one_in(4)) life.logits_from = random_.up_to(life.prompt);
      if (random_.one_in(4)) life.stop = random_.up_to(life.prompt);
      lives_.push_back(life);
    }
    requests_ = lives_.size();
    std::vector<uint32_t> most(layout_.classes.size(), 0);
    for (Life& life : lives_) {
      prepare(life);
      work_ += uint64_t{life.prompt + life.output} * (1 + life.forks);
      for (size_t c = 0; c < most.size(); ++c) most[c] = std::max(most[c], own_peak(life, c));
    }
    for (const uint32_t peak : most)
      pools_.emplace_back(peak + random_.up_to(peak * (random_.one_in(2) ? 1 : 4)));
    for (const CountedPool& pool : pools_) total_.push_back(pool.total());
  }

  void prepare(Life& life) const {
    life.tables.resize(layout_.classes.size());
    life.shared.assign(layout_.classes.size(), 0);
    life.peak.assign(layout_.classes.size(), 0);
  }

  uint32_t own_peak(const Life& life, size_t c) const {
    const uint32_t chunk = std::min(budget_.tokens_max, budget_.prefill_chunk_max);
    return blocks_peak(layout_.classes[c], life.prompt + life.output, chunk);
  }
  // With what its forks will add.
  uint32_t peak(const Life& life, size_t c) const {
    const SlotClass& shape = layout_.classes[c];
    const uint32_t own = own_peak(life, c);
    const bool shares = !is_fixed(c) && shape.window_tokens == 0;
    const uint32_t of_fork = own - (shares ? life.prompt / shape.block_tokens : 0);
    return std::min(own + life.forks * of_fork, total_[c]);
  }
  bool is_fixed(size_t c) const { return layout_.classes[c].growth == StateSpec::Growth::kFixed; }
  uint32_t work_end(const Life& life) const {
    return budget_.decode ? life.tokens : std::min(life.tokens, life.prompt);
  }
  bool awaits_handoff(const Life& life) const {
    return life.resident && !life.done && !life.busy() && life.computed >= work_end(life);
  }
  bool nobody_is_here() const { return finished_ == arrived_ + (lives_.size() - requests_); }
  bool awaits_handoff_anywhere() const {
    return std::any_of(lives_.begin(), lives_.end(),
                       [&](const Life& life) { return awaits_handoff(life); });
  }

  // ---- what happens to them ----

  void arrive() {
    if (arrived_ == requests_ || !(random_.one_in(3) || nobody_is_here())) return;
    Life& life = lives_[arrived_];
    life.arrival = arrived_;
    life.arrived_ms = now_;
    if (arrived_ > 0 && random_.one_in(2))
      hit_prefix(life, random_.up_to(static_cast<uint32_t>(arrived_ - 1)));
    ++arrived_;
  }

  // It begins like `other` and resumes where that one has got to, at a block's end. What `other`
  // has given back since counts as cached: it is there, and costs blocks.
  void hit_prefix(Life& life, size_t other) {
    const uint32_t unit = block_tokens();
    const uint32_t most = std::min({life.prompt - 1, lives_[other].computed, lives_[other].prompt});
    life.common = random_.up_to(most) / unit * unit;
    life.computed = life.common;
    life.source = other;
    counts_.resumed += life.common > 0;
  }
  uint32_t block_tokens() const {
    uint32_t most = 1;
    for (const SlotClass& c : layout_.classes) most = std::max(most, c.block_tokens);
    return most;
  }

  void cancel_at_times() {
    if (arrived_ == 0 || !counts_shared() || !random_.one_in(60)) return;
    Life& life = lives_[random_.up_to(static_cast<uint32_t>(arrived_ - 1))];
    if (life.done) return;
    ++counts_.cancels;
    life.cancelled = life.busy();  // its blocks come back when the step has ended
    finish(life);
  }

  void end_handoffs() {
    for (Life& life : lives_) {
      if (!awaits_handoff(life) || !random_.one_in(3)) continue;
      ++counts_.handoffs;
      finish(life);
    }
  }

  // Takes it out of the schedule; its blocks go back at once, or with the step that names them.
  void finish(Life& life) {
    life.done = true;
    ++finished_;
    if (!life.busy()) release(life);
  }
  void release(Life& life) {
    for (size_t c = 0; c < life.tables.size(); ++c) {
      for (const uint32_t id : life.tables[c].ids) pools_[c].release(id);
      life.tables[c] = {};
    }
    life.resident = false;
  }

  // ---- blocks ----

  uint32_t first_block(size_t c, uint32_t begin) const {
    const SlotClass& shape = layout_.classes[c];
    return is_fixed(c) ? 0 : first_readable(shape, begin) / shape.block_tokens;
  }
  uint32_t end_block(size_t c, uint32_t end) const {
    const uint32_t unit = layout_.classes[c].block_tokens;
    return is_fixed(c) ? 1 : (end + unit - 1) / unit;
  }
  // The block `number` of its source, where both have computed all of it alike; else null.
  const uint32_t* find_shared(const Life& life, size_t c, uint32_t number) const {
    const Life& source = lives_[life.source];
    if (&source == &life || is_fixed(c) || !source.resident) return nullptr;
    const uint32_t end = (number + 1) * layout_.classes[c].block_tokens;
    const Life::Table& table = source.tables[c];
    if (end > std::min({life.common, life.computed, source.computed})) return nullptr;
    if (number < table.first || number - table.first >= table.ids.size()) return nullptr;
    return &table.ids[number - table.first];
  }

  bool advance(Life& life, uint32_t begin, uint32_t end) {
    for (size_t c = 0; c < life.tables.size(); ++c) {
      Life::Table& t = life.tables[c];
      const uint32_t first = first_block(c, begin);
      if (t.ids.empty()) t.first = first;
      for (; t.first < first && !t.ids.empty(); ++t.first) {
        pools_[c].release(t.ids.front());
        t.ids.erase(t.ids.begin());
      }
      t.first = std::max(t.first, first);
      while (t.first + t.ids.size() < end_block(c, end)) {
        const auto number = static_cast<uint32_t>(t.first + t.ids.size());
        const uint32_t* held = life.resident ? nullptr : find_shared(life, c, number);
        uint32_t id = 0;
        if (held != nullptr) {
          id = *held;
          pools_[c].share(id);
          ++counts_.shared_blocks;
        } else if (!pools_[c].take(id)) {
          return false;
        }
        t.ids.push_back(id);
      }
    }
    return true;
  }

  // ---- a step ----

  // Reserving is sound without what residents share, as long as nobody is cancelled in flight.
  bool counts_shared() const {
    return counts_shared_ || budget_.admission == Admission::kOptimistic;
  }

  std::vector<size_t> order() const {
    std::vector<size_t> alive;
    std::vector<PriorityEntry> entries;
    for (size_t i = 0; i < lives_.size(); ++i) {
      const bool forked_or_arrived = i < arrived_ || i >= requests_;
      if (!forked_or_arrived || lives_[i].done) continue;
      alive.push_back(i);
      entries.push_back({lives_[i].priority, now_ - lives_[i].arrived_ms, lives_[i].arrival});
    }
    std::vector<size_t> order;
    for (const uint32_t index : order_by_priority(entries, aging_ms_))
      order.push_back(alive[index]);
    return order;
  }

  SeqView view_of(size_t i) {
    Life& life = lives_[i];
    for (size_t c = 0; c < life.tables.size(); ++c) {
      life.peak[c] = peak(life, c);
      life.shared[c] = 0;
      if (life.resident) {
        for (const uint32_t id : life.tables[c].ids) life.shared[c] += pools_[c].holders(id) > 1;
      } else {
        for (uint32_t b = first_block(c, life.computed); b < end_block(c, life.computed); ++b)
          life.shared[c] += find_shared(life, c, b) != nullptr;
      }
    }
    SeqView s;
    s.id = i;
    s.tokens = life.tokens;
    s.computed = life.busy() ? life.run_end : life.computed;
    s.resident = life.resident;
    s.prefill_tokens = life.prompt;
    s.busy = life.busy();
    if (life.resident && !counts_shared()) life.shared.assign(life.shared.size(), 0);
    s.shared = life.shared;
    s.peak = life.peak;
    s.logits_from = life.logits_from;
    s.stop = life.stop;
    counts_.busy_views += s.busy;
    return s;
  }

  StepPlan make_plan() {
    std::vector<SeqView> sequences;
    for (const size_t i : order()) sequences.push_back(view_of(i));
    std::vector<uint32_t> available;
    for (const CountedPool& pool : pools_) available.push_back(pool.available());
    const auto active =
        std::min<uint32_t>(static_cast<uint32_t>(sequences.size()), budget_.sequences_max);
    budget_.runs_max = depth_ == 1 ? 0 : std::max(1u, (active + depth_ - 1) / depth_);
    const PlannerView view{sequences, total_, &layout_, available};
    const StepPlan plan = plan_step(view, budget_);
    ++counts_.plans;
    check_budget(view, plan);
    return plan;
  }

  uint64_t logit_rows(const SeqView& s, const StepPlan::Run& run) const {
    uint64_t rows = 0;
    for (uint32_t p = run.first; p < run.first + run.count; ++p)
      rows += p >= s.logits_from || p + 1 == s.tokens;
    return rows;
  }

  void check_budget(const PlannerView& view, const StepPlan& plan) {
    uint64_t rows = 0, cost = 0;
    for (const StepPlan::Run& run : plan.runs) {
      const auto s = std::find_if(view.sequences.begin(), view.sequences.end(),
                                  [&](const SeqView& v) { return v.id == run.seq; });
      ASSERT_NE(s, view.sequences.end());
      ASSERT_FALSE(s->busy) << "a sequence in flight runs";
      const uint32_t end = run.first + run.count;
      const uint32_t work = work_end(lives_[run.seq]);
      ASSERT_EQ(run.first, s->computed);
      ASSERT_TRUE(run.count > 0 && end <= work && run.count <= budget_.prefill_chunk_max);
      ASSERT_TRUE(s->stop <= run.first || end <= s->stop) << "a run passes its stop";
      ASSERT_EQ(run.wants_logits, end == s->tokens);
      counts_.stops += end == s->stop;
      const bool cut = end < work && end != s->stop;
      const bool could_align = end / budget_.chunk_align * budget_.chunk_align > run.first;
      ASSERT_TRUE(!cut || !could_align || end % budget_.chunk_align == 0) << "a chunk is askew";
      rows += run.count;
      cost += run.count * uint64_t{budget_.row_cost} + logit_rows(*s, run) * budget_.logit_row_cost;
    }
    ASSERT_LE(rows, budget_.tokens_max);
    ASSERT_LE(plan.runs.size(), budget_.runs_max > 0 ? budget_.runs_max : budget_.sequences_max);
    if (budget_.cost_max > 0) {
      const uint64_t row = uint64_t{budget_.row_cost} + budget_.logit_row_cost;
      ASSERT_LE(cost, std::max(budget_.cost_max, row)) << "a step is too dear";
    }
    if (budget_.admission == Admission::kReserve) {
      ASSERT_TRUE(plan.preempted.empty()) << "a resident yields although its peak is reserved";
    }
  }

  void apply(const StepPlan& plan) {
    for (const SeqId id : plan.preempted) {
      Life& life = lives_[id];
      ASSERT_TRUE(life.resident && !life.busy()) << "who yields holds nothing, or is in flight";
      release(life);
      ++counts_.preemptions;
      const bool spills = random_.one_in(2);  // its bytes are kept: it resumes where it was
      counts_.spills += spills;
      if (!spills) life.computed = 0;
    }
    for (const StepPlan::Run& run : plan.runs) {
      Life& life = lives_[run.seq];
      ASSERT_TRUE(advance(life, run.first, run.first + run.count)) << "the plan does not fit";
      for (size_t c = 0; c < life.tables.size(); ++c)
        ASSERT_LE(life.tables[c].ids.size(), own_peak(life, c)) << "the test's peak is wrong";
      life.resident = true;
      life.run_end = run.first + run.count;
    }
    if (!plan.runs.empty()) flights_.push_back(plan.runs);
  }

  void complete() {
    const std::vector<StepPlan::Run> runs = std::move(flights_.front());
    flights_.pop_front();
    for (const StepPlan::Run& run : runs) {
      const size_t i = run.seq;
      lives_[i].run_end = 0;
      if (lives_[i].cancelled) {
        release(lives_[i]);
        continue;
      }
      lives_[i].computed = run.first + run.count;
      if (run.wants_logits) ++lives_[i].tokens;
      CHECK(advance(lives_[i], lives_[i].computed, lives_[i].computed));
      if (lives_[i].forks > 0 && lives_[i].computed >= lives_[i].prompt) fork(i);
      Life& life = lives_[i];
      if (budget_.decode && life.tokens >= life.prompt + life.output) finish(life);
    }
  }

  void fork(size_t parent) {
    for (; lives_[parent].forks > 0; --lives_[parent].forks) {
      const Life& p = lives_[parent];
      Life child;
      prepare(child);
      child.prompt = p.prompt;
      child.output = p.output;
      child.tokens = p.prompt + 1;
      child.computed = child.common = p.prompt;
      child.priority = p.priority;
      child.arrival = p.arrival;
      child.arrived_ms = p.arrived_ms;
      child.source = parent;
      if (child.tokens >= child.prompt + child.output) continue;  // one token, and that is known
      lives_.push_back(child);
      ++counts_.forks;
    }
  }

  // Every block is free, or held by as many as its count says.
  void check_accounts() const {
    for (size_t c = 0; c < pools_.size(); ++c) {
      std::vector<uint32_t> seen(pools_[c].total(), 0);
      for (const Life& life : lives_) {
        for (const uint32_t id : life.tables[c].ids) ++seen[id];
      }
      uint32_t free = 0;
      for (uint32_t id = 0; id < seen.size(); ++id) {
        ASSERT_EQ(seen[id], pools_[c].holders(id)) << "class " << c << " block " << id;
        free += seen[id] == 0;
      }
      ASSERT_EQ(free, pools_[c].available()) << "a block is lost";
    }
  }

  Random random_;
  Counts& counts_;
  CacheLayout layout_;
  StepBudget budget_;
  uint32_t depth_ = 1, aging_ms_ = 0;
  bool counts_shared_ = true;
  std::vector<Life> lives_;
  std::vector<CountedPool> pools_;
  std::vector<uint32_t> total_;
  std::deque<std::vector<StepPlan::Run>> flights_;
  size_t arrived_ = 0, finished_ = 0;
  size_t requests_ = 0;  // lives before the first fork
  uint64_t now_ = 0, work_ = 0;
};

TEST(PlannerLife, EverySequenceFinishes) {
  Counts counts;
  for (const uint64_t seed : seeds(3000)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    World world(seed, counts);
    world.run();
    if (HasFatalFailure()) return;
  }
  if (replays_one_seed()) return;
  // The lives are no monoculture.
  EXPECT_GT(counts.plans, 250000u);
  EXPECT_GT(counts.preemptions, 5000u);
  EXPECT_GT(counts.spills, 2000u);
  EXPECT_GT(counts.shared_blocks, 10000u);
  EXPECT_GT(counts.forks, 5000u);
  EXPECT_GT(counts.resumed, 5000u);
  EXPECT_GT(counts.cancels, 2000u);
  EXPECT_GT(counts.busy_views, 100000u);
  EXPECT_GT(counts.handoffs, 1000u);
  EXPECT_GT(counts.stops, 2000u);
}

}  // namespace
}  // namespace trireme::test
