// One block of a kernel on the host: a fiber for each CUDA thread, which gives way at barriers and
// warp collectives only. What a GPU does silently wrong, or hangs in, ends the program with a
// message here: a barrier that some threads never reach, a collective that lanes of a warp enter
// differently.
//
// Belongs to the host thread that made it, whose fibers it takes and gives back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/emulator/async_work.h"
#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/launches.h"

namespace trireme::emulator {

class ThreadBlock {
 public:
  // `launch` outlives it. Threads run in an order that `random` says, or, where it is null, in
  // ascending order.
  ThreadBlock(const Launch& launch, uint3 index, std::mt19937_64* random);
  ~ThreadBlock();  // when all threads have ended
  ThreadBlock(const ThreadBlock&) = delete;
  ThreadBlock& operator=(const ThreadBlock&) = delete;

  // While kernels before this one run: goes on until nothing can without them. What threads have
  // asked of global memory by then they are given as it is now.
  void run_ahead();
  // Afterwards: until each thread has ended or waits for others. False when all have ended.
  bool run();

  bool next_may_start() const { return next_may_start_; }  // some thread has said so
  bool has_waited() const { return has_waited_; }          // some thread, for the kernels before

  // What the thread that runs may ask for.
  int lane() const;
  AsyncCopies& copies();
  AsyncProducts& products();  // of its warp
  void* shared() { return shared_.get(); }
  size_t shared_bytes() const { return launch_.shared_bytes; }
  unsigned shared_offset(const void* pointer) const;
  NamedBarrier& named_barrier(int id);
  bool ahead() const { return ahead_; }
  void let_next_start() { next_may_start_ = true; }
  void wait_for_previous();
  void wait_at_barrier();
  void wait_for_stillness();
  void wait_until(std::function<bool()> condition);
  void collective(uint32_t mask, Combine combine, void* mine);

 private:
  enum class Stand : uint8_t {
    kDone,
    kReady,
    kAtBarrier,
    kAtCollective,
    kWaits,
    kAwaitsStillness,
    kAwaitsPrevious,
  };
  struct Thread;
  class Threads;
  static constexpr size_t kNamedBarriers = 16;

  static Threads& free_threads();
  void shuffle(std::mt19937_64& random);
  bool go_on();
  void run_warps();
  void run_warp(size_t first, size_t end);
  bool finish_collective(int warp, const Thread& one);
  bool wake_some();
  bool announce_copies();
  bool break_stillness();
  bool release_barrier();
  bool any_stands(Stand stand);
  void wait(Stand stand);
  Thread& running() const;
  Thread& at(int t) { return *threads_[static_cast<size_t>(t)]; }

  const Launch& launch_;
  const uint3 index_;
  const int count_;  // of threads
  std::unique_ptr<std::byte[]> shared_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<int> order_;  // in which threads run; a warp's lie together
  std::array<NamedBarrier, kNamedBarriers> named_;
  Thread* current_ = nullptr;
  int running_ = 0;  // its number
  bool ahead_ = false;
  bool next_may_start_ = false;
  bool has_waited_ = false;
};

}  // namespace trireme::emulator
