// A 32-bit word that ranks wait on until another rank changes it. It may lie in memory that several
// processes map: the wait is a futex of the shared kind, and all-zero bytes are a valid word.
//
// A wait goes through three stages, since nobody knows who else wants the core: spin (a peer on
// another core answers within a microsecond), yield (more ranks than cores: the peer needs this
// core), sleep (the peer is busy for long; a sleeping rank costs nothing). A change ends each stage
// at once.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace trireme {

class WaitWord {
 public:
  // What a poll says of the work it moves on: nothing will ever come, something may come one day
  // (looked for every ten milliseconds), something is under way (looked for often).
  enum class Work : uint8_t { kNone, kMayCome, kUnderWay };

  uint32_t load() const { return word_.load(std::memory_order_acquire); }

  // Changes the word and wakes whoever waits. What was written before is seen by who wakes.
  void add(uint32_t n);
  void set_bits(uint32_t bits);

  // Waits until the word is not `seen`, and returns it. `poll()` returns a Work and is called now
  // and then: by a rank that has other work to move on while it waits.
  template <class Poll>
  uint32_t wait_past(uint32_t seen, Poll poll) {
    uint32_t now = spin(seen);
    for (int i = 0; i < kYields && now == seen; ++i) {
      if ((i + 1) % kYieldsPerPoll == 0) poll();
      now = yield();
    }
    if (now != seen) return now;
    const Clock::time_point start = Clock::now();
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while ((now = load()) == seen) sleep(seen, poll(), start);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return now;
  }
  uint32_t wait_past(uint32_t seen) {
    return wait_past(seen, [] { return Work::kNone; });
  }

 private:
  using Clock = std::chrono::steady_clock;
  // A yield takes about 0.3 us when nobody else wants the core: a hundred or two microseconds.
  static constexpr int kYields = 400, kYieldsPerPoll = 8;

  uint32_t spin(uint32_t seen) const;
  uint32_t yield() const;
  void sleep(uint32_t seen, Work work, Clock::time_point start);
  void wake();

  std::atomic<uint32_t> word_{0};
  std::atomic<uint32_t> sleepers_{0};
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace trireme
