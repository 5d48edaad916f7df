// The traces of all ranks of a worker, on the clock of its leader.
//
// After a message of kind kTrace the leader and one follower after another talk alone: a few
// rounds of the clock, of which the quickest tells how far the clocks are apart; then the leader
// says since when, on the follower's clock, and gets the events.
#pragma once

#include <span>
#include <vector>

#include "comm/communicator.h"
#include "runtime/engine/trace_ring.h"

namespace trireme {

struct RankTrace {
  int rank = 0;
  std::vector<TraceEvent> events;  // on the leader's clock, in the order in which they ended
  int64_t lost_until_ns = 0;       // TraceRing::Cut
  int64_t clock_ahead_ns = 0;      // the rank's clock before it was moved; 0: no telling them apart
};

// The follower's part. `ring` may be null: nothing.
Status send_trace(Communicator& world, const TraceRing* ring);
// The leader's part: what ended at or after `since_ns` of its own clock.
Result<RankTrace> receive_trace(Communicator& world, int rank, int64_t since_ns);

// A cut as bytes, and back: kDataLoss where they are none.
std::vector<std::byte> write_trace_cut(const TraceRing::Cut& cut);
Result<TraceRing::Cut> read_trace_cut(std::span<const std::byte> bytes);

}  // namespace trireme
