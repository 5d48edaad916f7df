#include "comm/wait_word.h"

#include <algorithm>
#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trireme {
namespace {

constexpr int kSpins = 128;  // a pause is 10 to 140 cycles: two to six microseconds

void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

void futex(void* word, int operation, uint32_t value, const timespec* timeout) {
  syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
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
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(&word_, FUTEX_WAKE, INT_MAX, nullptr);
}

uint32_t WaitWord::spin(uint32_t seen) const {
  uint32_t now = load();
  for (int i = 0; i < kSpins && now == seen; ++i) {
    cpu_pause();
    now = load();
  }
  return now;
}

uint32_t WaitWord::yield() const {
  sched_yield();
  return load();
}

// While something is under way it sleeps for about a hundredth of the time it has waited already.
void WaitWord::sleep(uint32_t seen, Work work, Clock::time_point start) {
  using std::chrono::nanoseconds;
  if (work == Work::kNone) return futex(&word_, FUTEX_WAIT, seen, nullptr);
  nanoseconds nap = std::chrono::milliseconds(10);
  if (work == Work::kUnderWay) {
    nap = std::clamp<nanoseconds>((Clock::now() - start) / 100, std::chrono::microseconds(5),
                                  std::chrono::microseconds(500));
  }
  const timespec timeout{0, nap.count()};
  futex(&word_, FUTEX_WAIT, seen, &timeout);
}

}  // namespace trireme
