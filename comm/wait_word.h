// A 32-bit word that ranks wait on until another rank changes it. It may lie in memory that several
// processes map: the wait is a futex of the shared kind, and all-zero bytes are a valid word.
//
// A wait goes through three stages, since nobody knows who else wants the core: spin (a peer on
// another core answers within a microsecond), yield (more ranks than cores: the peer needs this
// core), sleep (the peer is busy for long; a sleeping rank costs nothing).
#pragma once

#include <atomic>
#include <cstdint>

namespace trireme {

class WaitWord {
 public:
  uint32_t load() const { return word_.load(std::memory_order_acquire); }

  // Changes the word and wakes whoever waits. What was written before is seen by who wakes.
  void add(uint32_t n);
  void set_bits(uint32_t bits);

  // Waits until the word is not `seen`, and returns it.
  uint32_t wait_past(uint32_t seen);

  // The same for a waiter that has other work: `poll()` is called again and again, and as long as
  // it returns true the wait does not sleep.
  template <class Poll>
  uint32_t wait_past(uint32_t seen, Poll poll) {
    while (poll()) {
      if (const uint32_t now = load(); now != seen) return now;
      pause_between_polls();
    }
    return wait_past(seen);
  }

 private:
  static void pause_between_polls();
  void wake();

  std::atomic<uint32_t> word_{0};
  std::atomic<uint32_t> sleepers_{0};
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace trireme
