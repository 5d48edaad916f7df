// The echo test: planner, pools, block tables, batches and the decoder's forward loop, driven
// together by random sequences through tight pools whose bytes are poisoned, with sublayers that
// know what they must find in the cache (echo_sublayers.h).
//
//   sequences -> plan_step -> SequenceBlocks -> BatchBuilder -> Decoder (echo sublayers), per stage
//
// Then the same with one thing broken on purpose at a time: each must be noticed.
#include <algorithm>
#include <cstring>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/engine/step_batch.h"
#include "runtime/model/model.h"
#include "runtime/schedule/planner.h"
#include "tests/runtime/engine/echo_sublayers.h"

namespace trireme::test {
namespace {

// What is broken on purpose.
enum class Sabotage {
  kNone,
  kFirstBlockOffByOne,
  kStaleTable,
  kTablesSwapped,
  kBasesSwapped,
  kLogitRowOffByOne,
  kWindowTooWide,  // reads one position more than the cache keeps
  kNoRestart,      // a preempted sequence goes on where it was, in fresh blocks
  kTwoOwners,      // two runs over one sequence's blocks
  kPositionOffByOne,
  kStatesOverlap,    // two fixed sublayers share bytes
  kSlotsOverlap,     // two per-token sublayers share bytes
  kNoSharedStore,    // the stage that reads the shared rows does not store them
  kBlocksGivenBack,  // blocks of a resident are released while it goes on using them
};

struct EchoCase {
  uint64_t seed = 1;
  uint32_t sequences = 300;
  uint32_t block_tokens = 4;
  uint32_t window_a = 7, window_b = 16;
  StepBudget budget{48, 12, 16, true};
  uint32_t prompt_max = 50, output_max = 30;
  double room = 2.0;  // pools, in sequences of the greatest length
  int stages = 1;
  Sabotage sabotage = Sabotage::kNone;
};

// A model that has one sublayer of every way to remember.
//   0 attention, full   1 fixed   2 attention, window a   3 fixed   4 attention, window b
//   5 make shared kv    6 store shared kv   | exit |   7 shared attention   8 shared attention
ModelSpec echo_spec(const EchoCase& c) {
  ModelSpec spec;
  spec.dim = 16;
  const HeadSpec heads{1, 1, 2, -1, 0};  // 2 * 2 floats a token: a cell
  const auto add = [&](SublayerKind kind, uint32_t window = 0) {
    SublayerSpec sub;
    sub.kind = kind;
    sub.layer = static_cast<uint32_t>(spec.sublayers.size());
    sub.heads = heads;
    sub.heads.window_tokens = window;
    if (kind == SublayerKind::kRetention) sub.heads.head_dim = 4;
    spec.sublayers.push_back(sub);
  };
  add(SublayerKind::kAttention);
  add(SublayerKind::kRwkv7ChannelMix);
  add(SublayerKind::kAttention, c.window_a);
  add(SublayerKind::kRetention);
  add(SublayerKind::kAttention, c.window_b);
  add(SublayerKind::kMakeSharedKv);
  add(SublayerKind::kStoreSharedKv);
  add(SublayerKind::kSharedAttention);
  add(SublayerKind::kSharedAttention);
  spec.logits_only_from = 7;
  return spec;
}

// A stage that begins beyond the exit stores the shared rows again, as plan_stages says.
std::vector<StagePlan> echo_stages(int stages) {
  const auto plan = [](uint32_t begin, uint32_t end, std::vector<uint32_t> sublayers) {
    StagePlan p;
    p.begin = begin;
    p.end = end;
    p.sublayers = std::move(sublayers);
    return p;
  };
  if (stages == 1) return {plan(0, 9, {0, 1, 2, 3, 4, 5, 6, 7, 8})};
  if (stages == 2) return {plan(0, 7, {0, 1, 2, 3, 4, 5}), plan(7, 9, {6, 7, 8})};
  return {plan(0, 3, {0, 1, 2}), plan(3, 8, {3, 4, 5, 6, 7}), plan(8, 9, {6, 8})};
}

struct EchoStage {
  StagePlan plan;
  CacheLayout layout;
  std::vector<BlockPool> pools;
  BlockStore store;
  std::unique_ptr<BatchBuilder> builder;
  std::unique_ptr<Decoder> decoder;
  std::vector<SequenceBlocks> blocks;  // by sequence
  std::vector<float> x, side;
};

struct EchoSequence {
  uint32_t prompt = 0, output = 0;
  uint32_t computed = 0;
  bool resident = false, arrived = false, done = false;
};

class EchoWorker {
 public:
  explicit EchoWorker(const EchoCase& c) : case_(c), spec_(echo_spec(c)), random_(c.seed) {
    device_ = make_checked_device(make_ref_device());
    chunk_max_ = std::min(c.budget.tokens_max, c.budget.prefill_chunk_max);
    make_sequences();
    stages_.reserve(static_cast<size_t>(c.stages));  // builders point into them
    for (const StagePlan& plan : echo_stages(c.stages)) make_stage(plan);
  }

  // Until all sequences have finished, or something was found. Steps made.
  uint64_t run() {
    uint64_t steps = 0;
    while (finished_ < sequences_.size() && truth_.errors.empty()) {
      step();
      check_accounts();
      if (++steps > 100000) truth_.error("no end in sight");
    }
    return steps;
  }

  const EchoTruth& truth() const { return truth_; }
  uint64_t preemptions() const { return preemptions_; }
  uint64_t cancelled() const { return cancelled_; }
  Decoder::Counters counters(size_t stage) const { return stages_[stage].decoder->counters(); }
  uint64_t tokens_computed() const { return tokens_computed_; }
  uint64_t logits_wanted() const { return logits_wanted_; }
  bool at_rest() const {
    for (const EchoStage& stage : stages_) {
      for (const BlockPool& pool : stage.pools) {
        if (pool.live_count() != 0) return false;
      }
    }
    return true;
  }

 private:
  uint32_t up_to(uint32_t max) { return static_cast<uint32_t>(random_() % (uint64_t{max} + 1)); }

  void make_sequences() {
    for (uint32_t i = 0; i < case_.sequences; ++i) {
      EchoSequence s;
      s.prompt = 1 + up_to(case_.prompt_max - 1);
      s.output = 1 + up_to(case_.output_max - 1);
      tokens_max_ = std::max(tokens_max_, s.prompt + s.output);
      sequences_.push_back(s);
      truth_.sequences.push_back({up_to(3), {}});
      for (uint32_t t = 0; t < s.prompt; ++t)
        truth_.sequences.back().tokens.push_back(up_to(1 << 20));
    }
  }

  void make_stage(const StagePlan& plan) {
    EchoStage stage;
    stage.plan = plan;
    stage.layout = cache_layout(spec_, plan, 0, 1, DType::kF32, case_.block_tokens);
    std::vector<uint32_t> table_max;
    blocks_total_.clear();
    for (const SlotClass& c : stage.layout.classes) {
      const uint32_t peak = blocks_peak(c, tokens_max_, chunk_max_);
      table_max.push_back(peak);
      const bool fixed = c.growth == StateSpec::Growth::kFixed;  // never what is short
      blocks_total_.push_back(fixed ? case_.budget.sequences_max
                                    : static_cast<uint32_t>(case_.room * peak));
      stage.pools.emplace_back(blocks_total_.back());
    }
    stages_.push_back(std::move(stage));
    EchoStage& here = stages_.back();
    here.store = std::move(*BlockStore::make(*device_, here.layout, blocks_total_));
    for (size_t c = 0; c < here.layout.classes.size(); ++c) {
      const uint64_t bytes = blocks_total_[c] * here.store.block_stride(c);
      if (bytes > 0) std::memset(here.store.arena(c), 0xAA, bytes);
    }
    here.blocks.assign(sequences_.size(), SequenceBlocks(here.layout));
    here.x.resize(case_.budget.tokens_max * spec_.dim);
    here.side.resize(case_.budget.tokens_max * kEchoSideCols);
    here.builder = std::move(*BatchBuilder::make(*device_, spec_, here.layout, here.store,
                                                 DType::kF32, table_max, case_.budget.tokens_max,
                                                 case_.budget.sequences_max, 0, 1));
    here.decoder = std::move(*Decoder::make(*device_, spec_, plan.begin, plan.end, make_steps(here),
                                            case_.budget.tokens_max));
  }

  std::vector<Decoder::Step> make_steps(const EchoStage& stage) {
    std::vector<Decoder::Step> steps;
    for (const uint32_t index : stage.plan.sublayers) {
      const bool left_out = case_.sabotage == Sabotage::kNoSharedStore && stages_.size() > 1 &&
                            spec_.sublayers[index].kind == SublayerKind::kStoreSharedKv;
      if (left_out) continue;
      Decoder::Step step;
      step.index = index;
      step.normed = false;
      step.sublayer = make_echo(index, stage);
      steps.push_back(std::move(step));
    }
    return steps;
  }

  std::unique_ptr<Sublayer> make_echo(uint32_t index, const EchoStage& stage) {
    const SublayerSpec& sub = spec_.sublayers[index];
    EchoOptions options{index, sub.heads.window_tokens, 0};
    const bool shared = sub.kind == SublayerKind::kSharedAttention;
    if (shared) options.sublayer = 6;
    const Slot& slot = stage.layout.slots[options.sublayer];
    if (slot.slot_class >= 0) options.blocks_total = blocks_total_[slot.slot_class];
    if (case_.sabotage == Sabotage::kWindowTooWide && options.window_tokens > 0)
      ++options.window_tokens;
    switch (sub.kind) {
      case SublayerKind::kAttention:
        return make_echo_attention(truth_, options);
      case SublayerKind::kMakeSharedKv:
        return make_echo_make_shared(truth_);
      case SublayerKind::kStoreSharedKv:
        return make_echo_store_shared(truth_, options);
      case SublayerKind::kSharedAttention:
        return make_echo_shared_attention(truth_, options);
      default:
        return make_echo_state(truth_, options);
    }
  }

  // ---- one step ----

  void step() {
    if (arrived_ < sequences_.size() && (up_to(1) == 0 || arrived_ == finished_))
      sequences_[arrived_++].arrived = true;
    cancel_one_at_times();
    StepBudget budget = case_.budget;
    budget.admission = Admission::kOptimistic;  // so that sequences yield and come again
    const StepPlan plan = plan_step({views(), blocks_total_, &stages_[0].layout}, budget);
    for (const SeqId id : plan.preempted) preempt(id);
    if (plan.runs.empty()) return;
    truth_.step.clear();
    for (const StepPlan::Run& run : plan.runs) {
      truth_.step.push_back(static_cast<uint32_t>(run.seq));
      for (EchoStage& stage : stages_) {
        CHECK(stage.blocks[run.seq].advance(stage.pools, run.first, run.first + run.count))
            << "the plan does not fit the pools";
      }
      sequences_[run.seq].resident = true;
      tokens_computed_ += run.count;
      logits_wanted_ += run.wants_logits;
    }
    for (size_t i = 0; i < stages_.size(); ++i) run_stage(i, plan);
    check_logit_rows(plan);
    for (const StepPlan::Run& run : plan.runs) accept(run);
    ++step_;
  }

  std::vector<SeqView> views() const {
    std::vector<SeqView> views;
    for (uint32_t i = 0; i < arrived_; ++i) {
      const EchoSequence& s = sequences_[i];
      if (s.done) continue;
      views.push_back({i, static_cast<uint32_t>(truth_.sequences[i].tokens.size()), s.computed,
                       s.resident, s.prompt});
    }
    return views;
  }

  void release(SeqId id) {
    for (EchoStage& stage : stages_) stage.blocks[id].release(stage.pools);
    sequences_[id].resident = false;
  }

  void preempt(SeqId id) {
    ++preemptions_;
    if (case_.sabotage == Sabotage::kNoRestart) {
      for (EchoStage& stage : stages_) {
        stage.blocks[id].release(stage.pools);
        stage.blocks[id] = SequenceBlocks(stage.layout);
      }
      sequences_[id].resident = false;  // and keeps `computed`
      return;
    }
    release(id);
    sequences_[id].computed = 0;
    ++truth_.sequences[id].life;
  }

  void cancel_one_at_times() {
    if (arrived_ == 0 || up_to(40) != 0) return;
    const uint32_t id = up_to(arrived_ - 1);
    if (sequences_[id].done) return;
    release(id);
    sequences_[id].done = true;
    ++finished_;
    ++cancelled_;
  }

  void run_stage(size_t index, const StepPlan& plan) {
    EchoStage& stage = stages_[index];
    std::vector<SequenceRun> runs;
    std::vector<std::vector<int32_t>> ids;
    for (const StepPlan::Run& run : plan.runs) {
      const std::vector<uint32_t>& tokens = truth_.sequences[run.seq].tokens;
      ids.emplace_back(tokens.begin() + run.first, tokens.begin() + run.first + run.count);
    }
    for (size_t r = 0; r < plan.runs.size(); ++r) {
      using Logits = SequenceRun::Logits;
      runs.push_back({&stage.blocks[plan.runs[r].seq], plan.runs[r].first, ids[r],
                      plan.runs[r].wants_logits ? Logits::kLast : Logits::kNone});
    }
    if (sabotages(Sabotage::kTwoOwners) && runs.size() > 1) runs[1].blocks = runs[0].blocks;
    if (sabotages(Sabotage::kPositionOffByOne) && runs[0].first > 0) --runs[0].first;
    if (sabotages(Sabotage::kBlocksGivenBack)) give_back_and_reuse(stage, plan.runs[0].seq);
    CHECK(stage.builder->build(runs).ok());
    DecoderBatch batch = stage.builder->batch();
    std::vector<StateView> states(stage.builder->states().begin(), stage.builder->states().end());
    std::vector<int32_t> logit_rows(batch.logit_rows, batch.logit_rows + batch.logits.rows.rows);
    tamper(batch, states, logit_rows);
    carry_.side = tensor(stage.side.data(), batch.all.rows.rows, kEchoSideCols);
    if (index == 0) {
      carry_.x = tensor(stage.x.data(), batch.all.rows.rows, spec_.dim);
      embed(plan);
    } else {
      receive(stages_[index - 1], stage);
    }
    const Status status = stage.decoder->forward(batch, states, carry_, nullptr);
    if (!status.ok()) truth_.error(status.message());
  }

  // What the first stage's embedding does in a real model.
  void embed(const StepPlan& plan) {
    int64_t row = 0;
    for (const StepPlan::Run& run : plan.runs) {
      const EchoTruth::Sequence& s = truth_.sequences[run.seq];
      for (uint32_t p = run.first; p < run.first + run.count; ++p, ++row) {
        float* x = carry_.x.f32_row(row);
        std::fill(x, x + spec_.dim, 0.0f);
        x[0] = static_cast<float>(run.seq);
        x[1] = static_cast<float>(s.life);
        x[2] = static_cast<float>(s.tokens[p]);
        x[3] = static_cast<float>(p);
      }
    }
  }

  // x as the stage before left it, and the side of all rows: what Executor sends.
  void receive(const EchoStage& from, EchoStage& to) {
    to.x = from.x;
    to.side = from.side;
    carry_.x.data = to.x.data();
  }

  void check_logit_rows(const StepPlan& plan) {
    constexpr float kAdding = 2;  // sublayers 1 and 3
    int64_t row = 0;
    for (const StepPlan::Run& run : plan.runs) {
      if (!run.wants_logits) continue;
      check_echo_row(truth_, carry_.x, row, static_cast<uint32_t>(run.seq),
                     run.first + run.count - 1);
      if (row < carry_.x.rows && carry_.x.f32_row(row)[kEchoCols - 1] != kAdding)
        truth_.error("a row did not pass every sublayer once");
      ++row;
    }
    if (row != carry_.x.rows)
      truth_.error(fmt::format("{} rows come out, not {}", carry_.x.rows, row));
  }

  void accept(const StepPlan::Run& run) {
    EchoSequence& s = sequences_[run.seq];
    std::vector<uint32_t>& tokens = truth_.sequences[run.seq].tokens;
    s.computed = run.first + run.count;
    if (run.wants_logits) tokens.push_back(up_to(1 << 20));
    if (tokens.size() >= s.prompt + s.output) {
      release(run.seq);
      s.done = true;
      ++finished_;
      return;
    }
    for (EchoStage& stage : stages_)
      CHECK(stage.blocks[run.seq].advance(stage.pools, s.computed, s.computed));
  }

  // Every block of every pool is free or in exactly one sequence's table.
  void check_accounts() {
    for (const EchoStage& stage : stages_) {
      for (size_t c = 0; c < stage.pools.size(); ++c) {
        std::set<BlockId> owned;
        for (const SequenceBlocks& blocks : stage.blocks) {
          for (const BlockId id : blocks.table(c).ids) {
            if (!owned.insert(id).second) truth_.error(fmt::format("block {} has two owners", id));
          }
        }
        const BlockPool& pool = stage.pools[c];
        if (owned.size() != pool.live_count() ||
            pool.free_count() + pool.live_count() != pool.total())
          truth_.error(fmt::format("class {}: {} blocks in tables, {} live, {} free of {}", c,
                                   owned.size(), pool.live_count(), pool.free_count(),
                                   pool.total()));
      }
    }
  }

  // ---- sabotage ----

  bool sabotages(Sabotage what) const { return case_.sabotage == what && step_ > 20; }

  // Somebody else gets the bytes of the sequence's first full-attention block and writes there.
  void give_back_and_reuse(EchoStage& stage, SeqId id) {
    const auto& ids = stage.blocks[id].table(0).ids;
    if (ids.size() > 1) std::memset(stage.store.block(0, ids[0]), 0xBB, 64);
  }

  void tamper(DecoderBatch& batch, std::vector<StateView>& states,
              std::vector<int32_t>& logit_rows) {
    const auto sequences = static_cast<size_t>(batch.all.rows.sequences);
    const size_t stride = static_cast<size_t>(states[2].kv.table_stride);
    // Classes lie side by side in a sequence's row of tables: the last row ends where its last
    // class does.
    const int32_t* first_class = states[2].kv.block_table;
    for (const StateView& state : states) {
      if (state.kv.block_table != nullptr)
        first_class = std::min(first_class, state.kv.block_table);
    }
    std::vector<int32_t> table(states[2].kv.block_table, first_class + stride * sequences);
    table.resize(stride * sequences);
    if (sabotages(Sabotage::kFirstBlockOffByOne)) {
      first_block_.assign(states[2].kv.first_block, states[2].kv.first_block + sequences);
      for (int32_t& first : first_block_) ++first;
      states[2].kv.first_block = first_block_.data();
    }
    if (sabotages(Sabotage::kStaleTable)) {
      stale_ = previous_.empty() ? table : previous_;
      stale_.resize(table.size());
      states[2].kv.block_table = stale_.data();
    }
    previous_ = table;
    if (sabotages(Sabotage::kTablesSwapped) && sequences > 1) {
      stale_ = table;
      std::swap_ranges(stale_.begin(), stale_.begin() + static_cast<std::ptrdiff_t>(stride),
                       stale_.begin() + static_cast<std::ptrdiff_t>(stride));
      states[2].kv.block_table = stale_.data();
    }
    if (sabotages(Sabotage::kBasesSwapped) && sequences > 1) {
      bases_.assign(states[1].fixed.base, states[1].fixed.base + sequences);
      std::swap(bases_[0], bases_[1]);
      states[1].fixed.base = bases_.data();
    }
    if (sabotages(Sabotage::kLogitRowOffByOne) && !logit_rows.empty() && logit_rows[0] > 0) {
      --logit_rows[0];
      logit_rows_ = logit_rows;
      batch.logit_rows = logit_rows_.data();
    }
    if (sabotages(Sabotage::kStatesOverlap)) states[3].fixed.offset = states[1].fixed.offset;
    if (sabotages(Sabotage::kSlotsOverlap)) states[6].kv.blocks = states[0].kv.blocks;
  }

  const EchoCase case_;
  const ModelSpec spec_;
  std::mt19937_64 random_;
  std::unique_ptr<Device> device_;
  EchoTruth truth_;
  std::vector<EchoSequence> sequences_;
  std::vector<uint32_t> blocks_total_;
  std::vector<EchoStage> stages_;
  Carry carry_;
  uint32_t tokens_max_ = 0, chunk_max_ = 0;
  size_t arrived_ = 0, finished_ = 0;
  uint64_t step_ = 0, preemptions_ = 0, cancelled_ = 0, tokens_computed_ = 0, logits_wanted_ = 0;
  std::vector<int32_t> first_block_, stale_, previous_, logit_rows_;
  std::vector<std::byte*> bases_;
};

std::string join(const std::vector<std::string>& errors) {
  std::string text;
  for (const std::string& e : errors) text += e + "\n";
  return text;
}

void expect_clean(const EchoCase& c, uint64_t preemptions_min) {
  SCOPED_TRACE(fmt::format("seed {} block {} windows {} {} chunk {} stages {}", c.seed,
                           c.block_tokens, c.window_a, c.window_b, c.budget.prefill_chunk_max,
                           c.stages));
  EchoWorker worker(c);
  worker.run();
  EXPECT_EQ(join(worker.truth().errors), "");
  EXPECT_TRUE(worker.at_rest()) << "blocks are live at rest";
  EXPECT_GE(worker.preemptions(), preemptions_min) << "the pools were not tight";
  EXPECT_GT(worker.truth().cells_checked, 10000u);
  EXPECT_GT(worker.truth().states_checked, 500u);
  // YOCO's early exit: only rows that want logits pass the last sublayers.
  const Decoder::Counters last = worker.counters(static_cast<size_t>(c.stages) - 1);
  EXPECT_EQ(last.rows_after_exit, worker.logits_wanted());
  EXPECT_EQ(worker.counters(0).rows_before_exit, worker.tokens_computed());
}

TEST(Echo, HundredsOfSequencesThroughTightPools) {
  for (const int stages : {1, 2, 3}) {
    EchoCase c;
    c.seed = 11 + static_cast<uint64_t>(stages);
    c.stages = stages;
    expect_clean(c, 20);
  }
}

TEST(Echo, OneSequenceFitsAtATime) {
  EchoCase c;
  c.room = 1.0;
  c.sequences = 60;
  expect_clean(c, 0);
}

TEST(Echo, ChunkBlockAndWindowOfEverySize) {
  uint64_t seed = 100;
  for (const uint32_t block_tokens : {1u, 2u, 3u, 16u}) {
    for (const uint32_t chunk : {1u, 5u, 64u}) {
      EchoCase c;
      c.seed = ++seed;
      c.sequences = 50;
      c.block_tokens = block_tokens;
      c.window_a = 1 + static_cast<uint32_t>(seed % 5);
      c.window_b = 2 * block_tokens;
      c.budget = {chunk == 64 ? 200u : 24u, 6, chunk, true};
      c.room = 1.5;
      expect_clean(c, 0);
    }
  }
}

TEST(Echo, RandomCases) {
  for (uint64_t seed = 1000; seed < 1040; ++seed) {
    std::mt19937_64 random(seed);
    EchoCase c;
    c.seed = seed;
    c.sequences = 40;
    c.block_tokens = 1 + static_cast<uint32_t>(random() % 8);
    c.window_a = 1 + static_cast<uint32_t>(random() % 30);
    c.window_b = 1 + static_cast<uint32_t>(random() % 60);
    c.budget.tokens_max = 1 + static_cast<uint32_t>(random() % 80);
    c.budget.prefill_chunk_max = 1 + static_cast<uint32_t>(random() % 60);
    c.budget.sequences_max = 1 + static_cast<uint32_t>(random() % 10);
    c.room = 1.0 + static_cast<double>(random() % 30) / 10;
    c.stages = 1 + static_cast<int>(random() % 3);
    expect_clean(c, 0);
  }
}

TEST(Echo, EveryBreakIsNoticed) {
  constexpr std::pair<Sabotage, const char*> kBreaks[] = {
      {Sabotage::kFirstBlockOffByOne, "first block off by one"},
      {Sabotage::kStaleTable, "the table of the step before"},
      {Sabotage::kTablesSwapped, "two sequences' tables swapped"},
      {Sabotage::kBasesSwapped, "two sequences' states swapped"},
      {Sabotage::kLogitRowOffByOne, "the wrong row leaves for the logits"},
      {Sabotage::kWindowTooWide, "the window is one wider than what is kept"},
      {Sabotage::kNoRestart, "a preempted sequence goes on where it was"},
      {Sabotage::kTwoOwners, "two runs over one sequence's blocks"},
      {Sabotage::kPositionOffByOne, "a run begins one position early"},
      {Sabotage::kStatesOverlap, "two states share bytes"},
      {Sabotage::kSlotsOverlap, "two slots share bytes"},
      {Sabotage::kNoSharedStore, "a stage reads shared rows that it did not store"},
      {Sabotage::kBlocksGivenBack, "a block in use is written by somebody else"},
  };
  for (const auto& [sabotage, what] : kBreaks) {
    EchoCase c;
    c.sabotage = sabotage;
    c.stages = sabotage == Sabotage::kNoSharedStore ? 2 : 1;
    c.room = sabotage == Sabotage::kNoRestart ? 1.3 : 2.0;
    EchoWorker worker(c);
    worker.run();
    EXPECT_FALSE(worker.truth().errors.empty()) << "nobody noticed: " << what;
  }
}

}  // namespace
}  // namespace trireme::test
