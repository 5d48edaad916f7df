// What a worker tells of itself: the ring of each rank, all ranks on one clock, the lives of
// requests.
#include <future>
#include <map>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/engine_harness.h"
#include "tests/support/nested_spans.h"

namespace trireme::test {
namespace {

using Kind = TraceEvent::Kind;
using Name = TraceEvent::Name;

TraceEvent span_of(int64_t begin, int64_t end) {
  return {Kind::kSpan, Name::kStep, 0, 1, 2, begin, end};
}

TEST(TraceRing, KeepsTheNewestAndSaysWhatIsLost) {
  TraceRing ring(3);
  for (int64_t i = 1; i <= 3; ++i) ring.add(span_of(i, 10 * i));
  EXPECT_EQ(ring.since(0).events.size(), 3u);
  EXPECT_EQ(ring.since(0).lost_until_ns, 0);
  EXPECT_EQ(ring.since(20).events, (std::vector{span_of(2, 20), span_of(3, 30)}));
  for (int64_t i = 4; i <= 5; ++i) ring.add(span_of(i, 10 * i));
  const TraceRing::Cut cut = ring.since(0);
  EXPECT_EQ(cut.events, (std::vector{span_of(3, 30), span_of(4, 40), span_of(5, 50)}));
  EXPECT_EQ(cut.lost_until_ns, 20);
}

TEST(TraceRing, SpansWithoutARingDoNothing) {
  TraceSpan span(nullptr, Name::kStep);
  span.set_value(3);
  TraceRing ring(4);
  { TraceSpan outer(&ring, Name::kStep, 7), inner(&ring, Name::kHead); }
  const std::vector<TraceEvent> events = ring.since(0).events;
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, Name::kHead);
  EXPECT_EQ(events[1].step, 7u);
  EXPECT_LE(events[1].begin_ns, events[0].begin_ns);
  EXPECT_GE(events[1].end_ns, events[0].end_ns);
}

TEST(TraceRing, EveryNameHasText) {
  std::set<std::string_view> names;
  for (int i = 0; i < static_cast<int>(Name::kCount); ++i)
    names.insert(trace_name(static_cast<Name>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Name::kCount));
  EXPECT_FALSE(names.contains("?"));
}

TEST(RankTrace, CutsSurviveTheWayAndDamageIsFound) {
  std::mt19937_64 random(5);
  TraceRing::Cut cut;
  cut.lost_until_ns = 77;
  for (int i = 0; i < 20; ++i) {
    TraceEvent e;
    e.kind = static_cast<Kind>(random() % 2);
    e.name = static_cast<Name>(random() % static_cast<int>(Name::kCount));
    e.aux = static_cast<uint16_t>(random());
    e.value = static_cast<uint32_t>(random());
    e.step = random();
    e.begin_ns = static_cast<int64_t>(random() >> 3);
    e.end_ns = e.begin_ns + static_cast<int64_t>(random() % 1000);
    cut.events.push_back(e);
  }
  const std::vector<std::byte> bytes = write_trace_cut(cut);
  const Result<TraceRing::Cut> read = read_trace_cut(bytes);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->events, cut.events);
  EXPECT_EQ(read->lost_until_ns, 77);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(read_trace_cut(std::span(bytes).first(size)).ok()) << size;
  std::vector<std::byte> wrong = bytes;
  wrong[12 + 1] = std::byte{0xff};  // the first event's name
  EXPECT_EQ(read_trace_cut(wrong).status().code(), StatusCode::kDataLoss);
}

EngineHarnessOptions traced(Mesh mesh) {
  EngineHarnessOptions o;
  o.path = TRIREME_SOURCE_DIR "/tests/golden/data/llama-tied";
  o.ranks.mesh = mesh;
  o.ranks.rows_max = 64;
  o.ranks.tokens_max = 64;
  o.ranks.block_tokens = 4;
  o.ranks.cache_bytes = uint64_t{8} << 20;
  o.engine.budget.tokens_max = 24;
  o.engine.budget.sequences_max = 8;
  o.engine.budget.prefill_chunk_max = 16;
  o.engine.pipeline_depth = static_cast<uint32_t>(mesh.stages);
  o.engine.requests_logged = 3;
  o.trace_events = 4096;
  o.cache.granule = 4;
  return o;
}

void serve(EngineHarness& worker, size_t requests) {
  std::vector<std::shared_ptr<Collector>> collectors;
  for (size_t i = 0; i < requests; ++i) {
    Request r;
    for (int32_t t = 0; t < 40; ++t) r.prompt.push_back(3 + (7 * t + static_cast<int32_t>(i)) % 40);
    r.params.max_tokens = 5;
    r.params.ignore_eos = true;
    r.label = fmt::format("r{}", i);
    collectors.push_back(std::make_shared<Collector>());
    ASSERT_TRUE(worker.engine().submit(std::move(r), collectors.back()).ok());
  }
  for (const auto& c : collectors) c->wait();
}

std::vector<RankTrace> traces_of(EngineHarness& worker) {
  std::promise<Result<std::vector<RankTrace>>> told;
  worker.engine().trace(0, [&](auto traces) { told.set_value(std::move(traces)); });
  Result<std::vector<RankTrace>> traces = told.get_future().get();
  CHECK(traces.ok()) << traces.status().message();
  return traces.take();
}

TEST(RankTrace, EveryRankTellsOfEveryStep) {
  for (const Mesh mesh : {Mesh{1, 1}, Mesh{1, 2}, Mesh{2, 1}, Mesh{2, 2}}) {
    SCOPED_TRACE(fmt::format("pp {} tp {}", mesh.stages, mesh.shards));
    EngineHarness worker(traced(mesh));
    serve(worker, 4);
    const std::vector<RankTrace> traces = traces_of(worker);
    ASSERT_EQ(traces.size(), static_cast<size_t>(mesh.size()));
    std::set<uint64_t> steps_of_leader;
    for (const RankTrace& trace : traces) {
      EXPECT_EQ(trace.rank, &trace - traces.data());
      EXPECT_EQ(trace.clock_ahead_ns, 0) << "threads of one process share a clock";
      EXPECT_EQ(trace.lost_until_ns, 0);
      std::set<uint64_t> steps;
      std::map<Name, size_t> counts;
      std::vector<std::pair<int64_t, int64_t>> spans;
      for (const TraceEvent& e : trace.events) {
        if (e.kind == Kind::kSpan) spans.emplace_back(e.begin_ns, e.end_ns);
        if (e.name == Name::kStep) steps.insert(e.step);
        ++counts[e.name];
      }
      expect_nested(spans);
      if (trace.rank == 0) steps_of_leader = steps;
      EXPECT_EQ(steps, steps_of_leader);
      EXPECT_GE(steps.size(), 5u);
      EXPECT_EQ(counts[Name::kForward], steps.size());
      const int stage = mesh.coordinate(trace.rank).stage;
      EXPECT_EQ(counts[Name::kReceive] > 0, stage > 0);
      EXPECT_EQ(counts[Name::kSend] > 0, stage + 1 < mesh.stages);
      EXPECT_EQ(counts[Name::kHead] > 0, stage + 1 == mesh.stages);
      EXPECT_EQ(counts[Name::kCollect] > 0, trace.rank == 0);
      EXPECT_EQ(counts[Name::kLive] > 0, trace.rank == 0);
    }
    // A worker that has told goes on.
    serve(worker, 2);
    EXPECT_TRUE(worker.stop().ok());
  }
}

TEST(RankTrace, LooksBackAsFarAsItIsAsked) {
  EngineHarness worker(traced({1, 2}));
  serve(worker, 2);
  const int64_t between = trace_now();
  serve(worker, 1);
  std::promise<Result<std::vector<RankTrace>>> told;
  worker.engine().trace(between, [&](auto traces) { told.set_value(std::move(traces)); });
  const Result<std::vector<RankTrace>> traces = told.get_future().get();
  ASSERT_TRUE(traces.ok());
  for (const RankTrace& trace : *traces) {
    EXPECT_FALSE(trace.events.empty());
    for (const TraceEvent& e : trace.events) EXPECT_GE(e.end_ns, between);
  }
}

TEST(RankTrace, IsRefusedWhereThereIsNoRing) {
  EngineHarnessOptions options = traced({1, 1});
  options.trace_events = 0;
  EngineHarness worker(options);
  std::promise<Status> told;
  worker.engine().trace(1, [&](const auto& traces) { told.set_value(traces.status()); });
  EXPECT_EQ(told.get_future().get().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(worker.stop().ok());
  std::promise<Status> late;
  worker.engine().trace(1, [&](const auto& traces) { late.set_value(traces.status()); });
  EXPECT_EQ(late.get_future().get().code(), StatusCode::kUnavailable);
}

TEST(RequestLog, TellsTheLivesOfTheNewest) {
  EngineHarness worker(traced({2, 1}));
  const int64_t before = trace_now();
  serve(worker, 5);
  const std::vector<RequestTimeline> all = worker.engine().timelines(0, 100);
  ASSERT_EQ(all.size(), 3u) << "as many as are kept";
  for (const RequestTimeline& t : all) {
    EXPECT_TRUE(t.label.starts_with("r"));
    EXPECT_EQ(t.prompt_tokens, 40u);
    EXPECT_EQ(t.output_tokens, 5u);
    EXPECT_EQ(t.finish, FinishReason::kLength);
    EXPECT_LE(before, t.arrived_ns);
    EXPECT_LE(t.arrived_ns, t.scheduled_ns);
    EXPECT_LE(t.scheduled_ns, t.first_token_ns);
    EXPECT_LT(t.first_token_ns, t.last_token_ns);
    EXPECT_LE(t.last_token_ns, t.ended_ns);
    uint32_t tokens = 0;
    for (const RequestTimeline::Chunk& c : t.chunks) {
      tokens += c.tokens;
      EXPECT_LT(c.begin_ns, c.end_ns);
      EXPECT_LE(c.end_ns, t.first_token_ns);
    }
    EXPECT_EQ(tokens + t.cached_tokens, t.prompt_tokens);
  }
  EXPECT_EQ(worker.engine().timelines(0, 2).size(), 2u);
  EXPECT_EQ(worker.engine().timelines(trace_now(), 100).size(), 0u);
}

TEST(RequestLog, RemembersNothingWhereNothingIsKept) {
  RequestLog log(0);
  Request request;
  request.prompt = {1};
  log.arrived(1, request);
  EXPECT_TRUE(log.since(0, 10).empty());
}

}  // namespace
}  // namespace trireme::test
