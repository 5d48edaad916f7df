// The planner against its header: 150,000 random views, each plan checked rule by rule with block
// counts found position by position; then each rule by an example. planner_life_test.cc lets
// sequences live to their ends.
#include "runtime/schedule/planner.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/runtime/schedule/random_work.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

using test::Random;
using test::random_layout;

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

  PlannerView view() const { return {sequences, total, &layout}; }
  uint32_t chunk_max() const { return std::min(budget.tokens_max, budget.prefill_chunk_max); }
  uint32_t work_end(const SeqView& s) const {
    return budget.decode ? s.tokens : std::min(s.tokens, s.prefill_tokens);
  }
  bool has_work(const SeqView& s) const { return s.computed < work_end(s) && !s.busy; }
  // 0: a decode row, 1: another resident, 2: a newcomer.
  int group(const SeqView& s) const {
    if (!s.resident) return 2;
    const bool decodes = s.computed >= s.prefill_tokens && s.computed + 1 == s.tokens;
    return budget.decode_first && decodes ? 0 : 1;
  }
};

StepBudget random_budget(Random& random) {
  StepBudget budget;
  budget.tokens_max = random.between(1, 40);
  budget.sequences_max = random.between(1, 8);
  budget.prefill_chunk_max = random.one_in(2) ? budget.tokens_max : random.between(1, 20);
  budget.decode = !random.one_in(4);
  budget.admission = Admission::kOptimistic;
  budget.decode_first = random.one_in(2);
  if (random.one_in(3)) budget.runs_max = random.between(1, budget.sequences_max);
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
    if (s.resident && random.one_in(2)) {  // its next row is a decode row
      s.computed = s.tokens - 1;
      s.prefill_tokens = std::min(s.prefill_tokens, std::max(s.computed, 1u));
    }
    if (!s.resident && s.computed >= c.work_end(s)) s.computed = 0;
    s.busy = random.one_in(6);
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
    if (s.busy) return "a busy sequence runs";
    if (run.first != s.computed || run.count == 0) return "a run does not go on where it should";
    if (run.first + run.count > c.work_end(s)) return "a run goes too far";
    if (run.count > c.budget.prefill_chunk_max) return "a run is longer than a chunk";
    if (run.wants_logits != (run.first + run.count == s.tokens)) return "wants_logits is wrong";
    tokens += run.count;
  }
  if (tokens > c.budget.tokens_max) return "too many tokens";
  const size_t runs_max = c.budget.runs_max > 0 ? c.budget.runs_max : c.budget.sequences_max;
  if (runs.size() > runs_max) return "too many sequences";

  std::set<SeqId> preempted;
  for (const SeqId id : plan.preempted) {
    if (!index.contains(id)) return "preempts an unknown sequence";
    const SeqView& s = c.sequences[index[id]];
    if (!s.resident) return "preempts a newcomer";
    if (runs.contains(id)) return "preempts a sequence that runs";
    if (!preempted.insert(id).second) return "preempts a sequence twice";
    if (s.busy) return "preempts a busy sequence";
    if (!c.has_work(s)) return "preempts a sequence that awaits its handoff";
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

  const bool exhausted = tokens == c.budget.tokens_max || runs.size() == runs_max;
  // Order: decode rows, other residents, newcomers, each as in the view.
  std::vector<std::pair<int, size_t>> order;
  for (const StepPlan::Run& run : plan.runs)
    order.emplace_back(c.group(c.sequences[index[run.seq]]), index[run.seq]);
  if (!std::is_sorted(order.begin(), order.end())) return "runs are out of order";
  bool waits = false;  // a resident that has work and turn does nothing
  size_t waits_of_group[2] = {0, 0};
  bool newcomer_left = false;
  for (const SeqView& s : c.sequences) {
    if (!c.has_work(s) || preempted.contains(s.id)) continue;
    const bool ran = runs.contains(s.id);
    if (s.resident) {
      size_t& waiting = waits_of_group[c.group(s)];
      if (ran && waiting > 0) return "a resident overtakes another that waits";
      waiting += !ran;
      waits |= !ran;
    } else {
      if (ran && newcomer_left) return "a newcomer overtakes another";
      if (ran && !preempted.empty()) return "a newcomer runs while residents yield";
      newcomer_left |= !ran;
    }
  }
  const bool newcomers_ran = !order.empty() && order.back().first == 2;
  const bool others_ran = !order.empty() && order.back().first > 0;
  if (others_ran && waits_of_group[0] > 1) return "a prompt runs while decode rows have no turn";
  if (newcomers_ran && waits) return "a newcomer runs while a resident waits";
  for (const SeqId id : preempted) {
    for (const auto& [seq, run] : runs) {
      if (c.sequences[index[seq]].resident && index[seq] > index[id])
        return "a resident yields to a later one";
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
  if (work && !awaits && plan.runs.empty()) return "nothing runs";
  return "";
}

TEST(Planner, KeepsEveryRuleOnRandomViews) {
  size_t with_runs = 0, with_preemption = 0, with_newcomers = 0, prefill_only = 0;
  for (const uint64_t seed : test::seeds(150000)) {
    Random random(seed);
    const Case c = random_case(random);
    const StepPlan plan = plan_step(c.view(), c.budget);
    ASSERT_EQ(find_fault(c, plan), "") << "replay with TRIREME_SEED=" << seed;
    ASSERT_EQ(plan, plan_step(c.view(), c.budget)) << "not a function; seed " << seed;
    with_runs += !plan.runs.empty();
    with_preemption += !plan.preempted.empty();
    prefill_only += !c.budget.decode && !plan.runs.empty();
    for (const SeqView& s : c.sequences) {
      if (!s.resident && !plan.runs.empty() && plan.runs.back().seq == s.id) ++with_newcomers;
    }
  }
  if (test::replays_one_seed()) return;
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

// ---- rule by rule ----

// Blocks of four tokens that are kept to the end.
const CacheLayout& full_layout() {
  static const CacheLayout layout =
      make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  return layout;
}

StepPlan plan_full(std::vector<SeqView> sequences, uint32_t available, const StepBudget& budget) {
  const std::vector<uint32_t> blocks = {available};
  return plan_step({sequences, blocks, &full_layout(), blocks}, budget);
}

SeqView seq(SeqId id, uint32_t tokens, uint32_t computed, bool resident, uint32_t prompt) {
  return {id, tokens, computed, resident, prompt};
}

StepBudget optimistic(uint32_t tokens_max, uint32_t sequences_max, uint32_t chunk_max) {
  return {tokens_max, sequences_max, chunk_max, true, Admission::kOptimistic};
}

TEST(Planner, DecodeRowsComeBeforeALongPrompt) {
  StepBudget budget = optimistic(8, 8, 8);
  const std::vector<SeqView> views = {seq(1, 50, 4, true, 50), seq(2, 6, 5, true, 5),
                                      seq(3, 9, 8, true, 8)};
  const StepPlan first = plan_full(views, 100, budget);
  ASSERT_EQ(first.runs.size(), 3u);
  EXPECT_EQ(first.runs[0], (StepPlan::Run{2, 5, 1, true}));
  EXPECT_EQ(first.runs[1], (StepPlan::Run{3, 8, 1, true}));
  EXPECT_EQ(first.runs[2], (StepPlan::Run{1, 4, 6, false}));
  budget.decode_first = false;
  EXPECT_EQ(plan_full(views, 100, budget).runs, (std::vector<StepPlan::Run>{{1, 4, 8, false}}));
}

// 2 and 3 decode first and take both free blocks. Then 1, which comes before them, lacks two: the
// latest loses its run with its blocks, then the one before it, and the rows that they had
// go to 1.
TEST(Planner, ADecodeRowGivesItsBlocksBackToAnEarlierPrompt) {
  const std::vector<SeqView> views = {seq(1, 50, 8, true, 50), seq(2, 5, 4, true, 4),
                                      seq(3, 9, 8, true, 8)};
  const StepPlan one = plan_full(views, 2, optimistic(6, 8, 4));
  EXPECT_EQ(one.preempted, std::vector<SeqId>{3});
  ASSERT_EQ(one.runs.size(), 2u);
  EXPECT_EQ(one.runs[0], (StepPlan::Run{2, 4, 1, true}));
  EXPECT_EQ(one.runs[1], (StepPlan::Run{1, 8, 4, false}));
  // 3 gives two blocks and its run's one; 4 behind 1 now has the row that 3 had.
  std::vector<SeqView> more = {seq(1, 50, 8, true, 50), seq(4, 50, 0, true, 50),
                               seq(3, 9, 8, true, 8)};
  const StepPlan rows = plan_full(more, 1, optimistic(9, 8, 4));
  EXPECT_EQ(rows.preempted, std::vector<SeqId>{3});
  EXPECT_EQ(rows.runs, (std::vector<StepPlan::Run>{{1, 8, 4, false}, {4, 0, 4, false}}));
  // And exactly that many: without the taken-back row 4 would get three.
  const StepPlan exact = plan_full(more, 1, optimistic(8, 2, 4));
  EXPECT_EQ(exact.preempted, std::vector<SeqId>{3});
  EXPECT_EQ(exact.runs, (std::vector<StepPlan::Run>{{1, 8, 4, false}, {4, 0, 4, false}}));
}

// YOCO: rows of a prompt pay the self-decoder, those that want logits the cross-decoder too.
TEST(Planner, RowsThatWantLogitsCostMore) {
  StepBudget budget = optimistic(64, 8, 64);
  budget.row_cost = 500;
  budget.logit_row_cost = 500;
  budget.cost_max = 8000;
  const auto rows = [&](SeqView s) { return plan_full({s}, 100, budget).runs.at(0).count; };
  EXPECT_EQ(rows(seq(1, 50, 0, false, 50)), 16u);
  EXPECT_EQ(rows(seq(1, 16, 0, false, 16)), 15u) << "the last row does not fit in";
  EXPECT_EQ(rows(seq(1, 15, 0, false, 15)), 15u);
  SeqView scored = seq(1, 50, 0, false, 50);
  scored.all_logits = true;
  EXPECT_EQ(rows(scored), 8u);
  scored.all_logits = false;
  scored.logits_from = 6;  // 6 * 500 + 5 * 1000
  EXPECT_EQ(rows(scored), 11u);
  budget.cost_max = 10;  // counts as 1000: one row that wants logits, or two that do not
  EXPECT_EQ(rows(scored), 2u);
  scored.logits_from = 0;
  EXPECT_EQ(rows(scored), 1u);
  scored.logits_from = 6;
  budget.cost_max = 0;
  EXPECT_EQ(rows(scored), 50u);
  budget.cost_max = 2999;  // two decode rows of 1000, then one row of 500, not two
  const StepPlan plan = plan_full(
      {seq(1, 50, 0, true, 50), seq(2, 5, 4, true, 4), seq(3, 5, 4, true, 4)}, 100, budget);
  ASSERT_EQ(plan.runs.size(), 3u);
  EXPECT_EQ(plan.runs[2], (StepPlan::Run{1, 0, 1, false}));
}

TEST(Planner, ChunksThatTheBudgetCutsEndOnTheGrid) {
  StepBudget budget = optimistic(100, 8, 21);
  budget.chunk_align = 8;
  const auto end = [&](SeqView s) {
    const StepPlan::Run run = plan_full({s}, 100, budget).runs.at(0);
    return run.first + run.count;
  };
  EXPECT_EQ(end(seq(1, 50, 0, false, 50)), 16u);
  EXPECT_EQ(end(seq(1, 50, 5, true, 50)), 24u);
  EXPECT_EQ(end(seq(1, 21, 0, false, 21)), 21u) << "the end of the prompt is no cut";
  SeqView stops = seq(1, 50, 0, false, 50);
  stops.stop = 13;
  EXPECT_EQ(end(stops), 13u) << "nor is a stop";
  stops.stop = 30;
  EXPECT_EQ(end(stops), 16u) << "a stop beyond the cut changes nothing";
  stops.computed = stops.stop = 13;
  EXPECT_EQ(end(stops), 32u) << "nor does one that is reached";
  budget.tokens_max = 5;
  EXPECT_EQ(end(seq(1, 50, 0, false, 50)), 5u) << "nothing would be left";
}

TEST(Planner, RunsOfAStepAreLimitedApartFromThoseThatTakePart) {
  StepBudget budget = optimistic(64, 4, 64);
  budget.runs_max = 2;
  std::vector<SeqView> views = {seq(1, 5, 4, true, 4), seq(2, 5, 4, true, 4), seq(3, 5, 4, true, 4),
                                seq(4, 3, 0, false, 3)};
  EXPECT_EQ(plan_full(views, 100, budget).runs.size(), 2u);
  views[0].busy = views[1].busy = true;  // in flight: the next step takes the others
  const StepPlan next = plan_full(views, 100, budget);
  ASSERT_EQ(next.runs.size(), 2u);
  EXPECT_EQ(next.runs[0].seq, 3u);
  EXPECT_EQ(next.runs[1].seq, 4u);
  budget.sequences_max = 3;  // three take part already
  EXPECT_EQ(plan_full(views, 100, budget).runs.size(), 1u);
}

TEST(Planner, BusySequencesAreLeftAlone) {
  SeqView busy = seq(2, 9, 8, true, 8);
  busy.busy = true;
  const StepPlan waits = plan_full({seq(1, 5, 4, true, 4), busy}, 0, optimistic(64, 8, 64));
  EXPECT_TRUE(waits.runs.empty() && waits.preempted.empty()) << "1 waits for the step in flight";
  SeqView arriving = seq(3, 9, 4, false, 9);
  arriving.busy = true;
  const StepPlan passed = plan_full({arriving, seq(4, 3, 0, false, 3)}, 9, optimistic(64, 8, 64));
  ASSERT_EQ(passed.runs.size(), 1u) << "a busy newcomer neither runs nor holds others up";
  EXPECT_EQ(passed.runs[0].seq, 4u);
}

TEST(Planner, ANewcomerPaysForWhatNobodyHolds) {
  const uint32_t two[] = {2};
  SeqView hit = seq(1, 16, 12, false, 16);
  EXPECT_TRUE(plan_full({hit}, 3, optimistic(64, 8, 64)).runs.empty());
  EXPECT_EQ(plan_full({hit}, 4, optimistic(64, 8, 64)).runs.size(), 1u);
  hit.shared = two;
  EXPECT_TRUE(plan_full({hit}, 1, optimistic(64, 8, 64)).runs.empty());
  const StepPlan plan = plan_full({hit}, 2, optimistic(64, 8, 64));
  ASSERT_EQ(plan.runs.size(), 1u);
  EXPECT_EQ(plan.runs[0], (StepPlan::Run{1, 12, 4, true}));
}

TEST(Planner, AFixedStateIsNeverShared) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kFixed, 64, 0}}, 4);
  const uint32_t one[] = {1}, none[] = {0};
  SeqView hit = seq(1, 16, 12, false, 16);
  hit.shared = one;  // its snapshot is live
  const std::vector<SeqView> views = {hit};
  EXPECT_TRUE(plan_step({views, one, &layout, none}, optimistic(64, 8, 64)).runs.empty());
  EXPECT_EQ(plan_step({views, one, &layout, one}, optimistic(64, 8, 64)).runs.size(), 1u);
}

// What a victim shares does not come back with it, so a second has to yield.
TEST(Planner, SharedBlocksDoNotComeBack) {
  const uint32_t two[] = {2};
  SeqView a = seq(2, 9, 8, true, 8), b = seq(3, 9, 8, true, 8);
  const std::vector<SeqView> apart = {seq(1, 5, 4, true, 4), a, b};
  EXPECT_EQ(plan_full(apart, 0, optimistic(64, 8, 64)).preempted, std::vector<SeqId>{3});
  a.shared = b.shared = two;
  const StepPlan together = plan_full({seq(1, 5, 4, true, 4), a, b}, 0, optimistic(64, 8, 64));
  EXPECT_EQ(together.preempted, (std::vector<SeqId>{3, 2}));
  EXPECT_TRUE(together.runs.empty()) << "what they shared is seen in the next step";
}

// ---- reserve ----

StepBudget reserving() { return {64, 8, 64, true}; }

TEST(Planner, ReservesPeaks) {
  const uint32_t five[] = {5}, four[] = {4}, one[] = {1};
  SeqView resident = seq(1, 8, 7, true, 4);
  resident.peak = five;  // holds two, may take three
  SeqView newcomer = seq(2, 5, 4, false, 5);
  newcomer.peak = four;
  EXPECT_EQ(plan_full({resident, newcomer}, 7, reserving()).runs.size(), 2u);
  EXPECT_EQ(plan_full({resident, newcomer}, 6, reserving()).runs.size(), 1u);
  newcomer.shared = one;
  EXPECT_EQ(plan_full({resident, newcomer}, 6, reserving()).runs.size(), 2u);
  // What the first newcomer reserves the second cannot.
  SeqView second = newcomer;
  second.id = 3;
  EXPECT_EQ(plan_full({resident, newcomer, second}, 8, reserving()).runs.size(), 2u);
  EXPECT_EQ(plan_full({resident, newcomer, second}, 9, reserving()).runs.size(), 3u);
}

// Where it is short, nobody behind a big newcomer gets in before it.
TEST(Planner, ABigNewcomerHoldsUpThoseBehindIt) {
  const uint32_t five[] = {5}, nine[] = {9}, one[] = {1};
  SeqView resident = seq(1, 8, 7, true, 4), big = seq(2, 5, 0, false, 5),
          small = seq(3, 3, 0, false, 3);
  resident.peak = five;
  big.peak = nine;
  small.peak = one;
  EXPECT_EQ(plan_full({resident, big, small}, 11, reserving()).runs.size(), 1u);
  EXPECT_EQ(plan_full({resident, small, big}, 11, reserving()).runs.size(), 2u);
}

// With its forks it may never fit at a time; alone it comes in, and its forks take turns.
TEST(Planner, ASequenceAloneComesIn) {
  const uint32_t twenty[] = {20};
  SeqView alone = seq(1, 5, 0, false, 5);
  alone.peak = twenty;
  EXPECT_EQ(plan_full({alone}, 10, reserving()).runs.size(), 1u);
  SeqView other = seq(2, 5, 0, false, 5);
  other.peak = twenty;
  EXPECT_EQ(plan_full({alone, other}, 10, reserving()).runs.size(), 1u);
}

// Both read the same two blocks of a window of eight now; when the first has moved on they will
// hold three each, and no discount brings back the blocks that the second alone keeps.
TEST(Planner, SharingAWindowReservesNothingLess) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 8}}, 4);
  const uint32_t peak[] = {4}, shared[] = {2}, total[] = {8};
  SeqView resident = seq(1, 40, 8, true, 8), newcomer = seq(2, 40, 8, false, 8);
  resident.peak = newcomer.peak = peak;
  newcomer.shared = shared;
  const std::vector<SeqView> views = {resident, newcomer};
  const StepBudget budget = {2, 8, 1, true};
  const uint32_t six[] = {6}, five[] = {5};
  EXPECT_EQ(plan_step({views, total, &layout, six}, budget).runs.size(), 2u);
  EXPECT_EQ(plan_step({views, total, &layout, five}, budget).runs.size(), 1u);
}

// Two residents share both blocks, and the view does not say so: six of eight blocks are available,
// yet each of the two may come to hold four.
TEST(Planner, PeaksOfWindowsNeverExceedWhatThereIs) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 8}}, 4);
  const uint32_t peak[] = {4}, two[] = {2}, total[] = {8}, ten[] = {10}, six[] = {6};
  SeqView a = seq(1, 9, 8, true, 8), b = seq(2, 9, 8, true, 8), newcomer = seq(3, 4, 0, false, 4);
  a.peak = b.peak = peak;
  newcomer.peak = two;
  const std::vector<SeqView> views = {a, b, newcomer};
  const StepBudget budget = {4, 8, 1, true};
  EXPECT_EQ(plan_step({views, total, &layout, six}, budget).runs.size(), 2u);
  EXPECT_EQ(plan_step({views, ten, &layout, six}, budget).runs.size(), 3u);
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
