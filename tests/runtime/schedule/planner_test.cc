// The planner against its header: 150,000 random views, each plan checked rule by rule with block
// counts found position by position; then whole lives of random sequences over real block pools, to
// the end, where a plan that does not fit, or a step without progress, fails.
#include "runtime/schedule/planner.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/cache/sequence_blocks.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint32_t up_to(uint32_t max) { return static_cast<uint32_t>(engine_() % (uint64_t{max} + 1)); }
  uint32_t between(uint32_t min, uint32_t max) { return min + up_to(max - min); }
  bool one_in(uint32_t n) { return up_to(n - 1) == 0; }

 private:
  std::mt19937_64 engine_;
};

CacheLayout random_layout(Random& random) {
  const uint32_t block_tokens = random.between(1, 6);
  std::vector<StateSpec> specs;
  if (!random.one_in(4)) specs.push_back({Growth::kPerToken, 16, 0});
  if (random.one_in(2)) specs.push_back({Growth::kPerToken, 16, random.between(1, 14)});
  if (random.one_in(3)) specs.push_back({Growth::kFixed, 64, 0});
  if (specs.empty()) specs.push_back({Growth::kFixed, 64, 0});
  return make_layout(specs, block_tokens);
}

// blocks_needed as its comment says it, by looking at every position.
uint32_t blocks_by_position(const SlotClass& c, uint32_t begin, uint32_t end) {
  if (c.growth == Growth::kFixed) return 1;
  std::set<uint32_t> blocks;
  for (uint32_t p = 0; p < end; ++p) {
    // Rows from `begin` on read (row - window, row]; the first of them reads furthest back.
    const bool readable = c.window_tokens == 0 || p + c.window_tokens > begin;
    if (readable) blocks.insert(p / c.block_tokens);
  }
  // The block that the row `begin` continues stays, even where a window of one reads nothing in it.
  if (begin % c.block_tokens != 0) blocks.insert(begin / c.block_tokens);
  return static_cast<uint32_t>(blocks.size());
}

struct Case {
  CacheLayout layout;
  std::vector<uint32_t> total;
  std::vector<SeqView> sequences;
  StepBudget budget;
  bool pools_shrank = false;  // residents hold more than there is

  PlannerView view() const { return {sequences, total, &layout}; }
  uint32_t chunk_max() const { return std::min(budget.tokens_max, budget.prefill_chunk_max); }
  uint32_t work_end(const SeqView& s) const {
    return budget.decode ? s.tokens : std::min(s.tokens, s.prefill_tokens);
  }
  bool has_work(const SeqView& s) const { return s.computed < work_end(s); }
};

StepBudget random_budget(Random& random) {
  StepBudget budget;
  budget.tokens_max = random.between(1, 40);
  budget.sequences_max = random.between(1, 8);
  budget.prefill_chunk_max = random.one_in(2) ? budget.tokens_max : random.between(1, 20);
  budget.decode = !random.one_in(4);
  budget.admission = Admission::kOptimistic;
  budget.decode_first = false;
  return budget;
}

Case random_case(Random& random) {
  Case c;
  c.layout = random_layout(random);
  c.budget = random_budget(random);
  const uint32_t count = random.up_to(10);
  for (uint32_t i = 0; i < count; ++i) {
    SeqView s;
    s.id = 100 + i * 7;
    s.tokens = random.between(1, 50);
    s.prefill_tokens = c.budget.decode ? random.between(1, s.tokens)
                                       : std::max<uint32_t>(s.tokens - random.up_to(1), 1);
    s.resident = random.one_in(2);
    if (s.resident) s.computed = random.up_to(s.tokens - 1);
    if (!s.resident && s.computed >= c.work_end(s)) s.computed = 0;
    c.sequences.push_back(s);
  }
  for (const SlotClass& shape : c.layout.classes) {
    uint32_t held = 0, peak = 0;
    for (const SeqView& s : c.sequences) {
      if (s.resident) held += blocks_by_position(shape, s.computed, s.computed);
      peak = std::max(peak, blocks_peak(shape, s.tokens, c.chunk_max()));
    }
    c.total.push_back(std::max(held, peak) + random.up_to(random.one_in(2) ? 2 : 20));
  }
  return c;
}

// What is wrong with the plan; "" where nothing is.
std::string find_fault(const Case& c, const StepPlan& plan) {
  std::map<SeqId, size_t> index;
  for (size_t i = 0; i < c.sequences.size(); ++i) index[c.sequences[i].id] = i;
  std::map<SeqId, const StepPlan::Run*> runs;
  uint64_t tokens = 0;
  for (const StepPlan::Run& run : plan.runs) {
    if (!index.contains(run.seq)) return fmt::format("run of unknown sequence {}", run.seq);
    const SeqView& s = c.sequences[index[run.seq]];
    if (!runs.emplace(run.seq, &run).second) return fmt::format("sequence {} runs twice", run.seq);
    if (run.first != s.computed || run.count == 0) return "a run does not go on where it should";
    if (run.first + run.count > c.work_end(s)) return "a run goes too far";
    if (run.count > c.budget.prefill_chunk_max) return "a run is longer than a chunk";
    if (run.wants_logits != (run.first + run.count == s.tokens)) return "wants_logits is wrong";
    tokens += run.count;
  }
  if (tokens > c.budget.tokens_max) return "too many tokens";
  if (runs.size() > c.budget.sequences_max) return "too many sequences";

  std::set<SeqId> preempted;
  for (const SeqId id : plan.preempted) {
    if (!index.contains(id)) return "preempts an unknown sequence";
    const SeqView& s = c.sequences[index[id]];
    if (!s.resident) return "preempts a newcomer";
    if (runs.contains(id)) return "preempts a sequence that runs";
    if (!preempted.insert(id).second) return "preempts a sequence twice";
    if (!c.has_work(s) && !c.pools_shrank) return "preempts a sequence that awaits its handoff";
  }
  for (size_t k = 0; k < c.total.size(); ++k) {
    uint64_t held = 0;
    for (const SeqView& s : c.sequences) {
      const auto run = runs.find(s.id);
      const uint32_t end = run == runs.end() ? s.computed : run->second->first + run->second->count;
      if (run != runs.end() || (s.resident && !preempted.contains(s.id)))
        held += blocks_by_position(c.layout.classes[k], s.computed, end);
    }
    if (held > c.total[k]) return fmt::format("class {}: {} blocks of {}", k, held, c.total[k]);
  }

  const bool exhausted = tokens == c.budget.tokens_max || runs.size() == c.budget.sequences_max;
  // Order: residents, then newcomers, each as in the view.
  std::vector<std::pair<bool, size_t>> order;
  for (const StepPlan::Run& run : plan.runs)
    order.emplace_back(!c.sequences[index[run.seq]].resident, index[run.seq]);
  if (!std::is_sorted(order.begin(), order.end())) return "runs are out of order";
  bool waits = false;  // a resident that has work and turn does nothing
  bool newcomer_left = false;
  for (const SeqView& s : c.sequences) {
    if (!c.has_work(s) || preempted.contains(s.id)) continue;
    const bool ran = runs.contains(s.id);
    if (s.resident) {
      if (ran && waits) return "a resident overtakes another that waits";
      waits |= !ran;
    } else {
      if (ran && newcomer_left) return "a newcomer overtakes another";
      if (ran && !preempted.empty()) return "a newcomer runs while residents yield";
      newcomer_left |= !ran;
    }
  }
  const bool newcomers_ran = !order.empty() && order.back().first;
  if (newcomers_ran && waits) return "a newcomer runs while a resident waits";
  if (!c.pools_shrank) {
    for (const SeqId id : preempted) {
      for (const auto& [seq, run] : runs) {
        if (c.sequences[index[seq]].resident && index[seq] > index[id])
          return "a resident yields to a later one";
      }
    }
  }
  // Nobody idles without a reason: a waiting resident has nobody left that could yield.
  if (waits && !exhausted) {
    size_t waiting = 0;
    for (const SeqView& s : c.sequences)
      waiting += s.resident && c.has_work(s) && !preempted.contains(s.id) && !runs.contains(s.id);
    if (waiting != 1) return "several residents wait, so one could have yielded";
  }
  bool work = false, awaits = false;
  for (const SeqView& s : c.sequences) {
    work |= c.has_work(s);
    awaits |= !c.has_work(s);
  }
  if (work && !awaits && !c.pools_shrank && plan.runs.empty()) return "nothing runs";
  return "";
}

TEST(Planner, KeepsEveryRuleOnRandomViews) {
  size_t with_runs = 0, with_preemption = 0, with_newcomers = 0, prefill_only = 0;
  for (uint64_t seed = 1; seed <= 150000; ++seed) {
    Random random(seed);
    const Case c = random_case(random);
    const StepPlan plan = plan_step(c.view(), c.budget);
    ASSERT_EQ(find_fault(c, plan), "") << "seed " << seed;
    ASSERT_EQ(plan, plan_step(c.view(), c.budget)) << "not a function; seed " << seed;
    with_runs += !plan.runs.empty();
    with_preemption += !plan.preempted.empty();
    prefill_only += !c.budget.decode && !plan.runs.empty();
    for (const SeqView& s : c.sequences) {
      if (!s.resident && !plan.runs.empty() && plan.runs.back().seq == s.id) ++with_newcomers;
    }
  }
  // The views are no monoculture.
  EXPECT_GT(with_runs, 100000u);
  EXPECT_GT(with_preemption, 5000u);
  EXPECT_GT(with_newcomers, 20000u);
  EXPECT_GT(prefill_only, 15000u);
}

// The checker above finds what it should find.
TEST(Planner, FaultsAreFound) {
  Case c;
  c.layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  c.total = {4};
  c.sequences = {{1, 9, 8, true, 8}, {2, 9, 4, true, 8}, {3, 5, 0, false, 5}, {4, 3, 0, false, 3}};
  c.budget = {16, 4, 8, true, Admission::kOptimistic, false};
  const StepPlan good = plan_step(c.view(), c.budget);
  EXPECT_EQ(find_fault(c, good), "");
  const auto run = [](SeqId id, uint32_t first, uint32_t count, bool wants) {
    return StepPlan::Run{id, first, count, wants};
  };
  EXPECT_NE(find_fault(c, {{run(1, 8, 1, true), run(2, 4, 5, true)}, {}}), "") << "over-committed";
  EXPECT_NE(find_fault(c, {{run(2, 4, 5, true)}, {1}}), "") << "yields to a later one";
  EXPECT_NE(find_fault(c, {{run(1, 8, 1, false)}, {}}), "") << "wants_logits";
  EXPECT_NE(find_fault(c, {{run(1, 7, 2, true)}, {}}), "") << "computes twice";
  EXPECT_NE(find_fault(c, {{}, {}}), "") << "nothing runs";
  c.sequences[1].resident = false;
  EXPECT_NE(find_fault(c, {{run(1, 8, 1, true), run(4, 0, 3, true)}, {}}), "") << "overtakes";
}

TEST(Planner, LatestResidentYields) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  const uint32_t total[] = {4};
  const SeqView views[] = {{7, 9, 8, true, 8}, {8, 5, 4, true, 4}, {9, 4, 3, true, 3}};
  const StepPlan plan =
      plan_step({views, total, &layout}, {64, 8, 64, true, Admission::kOptimistic, false});
  EXPECT_EQ(plan.preempted, std::vector<SeqId>{9});
  ASSERT_EQ(plan.runs.size(), 1u);  // 8 waits: 7 took the block that 9 gave
  EXPECT_EQ(plan.runs[0], (StepPlan::Run{7, 8, 1, true}));
}

// A prompt whose last token is left over by chunking is not finished, although one token is left.
TEST(Planner, PrefillOnlyWorkerComputesTheWholePrompt) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  const uint32_t total[] = {100};
  const SeqView left_over[] = {{1, 33, 32, true, 33}};
  const StepPlan plan =
      plan_step({left_over, total, &layout}, {64, 8, 32, false, Admission::kOptimistic, false});
  ASSERT_EQ(plan.runs.size(), 1u);
  EXPECT_EQ(plan.runs[0], (StepPlan::Run{1, 32, 1, true}));
  const SeqView sampled[] = {{1, 34, 33, true, 33}};
  EXPECT_TRUE(
      plan_step({sampled, total, &layout}, {64, 8, 32, false, Admission::kOptimistic, false})
          .runs.empty());
  // Preempted after its first token was sampled: the prompt again, and no second first token.
  const SeqView again[] = {{1, 34, 0, false, 33}};
  const StepPlan redo =
      plan_step({again, total, &layout}, {64, 8, 64, false, Admission::kOptimistic, false});
  ASSERT_EQ(redo.runs.size(), 1u);
  EXPECT_EQ(redo.runs[0], (StepPlan::Run{1, 0, 33, false}));
}

TEST(Planner, NewcomersWaitWhileAResidentWaits) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  const uint32_t total[] = {4};
  // 1 awaits its handoff with three blocks, 2 needs two more than the one that is free.
  const SeqView views[] = {{1, 13, 12, true, 12}, {2, 12, 0, true, 12}, {3, 2, 0, false, 2}};
  const StepPlan plan =
      plan_step({views, total, &layout}, {64, 8, 64, false, Admission::kOptimistic, false});
  EXPECT_TRUE(plan.runs.empty());
  EXPECT_TRUE(plan.preempted.empty());
}

// ---- whole lives ----

struct Life {
  uint32_t prompt = 0, output = 0;  // tokens
  uint32_t tokens = 0, computed = 0;
  bool resident = false, done = false, arrived = false;
  std::unique_ptr<SequenceBlocks> blocks;
};

TEST(Planner, EverySequenceFinishes) {
  uint64_t preemptions = 0, steps = 0;
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const CacheLayout layout = random_layout(random);
    const StepBudget budget = random_budget(random);
    std::vector<Life> lives(random.between(1, 30));
    uint32_t longest = 0;
    uint64_t work = 0;
    for (Life& life : lives) {
      life.prompt = random.between(1, 40);
      life.output = budget.decode ? random.between(1, 25) : 1;
      life.tokens = life.prompt;
      life.blocks = std::make_unique<SequenceBlocks>(layout);
      longest = std::max(longest, life.prompt + life.output);
      work += life.prompt + life.output;
    }
    std::vector<BlockPool> pools;
    std::vector<uint32_t> total;
    for (const SlotClass& c : layout.classes) {
      const uint32_t peak =
          blocks_peak(c, longest, std::min(budget.tokens_max, budget.prefill_chunk_max));
      total.push_back(peak + random.up_to(peak * 2));
      pools.emplace_back(total.back());
    }
    size_t arrived = 0, finished = 0;
    uint64_t idle = 0;
    for (uint64_t step = 0; finished < lives.size(); ++step) {
      ASSERT_LE(step, work * 4 + 1000) << "no end in sight";
      if (arrived < lives.size() && (random.one_in(3) || arrived == finished))
        lives[arrived++].arrived = true;
      std::vector<SeqView> views;
      for (size_t i = 0; i < arrived; ++i) {
        const Life& l = lives[i];
        if (!l.done) views.push_back({i, l.tokens, l.computed, l.resident, l.prompt});
      }
      const StepPlan plan = plan_step({views, total, &layout}, budget);
      for (const SeqId id : plan.preempted) {
        Life& l = lives[id];
        l.blocks->release(pools);
        l.resident = false;
        l.computed = 0;
        ++preemptions;
      }
      for (const StepPlan::Run& run : plan.runs) {
        ASSERT_TRUE(lives[run.seq].blocks->advance(pools, run.first, run.first + run.count))
            << "the plan does not fit the pools";
        lives[run.seq].resident = true;
      }
      uint32_t participants = 0;
      for (const StepPlan::Run& run : plan.runs) {
        Life& l = lives[run.seq];
        l.computed = run.first + run.count;
        if (run.wants_logits) ++l.tokens;
        if (budget.decode && l.tokens == l.prompt + l.output) {
          l.done = true;
          ++finished;
          l.blocks->release(pools);
          l.resident = false;
        } else {
          ASSERT_TRUE(l.blocks->advance(pools, l.computed, l.computed));
        }
      }
      for (Life& l : lives) {  // handoffs end when they end
        participants += l.resident && (budget.decode || l.computed < l.prompt);
        if (budget.decode || !l.resident || l.computed < l.prompt || !random.one_in(3)) continue;
        l.done = true;
        ++finished;
        l.blocks->release(pools);
        l.resident = false;
      }
      ASSERT_LE(participants, budget.sequences_max);
      idle = plan.runs.empty() ? idle + 1 : 0;
      ASSERT_LE(idle, budget.decode ? 1u : 200u) << "nothing runs";
      ++steps;
    }
    for (const BlockPool& pool : pools) ASSERT_EQ(pool.live_count(), 0u) << "blocks leaked";
  }
  EXPECT_GT(preemptions, 5000u) << "the pools were not tight";
  EXPECT_GT(steps, 100000u);
}

TEST(PlannerDeathTest, RefusesBrokenPromises) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  const uint32_t total[] = {4};
  const SeqView views[] = {{1, 5, 0, false, 5}};
  EXPECT_DEATH(plan_step({views, total, &layout}, {8, 8, 0, true, Admission::kOptimistic, false}),
               "prefill_chunk_max");
  const SeqView computed[] = {{1, 5, 5, true, 5}};
  EXPECT_TRUE(plan_step({computed, total, &layout}, {8, 8, 8, true, Admission::kOptimistic, false})
                  .runs.empty());
}

}  // namespace
}  // namespace trireme
