#include "runtime/engine/rank_trace.h"

#include <cstdlib>
#include <limits>

#include "comm/wire/bytes.h"
#include "comm/wire/messenger.h"

namespace trireme {
namespace {

constexpr int kClockRounds = 8;
constexpr size_t kEventBytes = 32;

Result<int64_t> read_clock(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const auto clock = in.number<int64_t>();
  if (Status s = in.finish("a reading of a clock"); !s.ok()) return s;
  return clock;
}

std::vector<std::byte> write_clock(int64_t clock) {
  ByteWriter out;
  out.number(clock);
  return {out.bytes().begin(), out.bytes().end()};
}

}  // namespace

std::vector<std::byte> write_trace_cut(const TraceRing::Cut& cut) {
  ByteWriter out;
  out.number(cut.lost_until_ns);
  out.number(static_cast<uint32_t>(cut.events.size()));
  for (const TraceEvent& e : cut.events) {
    out.number(static_cast<uint8_t>(e.kind));
    out.number(static_cast<uint8_t>(e.name));
    out.number(e.aux);
    out.number(e.value);
    out.number(e.step);
    out.number(e.begin_ns);
    out.number(e.end_ns);
  }
  return {out.bytes().begin(), out.bytes().end()};
}

Result<TraceRing::Cut> read_trace_cut(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  TraceRing::Cut cut;
  cut.lost_until_ns = in.number<int64_t>();
  bool known = true;
  for (uint32_t n = in.count(kEventBytes); n > 0; --n) {
    TraceEvent e;
    e.kind = static_cast<TraceEvent::Kind>(in.number<uint8_t>());
    e.name = static_cast<TraceEvent::Name>(in.number<uint8_t>());
    e.aux = in.number<uint16_t>();
    e.value = in.number<uint32_t>();
    e.step = in.number<uint64_t>();
    e.begin_ns = in.number<int64_t>();
    e.end_ns = in.number<int64_t>();
    known = known && e.kind <= TraceEvent::Kind::kCounter && e.name < TraceEvent::Name::kCount &&
            e.begin_ns <= e.end_ns;
    cut.events.push_back(e);
  }
  if (Status s = in.finish("a trace"); !s.ok()) return s;
  if (!known) return data_loss("a trace has an event that this version does not know");
  return cut;
}

Status send_trace(Communicator& world, const TraceRing* ring) {
  for (int round = 0; round < kClockRounds; ++round) {
    const auto asked = receive_message(world, 0);
    if (!asked.ok()) return asked.status();
    if (Status s = send_message(world, 0, write_clock(trace_now())); !s.ok()) return s;
  }
  const auto bytes = receive_message(world, 0);
  if (!bytes.ok()) return bytes.status();
  const Result<int64_t> since_ns = read_clock(*bytes);
  if (!since_ns.ok()) return since_ns.status();
  const TraceRing::Cut cut = ring == nullptr ? TraceRing::Cut{} : ring->since(*since_ns);
  return send_message(world, 0, write_trace_cut(cut));
}

Result<RankTrace> receive_trace(Communicator& world, int rank, int64_t since_ns) {
  RankTrace trace;
  trace.rank = rank;
  int64_t quickest = std::numeric_limits<int64_t>::max();
  for (int round = 0; round < kClockRounds; ++round) {
    const int64_t asked = trace_now();
    if (Status s = send_message(world, rank, write_clock(asked)); !s.ok()) return s;
    const auto bytes = receive_message(world, rank);
    if (!bytes.ok()) return bytes.status();
    const int64_t answered = trace_now();
    const Result<int64_t> there = read_clock(*bytes);
    if (!there.ok()) return there.status();
    if (answered - asked >= quickest) continue;
    quickest = answered - asked;
    trace.clock_ahead_ns = *there - (asked + quickest / 2);
  }
  // Clocks that differ by less than the way takes may be the same: those of one host are.
  if (std::abs(trace.clock_ahead_ns) <= quickest / 2) trace.clock_ahead_ns = 0;
  if (Status s = send_message(world, rank, write_clock(since_ns + trace.clock_ahead_ns)); !s.ok())
    return s;
  const auto bytes = receive_message(world, rank);
  if (!bytes.ok()) return bytes.status();
  Result<TraceRing::Cut> cut = read_trace_cut(*bytes);
  if (!cut.ok()) return cut.status();
  trace.events = std::move(cut->events);
  for (TraceEvent& e : trace.events) {
    e.begin_ns -= trace.clock_ahead_ns;
    e.end_ns -= trace.clock_ahead_ns;
  }
  trace.lost_until_ns = cut->lost_until_ns == 0 ? 0 : cut->lost_until_ns - trace.clock_ahead_ns;
  return trace;
}

}  // namespace trireme
