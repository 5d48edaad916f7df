#include "kernels/cuda/emulator/launches.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/thread_block.h"

namespace trireme::emulator {
namespace {

// How many launches may have blocks that run ahead, of how many threads a launch's have at least,
// and all together at most: a fiber's stack is memory, and two mappings of the process.
constexpr size_t kLaunchesAhead = 8;
constexpr int kThreadsOfALaunch = 256;
constexpr int kThreadsAhead = 3072;

constexpr size_t kBlocksAtOnce = 3;

// A launch, from the first of its blocks that runs ahead to the last of all.
class Running {
 public:
  explicit Running(const Launch& launch)
      : launch_(launch),
        random_(launch.seed),
        order_(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z) {
    std::iota(order_.begin(), order_.end(), 0);
    if (launch.seed != 0) std::shuffle(order_.begin(), order_.end(), random_);
  }

  // Lets blocks run ahead, others from launch to launch of this host thread. False where the next
  // launch must wait for this one to end, because it does not say that it may start before.
  bool run_ahead() {
    const int threads = block_threads();
    const auto wanted = static_cast<size_t>((kThreadsOfALaunch + threads - 1) / threads);
    const size_t count = std::min(order_.size(), wanted);
    thread_local uint64_t launches = 0;
    const uint64_t first = launches++ * count;
    bool next_may_start = true;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t number = (first + i) % order_.size();
      ahead_.emplace_back(number, begin(number));
      ahead_.back().second->run_ahead();
      next_may_start = ahead_.back().second->next_may_start() && next_may_start;
    }
    return next_may_start;
  }

  // In an order of its own a launch has several blocks at work, which take turns at barriers.
  void run() {
    const size_t at_once = launch_.seed != 0 ? kBlocksAtOnce : 1;
    std::vector<std::unique_ptr<ThreadBlock>> at_work;
    for (size_t next = 0; next < order_.size() || !at_work.empty();) {
      while (next < order_.size() && at_work.size() < at_once)
        at_work.push_back(take(order_[next++]));
      std::unique_ptr<ThreadBlock>& block = at_work[random_() % at_work.size()];
      if (block->run()) continue;
      waited_ = block->has_waited() || waited_;
      block = std::move(at_work.back());
      at_work.pop_back();
    }
    CHECK(waited_ || !launch_.overlaps)
        << "a kernel that may begin before the one before it has ended, and no thread waits for it";
  }

  int block_threads() const {
    return static_cast<int>(launch_.block.x * launch_.block.y * launch_.block.z);
  }
  int threads_ahead() const { return static_cast<int>(ahead_.size()) * block_threads(); }

 private:
  std::unique_ptr<ThreadBlock> begin(uint64_t number) {
    const dim3 grid = launch_.grid;
    const uint3 index{static_cast<unsigned int>(number % grid.x),
                      static_cast<unsigned int>(number / grid.x % grid.y),
                      static_cast<unsigned int>(number / grid.x / grid.y)};
    return std::make_unique<ThreadBlock>(launch_, index, launch_.seed != 0 ? &random_ : nullptr);
  }
  // Block `number`, which may have run ahead.
  std::unique_ptr<ThreadBlock> take(uint64_t number) {
    for (auto& [ahead, block] : ahead_) {
      if (ahead == number) return std::move(block);
    }
    return begin(number);
  }

  const Launch& launch_;
  std::mt19937_64 random_;
  std::vector<uint64_t> order_;  // of blocks
  std::vector<std::pair<uint64_t, std::unique_ptr<ThreadBlock>>> ahead_;
  bool waited_ = false;
};

}  // namespace

void run_launches(std::span<const Launch> launches) {
  std::deque<Running> begun;  // the first is the next to run
  bool next_may_start = false;
  int threads = 0;
  size_t next = 0;
  while (!begun.empty() || next < launches.size()) {
    while (next < launches.size() && begun.size() <= kLaunchesAhead && threads < kThreadsAhead) {
      const bool follows = !begun.empty();
      if (follows && !(launches[next].overlaps && next_may_start)) break;
      next_may_start = begun.emplace_back(launches[next++]).run_ahead();
      threads += begun.back().threads_ahead();
    }
    threads -= begun.front().threads_ahead();
    begun.front().run();
    begun.pop_front();
  }
}

}  // namespace trireme::emulator
