#include "comm/wait_word.h"

#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trireme {
namespace {

// A pause is 10 to 140 cycles, a yield about 0.3 us when nobody else wants the core: two to six
// microseconds of spinning, then a hundred or two of yielding.
constexpr int kSpins = 128;
constexpr int kYields = 400;

void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

long futex(void* word, int operation, uint32_t value) {
  return syscall(SYS_futex, word, operation, value, nullptr, nullptr, 0);
}

}  // namespace

// Sequentially consistent on both sides: either the waker sees the sleeper counted, or the
// sleeper's futex call sees the word changed and returns at once.
void WaitWord::add(uint32_t n) {
  word_.fetch_add(n, std::memory_order_seq_cst);
  wake();
}

void WaitWord::set_bits(uint32_t bits) {
  word_.fetch_or(bits, std::memory_order_seq_cst);
  wake();
}

void WaitWord::wake() {
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(&word_, FUTEX_WAKE, INT_MAX);
}

uint32_t WaitWord::wait_past(uint32_t seen) {
  uint32_t now = load();
  for (int i = 0; i < kSpins && now == seen; ++i) {
    cpu_pause();
    now = load();
  }
  for (int i = 0; i < kYields && now == seen; ++i) {
    sched_yield();
    now = load();
  }
  if (now != seen) return now;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while ((now = load()) == seen) futex(&word_, FUTEX_WAIT, seen);
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  return now;
}

void WaitWord::pause_between_polls() { sched_yield(); }

}  // namespace trireme
