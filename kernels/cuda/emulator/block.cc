#include "kernels/cuda/emulator/block.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/fiber.h"
#include "kernels/cuda/emulator/tensor_core.h"

namespace trireme::emulator {
namespace {

enum class Stand : uint8_t { kDone, kReady, kAtBarrier, kAtCollective, kWaits, kAwaitsStillness };
constexpr size_t kNamedBarriers = 16;

struct Thread {
  std::unique_ptr<Fiber> fiber;
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

// The fibers of one host thread, used again from block to block.
class Runner {
 public:
  void run(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed,
           const std::function<void()>& kernel) {
    CHECK(kernel_ == nullptr) << "a kernel started a kernel";
    kernel_ = &kernel;
    count_ = static_cast<int>(block.x * block.y * block.z);
    shared_bytes_ = shared_bytes;
    while (static_cast<int>(threads_.size()) < count_) add_thread();
    order_.resize(static_cast<size_t>(count_));
    std::iota(order_.begin(), order_.end(), 0);
    std::mt19937_64 random(seed);
    std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), 0);
    if (seed != 0) std::shuffle(blocks.begin(), blocks.end(), random);
    for (const uint64_t n : blocks) {
      if (seed != 0) shuffle(random);
      run_block(
          {static_cast<unsigned int>(n % grid.x), static_cast<unsigned int>(n / grid.x % grid.y),
           static_cast<unsigned int>(n / grid.x / grid.y)},
          grid, block);
    }
    kernel_ = nullptr;
  }

  int lane() const {
    CHECK(current_ != nullptr) << "device code runs outside of a kernel";
    return current_->lane;
  }
  AsyncCopies& copies() {
    CHECK(current_ != nullptr) << "device code runs outside of a kernel";
    return current_->copies;
  }
  AsyncProducts& products() {
    CHECK(current_ != nullptr) << "device code runs outside of a kernel";
    return at(running_ / kWarp * kWarp).products;
  }
  void* shared() { return shared_.get(); }
  size_t shared_bytes() const { return shared_bytes_; }
  unsigned shared_offset(const void* pointer) const {
    const auto offset = static_cast<const std::byte*>(pointer) - shared_.get();
    CHECK(offset >= 0 && static_cast<size_t>(offset) <= shared_bytes_)
        << "an address that should lie in shared memory does not";
    return static_cast<unsigned>(offset);
  }
  NamedBarrier& named_barrier(int id) {
    CHECK(id > 0 && static_cast<size_t>(id) < kNamedBarriers) << "there is no barrier " << id;
    return named_[static_cast<size_t>(id)];
  }

  void wait(Stand stand) {
    Thread* me = current_;
    me->stand = stand;
    me->fiber->yield();
  }
  void wait_for_stillness() { wait(Stand::kAwaitsStillness); }
  void wait_until(std::function<bool()> condition) {
    if (condition()) return;
    current_->until = std::move(condition);
    wait(Stand::kWaits);
  }
  void collective(uint32_t mask, Combine combine, void* mine) {
    Thread* me = current_;
    CHECK((mask >> me->lane & 1u) != 0)
        << "lane " << me->lane << " is not in the mask of its collective";
    me->mask = mask;
    me->combine = combine;
    me->mine = mine;
    wait(Stand::kAtCollective);
  }

 private:
  void add_thread() {
    threads_.push_back(std::make_unique<Thread>());
    Thread* thread = threads_.back().get();
    thread->fiber = std::make_unique<Fiber>([this, thread] {
      for (;;) {
        (*kernel_)();
        thread->stand = Stand::kDone;
        thread->fiber->yield();
      }
    });
  }

  // Warps in any order; lanes of a warp in any order among themselves.
  void shuffle(std::mt19937_64& random) {
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

  void run_block(uint3 index, dim3 grid, dim3 block) {
    shared_ = std::make_unique<std::byte[]>(shared_bytes_);
    std::memset(shared_.get(), 0xff, shared_bytes_);
    for (int t = 0; t < count_; ++t) {
      Thread& thread = *threads_[static_cast<size_t>(t)];
      const auto n = static_cast<unsigned int>(t);
      thread.index = {n % block.x, n / block.x % block.y, n / (block.x * block.y)};
      thread.lane = t % kWarp;
      thread.stand = Stand::kReady;
      thread.copies = {};  // a block may end with copies on their way
      thread.products = {};
      thread.products.warp = t / kWarp;
    }
    for (NamedBarrier& barrier : named_) barrier = {};
    blockIdx = index;
    blockDim = block;
    gridDim = grid;
    do {
      run_warps();
    } while (wake_some() || announce_copies() || break_stillness() || release_barrier());
    shared_.reset();
  }

  // Until every thread has ended or waits for something.
  void run_warps() {
    for (size_t first = 0; first < order_.size();) {
      const int warp = order_[first] / kWarp;
      size_t end = first;
      while (end < order_.size() && order_[end] / kWarp == warp) ++end;
      run_warp(first, end);
      first = end;
    }
  }

  bool wake_some() {
    bool any = false;
    for (const int t : order_) {
      if (at(t).stand != Stand::kWaits || !at(t).until()) continue;
      at(t).stand = Stand::kReady;
      any = true;
    }
    return any;
  }

  bool break_stillness() {
    bool any = false;
    for (const int t : order_) {
      if (at(t).stand != Stand::kAwaitsStillness) continue;
      at(t).stand = Stand::kReady;
      any = true;
    }
    return any;
  }

  // Copies that barriers are told of arrive when nothing else can go on: as late as can be.
  bool announce_copies() {
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

  // Lets all threads go on where all that have not ended stand at the block's barrier; false when
  // all have ended.
  bool release_barrier() {
    const auto stands = [&](Stand stand) {
      return [this, stand](int t) { return at(t).stand == stand; };
    };
    const auto waits = std::ranges::find_if(order_, stands(Stand::kWaits));
    CHECK(waits == order_.end()) << "thread " << *waits << " of block " << blockIdx.x << ", "
                                 << blockIdx.y << ", " << blockIdx.z
                                 << " waits at a barrier at which nobody else will arrive";
    if (std::ranges::none_of(order_, stands(Stand::kAtBarrier))) return false;
    for (const int t : order_) {
      if (at(t).stand == Stand::kAtBarrier) at(t).stand = Stand::kReady;
    }
    return true;
  }

  void run_warp(size_t first, size_t end) {
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
      if (stand == Stand::kWaits || stand == Stand::kAwaitsStillness)
        return;  // its collective may come later
    }
    for (size_t i = first; i < end; ++i) {
      const Thread& thread = at(order_[i]);
      CHECK(thread.stand != Stand::kAtCollective)
          << "thread " << order_[i] << " of block " << blockIdx.x << ", " << blockIdx.y << ", "
          << blockIdx.z << " waits in a collective of mask " << thread.mask
          << " for lanes that have ended or stand at a barrier";
    }
  }

  // Lets the lanes of `one`'s collective go on if they are all there.
  bool finish_collective(int warp, const Thread& one) {
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

  Thread& at(int t) { return *threads_[static_cast<size_t>(t)]; }

  const std::function<void()>* kernel_ = nullptr;
  int count_ = 0;
  size_t shared_bytes_ = 0;
  std::unique_ptr<std::byte[]> shared_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<int> order_;  // in which threads run; a warp's lie together
  std::array<NamedBarrier, kNamedBarriers> named_;
  Thread* current_ = nullptr;
  int running_ = 0;  // its number
};

// Fibers cannot move between host threads. A switch may not leave a stale address of a thread_local
// behind, but fibers here never change their thread.
Runner& runner() {
  thread_local Runner runner;
  return runner;
}

}  // namespace

int lane() { return runner().lane(); }
void block_barrier() { runner().wait(Stand::kAtBarrier); }
void warp_collective(uint32_t mask, Combine combine, void* mine) {
  runner().collective(mask, combine, mine);
}
void wait_until(std::function<bool()> condition) { runner().wait_until(std::move(condition)); }
void wait_for_stillness() { runner().wait_for_stillness(); }
AsyncCopies& async_copies() { return runner().copies(); }
AsyncProducts& async_products() { return runner().products(); }
NamedBarrier& named_barrier(int id) { return runner().named_barrier(id); }
unsigned shared_offset(const void* pointer) { return runner().shared_offset(pointer); }
void* dynamic_shared() { return runner().shared(); }
size_t dynamic_shared_bytes() { return runner().shared_bytes(); }

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed,
              const std::function<void()>& kernel) {
  runner().run(grid, block, shared_bytes, seed, kernel);
}

}  // namespace trireme::emulator
