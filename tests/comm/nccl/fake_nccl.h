// A NCCL over threads: ranks are threads of one process, device memory is what queued work may
// touch, and a call becomes work on its stream that waits there for the other ranks' calls. Behind
// the same table of functions as the real one.
//
// It is as hard to please as NCCL may be. No call is over when it returns: only asking for the
// asynchronous error ends it, after some asking, and the first one of a communicator not before
// every rank of it has made its first. Only then is the work queued. Sums start at another rank for
// each run of elements. A size or an order that does not fit, a call while another is going on, a
// communicator that is used after it was destroyed or never given back: each is a violation, kept
// until the test asks.
//
// One exists at a time: NCCL's functions are told of no world.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/nccl/nccl_api.h"

namespace trireme {

class FakeNccl {
 public:
  // A call that is about to be made.
  struct Call {
    std::string function;  // "init", "all_reduce", "all_gather", "broadcast", "send", "receive"
    int size = 0;          // of the communicator
    int rank = 0;          // in it
    int number = 0;        // of this communicator's calls on this rank, from 0; init is none
  };
  // kFail: the call answers with an error. kHang: its work never ends, or the communicator is never
  // connected. kAsyncError: neither, and asking for the asynchronous error tells of one.
  enum class Fault { kNone, kFail, kHang, kAsyncError };
  using Faults = std::function<Fault(const Call&)>;

  explicit FakeNccl(Faults faults = {});
  ~FakeNccl();
  FakeNccl(const FakeNccl&) = delete;
  FakeNccl& operator=(const FakeNccl&) = delete;

  const NcclApi& api() const { return api_; }

  // When a rank aborts, the others of its communicators are told kNcclRemoteError, as over a
  // network. Off: they hang, as over NVLink.
  void tell_others_of_aborts() { tell_others_ = true; }

  // The test's questions, at any time.
  std::vector<std::string> violations() const;
  int made() const;        // communicators, one for each rank of each
  int open() const;        // of them, neither destroyed nor aborted
  int aborted() const;     // of them
  int registered() const;  // buffers, over all time
  // Waits until so many pieces of work stand on their streams that will never end.
  void wait_until_hung(int count);
  // Waits until so many communicators have been made, or are gone.
  void wait_until_made(int count);
  void wait_until_gone(int count);

 private:
  struct Clique;
  struct Work;
  friend struct NcclComm;
  struct Functions;

  NcclResult queue(NcclComm* comm, std::unique_ptr<Work> work);
  NcclResult poll(NcclComm* comm);
  void run(Work& work);
  void perform(const std::vector<Work*>& parts);
  bool usable(NcclComm* comm, const char* function);
  void violation(std::string text);
  int count_gone() const;  // under the lock

  static FakeNccl* current;

  const Faults faults_;
  NcclApi api_;
  bool tell_others_ = false;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> violations_;
  std::vector<std::unique_ptr<Clique>> cliques_;
  std::vector<std::unique_ptr<NcclComm>> comms_;  // kept when destroyed, so that later use is seen
  int registered_ = 0;
};

}  // namespace trireme
