// Fork and join for the loops of one CPU device.
//
// Who calls it: kernels/cpu, from the one thread that runs a rank's steps (the caller). A decode
// step forks some two hundred times for a few microseconds each, so workers spin briefly before
// they sleep; a pool that is idle sleeps and burns nothing.
//
// Other processes may want the same cores: then a worker gets its core a time slice late, some
// milliseconds, a hundred times what a fork takes. Three things keep a step from waiting so:
//   - a caller that is done takes the parts that no worker has begun;
//   - nobody yields while it looks for news: since Linux 6.6 a thread that yields gives its slice
//     away, whatever is left of it, so that one look in vain costs milliseconds;
//   - who is interrupted while it spins knows that the core is wanted, and sleeps sooner for a
//     while: a sleeper keeps its share of the core, and the busy process runs meanwhile.
// scripts/bench thread_pool measures it beside busy processes.
//
// INVARIANT: between two calls of run() no worker touches anything of the caller's.
// INVARIANT: a pool of size 1 starts no thread and never synchronises.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include <pthread.h>
#include <sched.h>

namespace trireme {

struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool empty() const { return begin >= end; }
};

// Part `index` of [0, n) cut into `parts` contiguous ranges that begin at multiples of `grain` and
// differ by at most one grain; some are empty where n is small.
// REQUIRES: n >= 0, parts >= 1, 0 <= index < parts, grain >= 1.
IndexRange split(int64_t n, int parts, int index, int64_t grain = 1);

class ThreadPool {
 public:
  // `threads` workers, the caller of run() being worker 0. With `pin`, worker i is bound to the
  // (first_core + i)-th of the allowed cores, the calling thread included while the pool lives,
  // unless there is one worker only or more workers than cores: then the scheduler knows better.
  // REQUIRES: threads >= 1, first_core >= 0.
  explicit ThreadPool(int threads, bool pin = false, int first_core = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls f(worker) once for each worker in [0, size()): 0 on the caller, each other one on its own
  // thread, or on the caller's after f(0), where its thread has not begun by then. Returns when all
  // have returned, and what they wrote is visible to the caller.
  // REQUIRES: called by one thread at a time, not from within f; f does not throw.
  template <class F>
  void run(F&& f) {
    if (size_ == 1) {
      f(0);
      return;
    }
    run_all([](void* context,
               int worker) { (*static_cast<std::remove_reference_t<F>*>(context))(worker); },
            const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Call = void (*)(void* context, int worker);

  // How long a thread looks for news before it sleeps.
  struct Patience {
    int64_t crowded_until_ns = 0;  // the core was wanted by others a while ago
  };
  // The last run in which somebody took a worker's part. One cache line each.
  struct alignas(64) Turn {
    std::atomic<uint32_t> epoch{0};
  };

  void run_all(Call call, void* context);
  bool take_part(int worker, uint32_t epoch);
  template <class Done>
  bool spin_until(Patience& patience, Done done) const;
  void work(int worker);
  void pin_caller();

  const int size_;
  const bool pin_;
  const int first_core_;
  const int64_t spin_ns_;  // how long to look for news before sleeping

  Call call_ = nullptr;  // written before epoch_ is raised, read by who has taken a part of it
  void* context_ = nullptr;
  std::atomic<bool> stop_{false};
  std::vector<Turn> turns_;   // by worker
  Patience caller_patience_;  // of whoever calls

  // One cache line each: workers read epoch_, finish on pending_.
  alignas(64) std::atomic<uint32_t> epoch_{0};     // raised once per run()
  alignas(64) std::atomic<uint32_t> sleepers_{0};  // workers asleep, or about to be, on epoch_
  alignas(64) std::atomic<uint32_t> pending_{0};   // parts of this run that are not done
  alignas(64) std::atomic<uint32_t> caller_asleep_{0};

  std::vector<std::thread> threads_;
  bool caller_pinned_ = false;
  pthread_t caller_{};        // whom pin_caller() bound
  cpu_set_t caller_cores_{};  // and what it might use before
};

}  // namespace trireme
