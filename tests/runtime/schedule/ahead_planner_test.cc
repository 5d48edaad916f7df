// What take() answers is plan_step() of what it is given, whether the prediction came true or not;
// hits and misses are counted; nothing of the caller's is read after prepare() has returned. Run
// with the thread sanitizer, too.
#include "runtime/schedule/ahead_planner.h"

#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {
namespace {

struct Views {
  CacheLayout layout;
  std::vector<uint32_t> available, counts;
  std::vector<SeqView> sequences;
  StepBudget budget;
  PlannerView view() const { return {sequences, available, &layout, available}; }
};

std::unique_ptr<Views> random_views(Random& random) {
  auto v = std::make_unique<Views>();
  v->layout = random_layout(random);
  const size_t classes = v->layout.classes.size();
  v->available.assign(classes, random.between(10, 60));
  v->budget = {random.between(1, 30), random.between(1, 8), random.between(1, 20), true};
  const uint32_t count = random.up_to(8);
  v->counts.assign(2 * classes * count, 0);
  for (uint32_t& peak : v->counts) peak = random.up_to(8);
  for (uint32_t i = 0; i < count; ++i) {
    SeqView s;
    s.id = i;
    s.tokens = random.between(1, 40);
    s.computed = random.up_to(s.tokens - 1);
    s.resident = random.one_in(2);
    const auto own = std::span(v->counts).subspan(2 * classes * i, 2 * classes);
    s.peak = own.first(classes);
    s.shared = own.last(classes);
    v->sequences.push_back(s);
  }
  return v;
}

// The same view in other memory, so that a prediction compares what is in it.
std::unique_ptr<Views> copy(const Views& from) {
  auto v = std::make_unique<Views>(from);
  for (size_t i = 0; i < v->sequences.size(); ++i) {
    const auto moved = [&](std::span<const uint32_t> s) {
      return std::span<const uint32_t>(v->counts.data() + (s.data() - from.counts.data()),
                                       s.size());
    };
    v->sequences[i].peak = moved(v->sequences[i].peak);
    v->sequences[i].shared = moved(v->sequences[i].shared);
  }
  return v;
}

TEST(AheadPlanner, AnswersAsPlanStepDoes) {
  AheadPlanner ahead;
  uint64_t prepared = 0, hits = 0;
  for (const uint64_t seed : seeds(3000)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    Random random(seed);
    const auto real = random_views(random);
    const bool prepares = !random.one_in(4);
    const bool comes_true = random.one_in(2);
    if (prepares) {
      auto predicted = copy(*real);
      if (!comes_true) ++predicted->budget.tokens_max;
      PlannerView view = predicted->view();
      view.layout = &real->layout;
      ahead.prepare(view, predicted->budget);
      if (random.one_in(8)) {  // and again, before anybody takes it
        ahead.prepare(view, predicted->budget);
        ++prepared;
      }
      // The caller's own is gone before the plan is made, or while it is.
      std::fill(predicted->counts.begin(), predicted->counts.end(), 99);
      predicted.reset();
    }
    prepared += prepares;
    hits += prepares && comes_true;
    ASSERT_EQ(ahead.take(real->view(), real->budget), plan_step(real->view(), real->budget));
    // A hit is used up: taken again it is planned again, to the same.
    ASSERT_EQ(ahead.take(real->view(), real->budget), plan_step(real->view(), real->budget));
    ASSERT_EQ(ahead.prepared(), prepared);
    ASSERT_EQ(ahead.hits(), hits);
    // The layout must outlive what is prepared with it: a last one, of an own life, takes its
    // place.
    static const CacheLayout no_classes;
    ahead.prepare({{}, {}, &no_classes, {}}, real->budget);
    ++prepared;
  }
}

// One field that differs is a miss.
TEST(AheadPlanner, EveryFieldCounts) {
  Random random(5);
  auto v = random_views(random);
  while (v->sequences.empty()) v = random_views(random);
  const auto misses = [&](const char* what, auto change) {
    AheadPlanner ahead;
    auto other = copy(*v);
    change(*other);
    PlannerView view = other->view();
    view.layout = &v->layout;
    ahead.prepare(v->view(), v->budget);
    EXPECT_EQ(ahead.take(view, other->budget), plan_step(view, other->budget)) << what;
    EXPECT_EQ(ahead.hits(), 0u) << what;
  };
  using V = Views&;
  misses("id", [](V w) { w.sequences[0].id = 77; });
  misses("tokens", [](V w) { ++w.sequences[0].tokens; });
  misses("resident", [](V w) { w.sequences[0].resident = !w.sequences[0].resident; });
  misses("prefill_tokens", [](V w) { ++w.sequences[0].prefill_tokens; });
  misses("busy", [](V w) { w.sequences[0].busy = true; });
  misses("all_logits", [](V w) { w.sequences[0].all_logits = true; });
  misses("stop", [](V w) { w.sequences[0].stop = 1000; });
  misses("logits_from", [](V w) { w.sequences[0].logits_from = 1; });
  misses("peak", [](V w) { ++w.counts[0]; });
  misses("shared", [](V w) { ++w.counts[w.layout.classes.size()]; });
  misses("available", [](V w) { ++w.available[0]; });
  misses("fewer", [](V w) { w.sequences.pop_back(); });
  misses("runs_max", [](V w) { w.budget.runs_max = 1; });
  misses("decode_first", [](V w) { w.budget.decode_first = false; });
}

// It ends whatever it is doing.
TEST(AheadPlanner, EndsWithAJobInHand) {
  Random random(9);
  for (int i = 0; i < 200; ++i) {
    const auto v = random_views(random);
    AheadPlanner ahead;
    if (i % 3 > 0) ahead.prepare(v->view(), v->budget);
    if (i % 3 < 2) continue;
    ASSERT_EQ(ahead.take(v->view(), v->budget), plan_step(v->view(), v->budget));
  }
}

}  // namespace
}  // namespace trireme::test
