// Where the ranks of a group meet again and again. It may lie in memory that several processes map;
// all-zero bytes are a valid, open rendezvous. Every rank arrives once per meeting; the last one to
// arrive may do work for all before it lets the others go.
//
// INVARIANT: a meeting from which one rank returns true is one from which every rank does: closing
// (a rank leaves the group for good) fails only meetings that have not been completed.
#pragma once

#include <atomic>
#include <cstdint>

#include "comm/wait_word.h"

namespace trireme {

class Rendezvous {
  static constexpr auto kNoPoll = [] { return WaitWord::Work::kNone; };

 public:
  // kLast: all others are here and wait for release(). kWaiting: call wait(). kClosed: a rank has
  // left the group and will never come.
  enum class Arrival : uint8_t { kLast, kWaiting, kClosed };
  struct Ticket {
    Arrival arrival = Arrival::kClosed;
    uint32_t seen = 0;
  };

  Ticket arrive(int size) {
    const uint32_t seen = meetings_.load();
    if ((seen & kClosedBit) != 0) return {Arrival::kClosed, seen};
    const uint32_t before = arrived_.fetch_add(1, std::memory_order_acq_rel);
    const bool last = before + 1 == static_cast<uint32_t>(size);
    return {last ? Arrival::kLast : Arrival::kWaiting, seen};
  }

  // REQUIRES: this rank's ticket says kLast.
  void release() {
    arrived_.store(0, std::memory_order_relaxed);
    meetings_.add(kOneMeeting);
  }

  // Waits for the release; false when the rendezvous was closed instead. REQUIRES: a ticket that
  // says kWaiting. `poll` as in WaitWord::wait_past.
  template <class Poll = decltype(kNoPoll)>
  bool wait(Ticket ticket, Poll poll = kNoPoll) {
    return (meetings_.wait_past(ticket.seen, poll) ^ ticket.seen) >= kOneMeeting;
  }

  // Arrives and waits until all have arrived; false when the rendezvous was closed instead.
  template <class Poll = decltype(kNoPoll)>
  bool meet(int size, Poll poll = kNoPoll) {
    const Ticket ticket = arrive(size);
    if (ticket.arrival == Arrival::kWaiting) return wait(ticket, poll);
    if (ticket.arrival == Arrival::kLast) release();
    return ticket.arrival == Arrival::kLast;
  }

  // Called by a rank that will never arrive again.
  void close() { meetings_.set_bits(kClosedBit); }

 private:
  static constexpr uint32_t kClosedBit = 1, kOneMeeting = 2;
  alignas(64) std::atomic<uint32_t> arrived_{0};  // at the meeting that is under way
  alignas(64) WaitWord meetings_;                 // completed, times two; plus the closed bit
};

}  // namespace trireme
