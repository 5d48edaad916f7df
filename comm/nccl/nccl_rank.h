// What all NCCL communicators of one rank share: one lock, one failure, one watchdog. A failure of
// one is the failure of all, since the ranks of a worker live and die together.
//
// Threads. The rank's own thread makes the calls; the watchdog looks at what they started. Every
// call of NCCL on a communicator that is open is made under the lock. Communicators are
// nonblocking, so no call holds it for long; who waits, waits without it. fail() takes the
// communicators out of their links under the lock and aborts them without it: whoever comes later
// sees the failure and makes no call. INVARIANT: a communicator that fail() or close() has taken is
// touched by nobody else.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "comm/nccl/nccl_api.h"
#include "comm/nccl/options.h"
#include "comm/nccl/watch_list.h"
#include "kernels/device.h"

namespace trireme {

class NcclSender;

// One NCCL communicator of this rank. Its owner is one thread; the lock guards `comm`.
struct NcclLink {
  NcclComm* comm = nullptr;                         // null: not opened, closed, or aborted
  bool opened = false;                              // once
  std::vector<std::pair<void*, void*>> registered;  // buffer, NCCL's handle
};

class NcclRank {
 public:
  using Clock = WatchList::Clock;

  // `api` and `device` outlive it. Called with the world's rank and size, for messages.
  static Result<std::shared_ptr<NcclRank>> make(const NcclApi& api, Device& device,
                                                const NcclOptions& options, int rank, int size);
  NcclRank(const NcclApi& api, Device& device, const NcclOptions& options, int rank, int size);
  NcclRank(const NcclRank&) = delete;
  NcclRank& operator=(const NcclRank&) = delete;
  ~NcclRank();

  const NcclApi& api() const { return api_; }
  Device& device() { return device_; }
  const NcclOptions& options() const { return options_; }
  cudaStream_t queue() const { return queue_; }
  Clock::time_point now() const { return options_.now(); }
  bool recording() const;  // the queue's work goes into a graph

  // Ok, or the failure; from any thread. enter() also makes the GPU the calling thread's current
  // one.
  Status status() const;
  Status enter();

  // The first failure is remembered, told and acted on; the answer is the one remembered.
  Status fail(const Status& why);

  // Begins to make the communicator; wait() ends it. Every rank of the group calls it.
  Status open(NcclLink& link, int size, const NcclUniqueId& id, int rank);
  Status wait(NcclLink& link, const NcclWork& work);

  // Calls call(comm) for work on the queue, and waits until NCCL has queued it. When it has, the
  // watchdog watches it, unless it was recorded into a graph.
  template <class Call>
  Status queue_work(NcclLink& link, const NcclWork& work, const Call& call) {
    std::unique_lock lock(mutex_);
    if (!failure_.ok()) return failure_;
    return settle(lock, link, work, call(link.comm), !recording());
  }
  // Watches everything that is on the queue now, as one piece of work.
  Status watch_queue(const NcclWork& work);

  // Waits for the communicator's work for a while, then lets go of it by force. Without `gently` it
  // does not wait.
  void close(NcclLink& link, bool gently = true);

  // Memory that collectives of `link` may use in place.
  Status register_buffer(NcclLink& link, void* data, size_t bytes);
  void unregister_buffer(NcclLink& link, void* data);

  // For NcclSender: its advance() is called under the lock, by whoever waits and by the watchdog.
  void attach(NcclSender* sender);
  void detach(NcclSender* sender);
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }
  const Status& failure(const std::unique_lock<std::mutex>&) const { return failure_; }
  void look_soon() { wake_.notify_all(); }
  Status result_status(const NcclWork& work, NcclComm* comm, NcclResult result) const;
  Status cuda_error_status(const NcclWork& work, cudaError_t error) const;
  Status overdue_status(const NcclWork& work, std::chrono::milliseconds deadline) const;
  Status wrong_message(const NcclWork& work, int64_t arriving, int64_t expected) const;

 private:
  using Lock = std::unique_lock<std::mutex>;

  Status settle(Lock& lock, NcclLink& link, const NcclWork& work, NcclResult result, bool watch);
  Status record_watch(Lock& lock, const NcclWork& work);
  Status advance_senders(Clock::time_point at);
  Status look(Clock::time_point at);
  void watchdog();
  void take_out(NcclLink& link);
  bool finished(NcclComm* comm);
  std::string named(const NcclWork& work) const;

  const NcclApi& api_;
  Device& device_;
  const NcclOptions options_;
  const cudaStream_t queue_;
  const int rank_, size_;  // in the world

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Status failure_;
  bool aborted_ = false;  // fail() is through
  bool stop_ = false;
  std::vector<NcclLink*> links_;  // that are open
  std::vector<NcclSender*> senders_;
  WatchList watched_;  // on the queue
  std::thread watchdog_;
};

// Waiting for another thread or rank: yields at first, then sleeps longer and longer.
class Pause {
 public:
  void operator()() {
    constexpr int kYields = 200;
    constexpr auto kSleepMax = std::chrono::microseconds(500);
    if (count_++ < kYields) return std::this_thread::yield();
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min<std::chrono::microseconds>(sleep_ * 2, kSleepMax);
  }

 private:
  int count_ = 0;
  std::chrono::microseconds sleep_{10};
};

}  // namespace trireme
