#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/cpu/features.h"

namespace trireme {
namespace {

// Longer than the serial work between two forks of a decode step, far shorter than a time slice.
constexpr int64_t kSpinNs = 100'000;
// Where there are more threads than cores a spinning thread keeps the one it waits for from
// running: only long enough to catch news that is already on its way.
constexpr int64_t kCrowdedSpinNs = 5'000;
constexpr int kPausesPerLook = 8;
// Between two looks lies less than a microsecond, unless somebody else has had the core meanwhile.
constexpr int64_t kInterruptedNs = 30'000;
constexpr int64_t kCrowdedForNs = 20'000'000;

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

void futex_wait(std::atomic<uint32_t>& word, uint32_t while_value) {
  (void)syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, while_value,
                nullptr, nullptr, 0);  // any return, spurious ones too: the caller looks again
}
void futex_wake_all(std::atomic<uint32_t>& word) {
  (void)syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX,
                nullptr, nullptr, 0);
}

void pause() {
#ifdef TRIREME_X86
  __builtin_ia32_pause();
#endif
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void bind_to(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  (void)pthread_setaffinity_np(thread, sizeof(set), &set);  // a wish: it works without, too
}

int core_of(int worker, int first_core) {
  const std::vector<int>& ids = allowed_core_ids();
  return ids[static_cast<size_t>(first_core + worker) % ids.size()];
}

}  // namespace

IndexRange split(int64_t n, int parts, int index, int64_t grain) {
  CHECK(n >= 0 && parts >= 1 && index >= 0 && index < parts && grain >= 1);
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t begin = grains * index / parts * grain;
  const int64_t end = grains * (index + 1) / parts * grain;
  return {std::min(begin, n), std::min(end, n)};
}

ThreadPool::ThreadPool(int threads, bool pin, int first_core)
    : size_(threads),
      pin_(pin && threads > 1 && threads <= allowed_cores()),
      first_core_(first_core),
      spin_ns_(threads <= allowed_cores() ? kSpinNs : kCrowdedSpinNs),
      turns_(static_cast<size_t>(threads)) {
  CHECK(threads >= 1 && first_core >= 0) << threads << " threads from core " << first_core;
  threads_.reserve(static_cast<size_t>(size_ - 1));
  for (int worker = 1; worker < size_; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
    if (pin_) bind_to(threads_.back().native_handle(), core_of(worker, first_core_));
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(epoch_);
  for (std::thread& thread : threads_) thread.join();
  if (caller_pinned_ && pthread_equal(caller_, pthread_self()) != 0) {
    (void)pthread_setaffinity_np(caller_, sizeof(caller_cores_), &caller_cores_);
  }
}

void ThreadPool::pin_caller() {
  const pthread_t self = pthread_self();
  if (caller_pinned_ && pthread_equal(caller_, self) != 0) return;
  // A former caller keeps its core: it may have ended, and its handle with it.
  caller_ = self;
  caller_pinned_ = pthread_getaffinity_np(self, sizeof(caller_cores_), &caller_cores_) == 0;
  bind_to(self, core_of(0, first_core_));
}

// Looks for done() until it comes true or the patience ends. Returns whether it came true.
template <class Done>
bool ThreadPool::spin_until(Patience& patience, Done done) const {
  if (done()) return true;
  const int64_t begin = now_ns();
  for (int64_t last = begin;;) {
    for (int i = 0; i < kPausesPerLook; ++i) {
      pause();
      if (done()) return true;
    }
    const int64_t now = now_ns();
    if (now - last > kInterruptedNs) patience.crowded_until_ns = now + kCrowdedForNs;
    last = now;
    const int64_t budget_ns =
        now < patience.crowded_until_ns ? std::min(spin_ns_, kCrowdedSpinNs) : spin_ns_;
    if (now - begin > budget_ns) return false;
  }
}

// Whether this thread, and no other, does the worker's part of that run. The caller leaves no part
// that nobody has taken, so who takes one does it while run() waits. A worker that comes late,
// maybe when several runs have gone by, finds that, and may not touch what those were about.
bool ThreadPool::take_part(int worker, uint32_t epoch) {
  std::atomic<uint32_t>& turn = turns_[static_cast<size_t>(worker)].epoch;
  uint32_t last = turn.load(std::memory_order_relaxed);
  const bool late = static_cast<int32_t>(epoch - last) <= 0;  // the count may wrap around
  return !late && turn.compare_exchange_strong(last, epoch, std::memory_order_acq_rel);
}

// The hand-shake. A worker that is about to sleep raises sleepers_ and then looks at epoch_; the
// caller raises epoch_ and then looks at sleepers_. Both in the one order of seq_cst operations, so
// one of them sees the other, and a wake-up is never lost nor paid for when nobody sleeps. The same
// with pending_ and caller_asleep_ the other way round.
void ThreadPool::run_all(Call call, void* context) {
  if (pin_) pin_caller();
  call_ = call;
  context_ = context;
  pending_.store(static_cast<uint32_t>(size_ - 1), std::memory_order_relaxed);
  const uint32_t epoch = epoch_.fetch_add(1, std::memory_order_seq_cst) + 1;
  if (sleepers_.load(std::memory_order_seq_cst) != 0) futex_wake_all(epoch_);

  call(context, 0);

  for (int worker = 1; worker < size_; ++worker) {
    if (!take_part(worker, epoch)) continue;
    call(context, worker);
    pending_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (spin_until(caller_patience_, [&] { return pending_.load(std::memory_order_acquire) == 0; }))
    return;
  caller_asleep_.store(1, std::memory_order_seq_cst);
  for (;;) {
    const uint32_t pending = pending_.load(std::memory_order_seq_cst);
    if (pending == 0) break;
    futex_wait(pending_, pending);
  }
  caller_asleep_.store(0, std::memory_order_relaxed);
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  Patience patience;
  for (;;) {
    const auto news = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(patience, news)) {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      while (epoch_.load(std::memory_order_seq_cst) == seen) futex_wait(epoch_, seen);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = epoch_.load(std::memory_order_acquire);  // some may have gone by: the caller did them
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!take_part(worker, seen)) continue;
    call_(context_, worker);
    if (pending_.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
        caller_asleep_.load(std::memory_order_seq_cst) != 0) {
      futex_wake_all(pending_);
    }
  }
}

}  // namespace trireme
