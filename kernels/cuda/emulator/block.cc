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

enum class Stand : uint8_t {
  kDone,
  kReady,
  kAtBarrier,
  kAtCollective,
  kWaits,            // for another thread of the block
  kWaitsForAnother,  // block of the grid
  kAwaitsStillness,
};
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

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  const std::function<void()>* kernel = nullptr;
};

// A block that runs or waits for others. Its fibers are used again for the next block.
class Block {
 public:
  void begin(const Launch& launch, uint64_t number, std::vector<int> order) {
    launch_ = &launch;
    const dim3 grid = launch.grid, block = launch.block;
    index_ = {static_cast<unsigned int>(number % grid.x),
              static_cast<unsigned int>(number / grid.x % grid.y),
              static_cast<unsigned int>(number / grid.x / grid.y)};
    order_ = std::move(order);
    shared_ = std::make_unique<std::byte[]>(launch.shared_bytes);
    std::memset(shared_.get(), 0xff, launch.shared_bytes);
    while (threads_.size() < order_.size()) add_thread();
    for (int t = 0; t < count(); ++t) {
      Thread& thread = at(t);
      const auto n = static_cast<unsigned int>(t);
      thread.index = {n % block.x, n / block.x % block.y, n / (block.x * block.y)};
      thread.lane = t % kWarp;
      thread.stand = Stand::kReady;
      thread.copies = {};  // a block may end with copies on their way
      thread.products = {};
      thread.products.warp = t / kWarp;
    }
    for (NamedBarrier& barrier : named_) barrier = {};
  }

  // Runs until all threads have ended or wait for another block. False: none could go on at all.
  bool go_on() {
    blockIdx = index_;
    blockDim = launch_->block;
    gridDim = launch_->grid;
    bool any = false;
    do {
      any = run_warps() || any;
    } while (wake_some() || announce_copies() || break_stillness() || release_barrier());
    return any;
  }
  bool ended() const {
    return std::ranges::all_of(order_, [this](int t) { return at(t).stand == Stand::kDone; });
  }
  void end() { shared_.reset(); }

  int lane() const { return current().lane; }
  AsyncCopies& copies() { return current().copies; }
  AsyncProducts& products() {
    (void)current();
    return at(running_ / kWarp * kWarp).products;
  }
  void* shared() { return shared_.get(); }
  size_t shared_bytes() const { return launch_->shared_bytes; }
  unsigned shared_offset(const void* pointer) const {
    const auto offset = static_cast<const std::byte*>(pointer) - shared_.get();
    CHECK(offset >= 0 && static_cast<size_t>(offset) <= shared_bytes())
        << "an address that should lie in shared memory does not";
    return static_cast<unsigned>(offset);
  }
  NamedBarrier& named_barrier(int id) {
    CHECK(id > 0 && static_cast<size_t>(id) < kNamedBarriers) << "there is no barrier " << id;
    return named_[static_cast<size_t>(id)];
  }

  void wait(Stand stand) {
    Thread& me = current();
    me.stand = stand;
    me.fiber->yield();
  }
  void wait_until(Stand stand, std::function<bool()> condition) {
    if (condition()) return;
    current().until = std::move(condition);
    wait(stand);
  }
  void collective(uint32_t mask, Combine combine, void* mine) {
    Thread& me = current();
    CHECK((mask >> me.lane & 1u) != 0)
        << "lane " << me.lane << " is not in the mask of its collective";
    me.mask = mask;
    me.combine = combine;
    me.mine = mine;
    wait(Stand::kAtCollective);
  }

 private:
  int count() const { return static_cast<int>(order_.size()); }
  Thread& current() const {
    CHECK(current_ != nullptr) << "device code runs outside of a kernel";
    return *current_;
  }

  void add_thread() {
    threads_.push_back(std::make_unique<Thread>());
    Thread* thread = threads_.back().get();
    thread->fiber = std::make_unique<Fiber>([this, thread] {
      for (;;) {
        (*launch_->kernel)();
        thread->stand = Stand::kDone;
        thread->fiber->yield();
      }
    });
  }

  // Until every thread has ended or waits for something; false where all did from the start.
  bool run_warps() {
    bool any = false;
    for (size_t first = 0; first < order_.size();) {
      const int warp = order_[first] / kWarp;
      size_t end = first;
      while (end < order_.size() && order_[end] / kWarp == warp) ++end;
      any = run_warp(first, end) || any;
      first = end;
    }
    return any;
  }

  bool wake_some() {
    bool any = false;
    for (const int t : order_) {
      const Stand stand = at(t).stand;
      if (stand != Stand::kWaits && stand != Stand::kWaitsForAnother) continue;
      if (!at(t).until()) continue;
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
  // all have ended, or one of them waits for another block.
  bool release_barrier() {
    const auto stands = [&](Stand stand) {
      return [this, stand](int t) { return at(t).stand == stand; };
    };
    if (std::ranges::any_of(order_, stands(Stand::kWaitsForAnother))) return false;
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

  // False where no thread of it could go on.
  bool run_warp(size_t first, size_t end) {
    bool any = false;
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
        progress = any = true;
      }
      for (size_t i = first; i < end; ++i) {
        if (at(order_[i]).stand == Stand::kAtCollective)
          progress = finish_collective(order_[i] / kWarp, at(order_[i])) || progress;
      }
    }
    for (size_t i = first; i < end; ++i) {
      const Stand stand = at(order_[i]).stand;
      if (stand == Stand::kWaits || stand == Stand::kWaitsForAnother ||
          stand == Stand::kAwaitsStillness)
        return any;  // its collective may come later
    }
    for (size_t i = first; i < end; ++i) {
      const Thread& thread = at(order_[i]);
      CHECK(thread.stand != Stand::kAtCollective)
          << "thread " << order_[i] << " of block " << blockIdx.x << ", " << blockIdx.y << ", "
          << blockIdx.z << " waits in a collective of mask " << thread.mask
          << " for lanes that have ended or stand at a barrier";
    }
    return any;
  }

  // Lets the lanes of `one`'s collective go on if they are all there.
  bool finish_collective(int warp, const Thread& one) {
    void* lanes[kWarp] = {};
    for (int lane = 0; lane < kWarp; ++lane) {
      if ((one.mask >> lane & 1u) == 0) continue;
      const int t = warp * kWarp + lane;
      CHECK(t < count()) << "a collective's mask names lane " << lane << " of a warp that has "
                         << count() - warp * kWarp;
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

  Thread& at(int t) const { return *threads_[static_cast<size_t>(t)]; }

  const Launch* launch_ = nullptr;
  uint3 index_{};
  std::unique_ptr<std::byte[]> shared_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<int> order_;  // in which threads run; a warp's lie together
  std::array<NamedBarrier, kNamedBarriers> named_;
  Thread* current_ = nullptr;
  int running_ = 0;  // its number
};

// What runs on one host thread.
class Runner {
 public:
  // Blocks run one after the other, but for those that wait for others: they stand aside until the
  // others have begun, and then take turns.
  void run(const Launch& launch, uint64_t seed, int at_once) {
    CHECK(running_ == nullptr) << "a kernel started a kernel";
    std::mt19937_64 random(seed);
    std::vector<uint64_t> numbers(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (seed != 0) std::shuffle(numbers.begin(), numbers.end(), random);
    std::vector<std::unique_ptr<Block>> waiting;
    for (const uint64_t number : numbers) {
      std::unique_ptr<Block> block = take_block();
      block->begin(launch, number, thread_order(launch.block, seed, random));
      (void)go_on(*block);
      if (block->ended()) {
        leave(std::move(block));
      } else {
        waiting.push_back(std::move(block));
      }
      CHECK(static_cast<int>(waiting.size()) <= at_once)
          << "blocks wait for others that no multiprocessor has room for: " << numbers.size()
          << " blocks, " << at_once << " multiprocessors";
    }
    while (!waiting.empty()) {
      bool any = false;
      for (std::unique_ptr<Block>& block : waiting) {
        any = go_on(*block) || any;
        if (block->ended()) leave(std::move(block));
      }
      CHECK(any) << "blocks wait for what no block will do";
      std::erase(waiting, nullptr);
    }
  }

  Block& block() {
    CHECK(running_ != nullptr) << "device code runs outside of a kernel";
    return *running_;
  }

 private:
  bool go_on(Block& block) {
    running_ = &block;
    const bool any = block.go_on();
    running_ = nullptr;
    return any;
  }
  std::unique_ptr<Block> take_block() {
    if (idle_.empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> block = std::move(idle_.back());
    idle_.pop_back();
    return block;
  }
  void leave(std::unique_ptr<Block> block) {
    block->end();
    idle_.push_back(std::move(block));
  }

  // Warps in any order; lanes of a warp in any order among themselves. Seed 0: ascending.
  static std::vector<int> thread_order(dim3 block, uint64_t seed, std::mt19937_64& random) {
    const auto count = static_cast<int>(block.x * block.y * block.z);
    std::vector<int> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    if (seed == 0) return order;
    std::vector<int> warps(static_cast<size_t>((count + kWarp - 1) / kWarp));
    std::iota(warps.begin(), warps.end(), 0);
    std::shuffle(warps.begin(), warps.end(), random);
    auto next = order.begin();
    for (const int warp : warps) {
      const auto first = next;
      for (int t = warp * kWarp; t < std::min(count, (warp + 1) * kWarp); ++t) *next++ = t;
      std::shuffle(first, next, random);
    }
    return order;
  }

  Block* running_ = nullptr;
  std::vector<std::unique_ptr<Block>> idle_;
};

// Fibers cannot move between host threads. A switch may not leave a stale address of a thread_local
// behind, but fibers here never change their thread.
Runner& runner() {
  thread_local Runner runner;
  return runner;
}
Block& block() { return runner().block(); }

}  // namespace

int lane() { return block().lane(); }
void block_barrier() { block().wait(Stand::kAtBarrier); }
void warp_collective(uint32_t mask, Combine combine, void* mine) {
  block().collective(mask, combine, mine);
}
void wait_until(std::function<bool()> condition) {
  block().wait_until(Stand::kWaits, std::move(condition));
}
void wait_for_another_block(std::function<bool()> condition) {
  block().wait_until(Stand::kWaitsForAnother, std::move(condition));
}
void wait_for_stillness() { block().wait(Stand::kAwaitsStillness); }
AsyncCopies& async_copies() { return block().copies(); }
AsyncProducts& async_products() { return block().products(); }
NamedBarrier& named_barrier(int id) { return block().named_barrier(id); }
unsigned shared_offset(const void* pointer) { return block().shared_offset(pointer); }
void* dynamic_shared() { return block().shared(); }
size_t dynamic_shared_bytes() { return block().shared_bytes(); }

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed, int at_once,
              const std::function<void()>& kernel) {
  runner().run({grid, block, shared_bytes, &kernel}, seed, at_once);
}

}  // namespace trireme::emulator
