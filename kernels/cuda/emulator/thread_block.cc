#include "kernels/cuda/emulator/thread_block.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <ostream>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/fiber.h"
#include "kernels/cuda/emulator/tensor_core.h"

namespace trireme::emulator {
namespace {

// What names of block.h mean on this host thread. A fiber never changes its thread, so that no
// stale address of it is left behind by a switch.
ThreadBlock*& current_block() {
  thread_local ThreadBlock* block = nullptr;
  return block;
}
ThreadBlock& here() {
  ThreadBlock* block = current_block();
  CHECK(block != nullptr) << "device code runs outside of a kernel";
  return *block;
}

std::ostream& operator<<(std::ostream& out, const uint3& at) {
  return out << at.x << ", " << at.y << ", " << at.z;
}

}  // namespace

struct ThreadBlock::Thread {
  std::unique_ptr<Fiber> fiber;
  const std::function<void()>* kernel = nullptr;
  uint3 index{};
  int lane = 0;
  Stand stand = Stand::kDone;
  uint32_t mask = 0;  // of the collective
  Combine combine = nullptr;
  void* mine = nullptr;
  std::function<bool()> until;  // while it waits
  AsyncCopies copies;
  AsyncProducts products;  // of the warp, in its lane 0
};

// Those of this host thread that no block has.
class ThreadBlock::Threads {
 public:
  std::unique_ptr<Thread> take() {
    if (free_.empty()) return make();
    std::unique_ptr<Thread> thread = std::move(free_.back());
    free_.pop_back();
    return thread;
  }
  void give_back(std::unique_ptr<Thread> thread) { free_.push_back(std::move(thread)); }

 private:
  static std::unique_ptr<Thread> make() {
    auto made = std::make_unique<Thread>();
    made->fiber = std::make_unique<Fiber>([thread = made.get()] {
      for (;;) {
        (*thread->kernel)();
        thread->stand = Stand::kDone;
        thread->fiber->yield();
      }
    });
    return made;
  }

  std::vector<std::unique_ptr<Thread>> free_;
};
ThreadBlock::Threads& ThreadBlock::free_threads() {
  thread_local Threads threads;
  return threads;
}

ThreadBlock::ThreadBlock(const Launch& launch, uint3 index, std::mt19937_64* random)
    : launch_(launch),
      index_(index),
      count_(static_cast<int>(launch.block.x * launch.block.y * launch.block.z)),
      shared_(std::make_unique_for_overwrite<std::byte[]>(launch.shared_bytes)),
      order_(static_cast<size_t>(count_)) {
  std::memset(shared_.get(), 0xff, launch.shared_bytes);
  std::iota(order_.begin(), order_.end(), 0);
  if (random != nullptr) shuffle(*random);
  const dim3 block = launch.block;
  for (int t = 0; t < count_; ++t) {
    threads_.push_back(free_threads().take());
    Thread& thread = *threads_.back();
    const auto n = static_cast<unsigned int>(t);
    thread.kernel = &launch.kernel;
    thread.index = {n % block.x, n / block.x % block.y, n / (block.x * block.y)};
    thread.lane = t % kWarp;
    thread.stand = Stand::kReady;
    thread.copies = {};  // a block may end with copies on their way
    thread.products = {};
    thread.products.warp = t / kWarp;
  }
}

ThreadBlock::~ThreadBlock() {
  for (std::unique_ptr<Thread>& thread : threads_) free_threads().give_back(std::move(thread));
}

void ThreadBlock::run_ahead() {
  ahead_ = true;
  while (go_on()) {
  }
}

bool ThreadBlock::run() {
  if (std::exchange(ahead_, false)) {
    for (const int t : order_) {
      if (at(t).stand == Stand::kAwaitsPrevious) at(t).stand = Stand::kReady;
    }
  }
  return go_on();
}

// Until no thread can go on without others; then lets those go on that may. False where there are
// none: all have ended or, ahead, wait for the kernels before.
bool ThreadBlock::go_on() {
  CHECK(current_block() == nullptr) << "a kernel started a kernel";
  current_block() = this;
  blockIdx = index_;
  blockDim = launch_.block;
  gridDim = launch_.grid;
  run_warps();
  const bool more = wake_some() || announce_copies() || break_stillness() || release_barrier();
  current_block() = nullptr;
  return more;
}

// Warps in any order; lanes of a warp in any order among themselves.
void ThreadBlock::shuffle(std::mt19937_64& random) {
  std::vector<int> warps(static_cast<size_t>((count_ + kWarp - 1) / kWarp));
  std::iota(warps.begin(), warps.end(), 0);
  std::shuffle(warps.begin(), warps.end(), random);
  size_t next = 0;
  for (const int warp : warps) {
    const size_t first = next;
    for (int t = warp * kWarp; t < std::min(count_, (warp + 1) * kWarp); ++t) order_[next++] = t;
    std::shuffle(order_.begin() + static_cast<std::ptrdiff_t>(first),
                 order_.begin() + static_cast<std::ptrdiff_t>(next), random);
  }
}

// Until every thread has ended or waits for something.
void ThreadBlock::run_warps() {
  for (size_t first = 0; first < order_.size();) {
    const int warp = order_[first] / kWarp;
    size_t end = first;
    while (end < order_.size() && order_[end] / kWarp == warp) ++end;
    run_warp(first, end);
    first = end;
  }
}

void ThreadBlock::run_warp(size_t first, size_t end) {
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t i = first; i < end; ++i) {
      Thread& thread = at(order_[i]);
      if (thread.stand != Stand::kReady) continue;
      current_ = &thread;
      running_ = order_[i];
      threadIdx = thread.index;
      thread.fiber->resume();
      current_ = nullptr;
      progress = true;
    }
    for (size_t i = first; i < end; ++i) {
      if (at(order_[i]).stand == Stand::kAtCollective)
        progress = finish_collective(order_[i] / kWarp, at(order_[i])) || progress;
    }
  }
  for (size_t i = first; i < end; ++i) {
    const Stand stand = at(order_[i]).stand;
    if (stand == Stand::kWaits || stand == Stand::kAwaitsStillness ||
        stand == Stand::kAwaitsPrevious)
      return;  // its collective may come later
  }
  for (size_t i = first; i < end; ++i) {
    const Thread& thread = at(order_[i]);
    CHECK(thread.stand != Stand::kAtCollective)
        << "thread " << order_[i] << " of block " << index_ << " waits in a collective of mask "
        << thread.mask << " for lanes that have ended or stand at a barrier";
  }
}

// Lets the lanes of `one`'s collective go on if they are all there.
bool ThreadBlock::finish_collective(int warp, const Thread& one) {
  void* lanes[kWarp] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((one.mask >> lane & 1u) == 0) continue;
    const int t = warp * kWarp + lane;
    CHECK(t < count_) << "a collective's mask names lane " << lane << " of a warp that has "
                      << count_ - warp * kWarp;
    const Thread& other = at(t);
    if (other.stand != Stand::kAtCollective) return false;
    CHECK(other.mask == one.mask && other.combine == one.combine)
        << "lanes of one warp stand in different collectives";
    lanes[lane] = other.mine;
  }
  one.combine(lanes);
  for (int lane = 0; lane < kWarp; ++lane) {
    if (lanes[lane] != nullptr) at(warp * kWarp + lane).stand = Stand::kReady;
  }
  return true;
}

bool ThreadBlock::wake_some() {
  bool any = false;
  for (const int t : order_) {
    if (at(t).stand != Stand::kWaits || !at(t).until()) continue;
    at(t).stand = Stand::kReady;
    any = true;
  }
  return any;
}

// Copies that barriers are told of arrive when nothing else can go on: as late as can be.
bool ThreadBlock::announce_copies() {
  bool any = false;
  for (const int t : order_) {
    for (AsyncCopies::Announced& one : at(t).copies.announced) {
      carry_out(one.copies);
      one.tell();
      any = true;
    }
    at(t).copies.announced.clear();
  }
  return any;
}

bool ThreadBlock::break_stillness() {
  bool any = false;
  for (const int t : order_) {
    if (at(t).stand != Stand::kAwaitsStillness) continue;
    at(t).stand = Stand::kReady;
    any = true;
  }
  return any;
}

// Lets all threads go on where all that have not ended stand at the block's barrier; false when
// all have ended, or when kernels before this one must end first.
bool ThreadBlock::release_barrier() {
  if (any_stands(Stand::kAwaitsPrevious)) return false;
  for (const int t : order_) {
    CHECK(at(t).stand != Stand::kWaits) << "thread " << t << " of block " << index_
                                        << " waits at a barrier at which nobody else will arrive";
  }
  if (!any_stands(Stand::kAtBarrier)) return false;
  for (const int t : order_) {
    if (at(t).stand == Stand::kAtBarrier) at(t).stand = Stand::kReady;
  }
  return true;
}

bool ThreadBlock::any_stands(Stand stand) {
  return std::ranges::any_of(order_, [&](int t) { return at(t).stand == stand; });
}

ThreadBlock::Thread& ThreadBlock::running() const {
  CHECK(current_ != nullptr) << "device code runs outside of a kernel";
  return *current_;
}
int ThreadBlock::lane() const { return running().lane; }
AsyncCopies& ThreadBlock::copies() { return running().copies; }
AsyncProducts& ThreadBlock::products() { return at(running_ / kWarp * kWarp).products; }

unsigned ThreadBlock::shared_offset(const void* pointer) const {
  const auto offset = static_cast<const std::byte*>(pointer) - shared_.get();
  CHECK(offset >= 0 && static_cast<size_t>(offset) <= shared_bytes())
      << "an address that should lie in shared memory does not";
  return static_cast<unsigned>(offset);
}
NamedBarrier& ThreadBlock::named_barrier(int id) {
  CHECK(id > 0 && static_cast<size_t>(id) < kNamedBarriers) << "there is no barrier " << id;
  return named_[static_cast<size_t>(id)];
}

void ThreadBlock::wait(Stand stand) {
  Thread& me = running();
  me.stand = stand;
  me.fiber->yield();
}
void ThreadBlock::wait_for_previous() {
  has_waited_ = true;
  if (ahead_) wait(Stand::kAwaitsPrevious);
}
void ThreadBlock::wait_at_barrier() { wait(Stand::kAtBarrier); }
void ThreadBlock::wait_for_stillness() { wait(Stand::kAwaitsStillness); }
void ThreadBlock::wait_until(std::function<bool()> condition) {
  if (condition()) return;
  running().until = std::move(condition);
  wait(Stand::kWaits);
}
void ThreadBlock::collective(uint32_t mask, Combine combine, void* mine) {
  Thread& me = running();
  CHECK((mask >> me.lane & 1u) != 0)
      << "lane " << me.lane << " is not in the mask of its collective";
  me.mask = mask;
  me.combine = combine;
  me.mine = mine;
  wait(Stand::kAtCollective);
}

int lane() { return here().lane(); }
void block_barrier() { here().wait_at_barrier(); }
void warp_collective(uint32_t mask, Combine combine, void* mine) {
  here().collective(mask, combine, mine);
}
void wait_until(std::function<bool()> condition) { here().wait_until(std::move(condition)); }
void wait_for_stillness() { here().wait_for_stillness(); }
bool ahead_of_previous() { return here().ahead(); }
void next_may_start() { here().let_next_start(); }
void previous_done() { here().wait_for_previous(); }
AsyncCopies& async_copies() { return here().copies(); }
AsyncProducts& async_products() { return here().products(); }
NamedBarrier& named_barrier(int id) { return here().named_barrier(id); }
unsigned shared_offset(const void* pointer) { return here().shared_offset(pointer); }
void* dynamic_shared() { return here().shared(); }
size_t dynamic_shared_bytes() { return here().shared_bytes(); }

}  // namespace trireme::emulator
