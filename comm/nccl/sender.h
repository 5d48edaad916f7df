// Tensors of the device from this rank to one other, in order.
//
//   device's queue:  ... -> copy x to a slot -> ready event -> goes on, may overwrite x
//   own stream:                 wait for ready -> ncclSend(slot) -> done event -> the slot is free
//
// Both neighbours of an edge may send first, and a send may be long before its receive: so the
// device's queue never waits for one. What is sent is copied to a slot of device memory; at most
// 64 MiB of messages, or one message alone, are under way at a time. The communicator has two ranks
// and carries messages one way: NCCL runs the work of one communicator in the order of its calls,
// and the two ways of an edge must not wait for one another.
//
// Neither does the host wait. Until the receiver has made its first call NCCL is not done with the
// first steps of the communicator, and later calls wait for their turn in `under_way`. advance()
// makes them when their time has come: it is called by each send, by every wait of the rank's
// thread, and by the watchdog.
#pragma once

#include <memory>
#include <vector>

#include "comm/nccl/nccl_rank.h"

namespace trireme {

class NcclSender {
 public:
  // `id` is that of the edge; the receiver gets the same. Does not wait for it. `work` names the
  // sends in messages.
  static Result<std::unique_ptr<NcclSender>> make(NcclRank& rank, const NcclUniqueId& id,
                                                  const NcclWork& work);
  NcclSender(NcclRank& rank, const NcclWork& work) : rank_(rank), work_(work) {}
  NcclSender(const NcclSender&) = delete;
  NcclSender& operator=(const NcclSender&) = delete;
  ~NcclSender();  // waits for what was sent, for the finish deadline at most

  // REQUIRES: x lies on the device, is not empty, and its queue is not recorded.
  Status send(const ConstTensorView& x);

  // Makes the calls whose time has come; finds what has ended, and what has not in time.
  // REQUIRES: the rank's lock is held.
  Status advance(NcclRank::Clock::time_point now);
  bool waiting() const { return next_ != nullptr; }  // a call is to be made. Under the lock.

 private:
  // kSending: ncclSend was called, NCCL may not be done with the call. kQueued: it is, and `done`
  // was recorded behind it.
  enum class Stand : uint8_t { kFree, kStaged, kSending, kQueued };
  struct Slot {
    Buffer memory;
    cudaEvent_t ready = nullptr, done = nullptr;
    int64_t bytes = 0;  // of the message in it
    Stand stand = Stand::kFree;
    Slot* newer = nullptr;  // the message after this one
  };

  Status make_room(int64_t bytes);
  Result<Slot*> free_slot(int64_t bytes);
  Status release_ended(NcclRank::Clock::time_point now);
  Status make_calls();
  Status cuda(cudaError_t error) const;

  NcclRank& rank_;
  const NcclWork work_;
  NcclLink link_;  // this rank is rank 0 of it
  cudaStream_t stream_ = nullptr;
  std::vector<std::unique_ptr<Slot>> slots_;  // the rank's thread only

  // The rest under the lock, and each slot's stand.
  Slot* oldest_ = nullptr;  // of the messages under way
  Slot* newest_ = nullptr;
  Slot* next_ = nullptr;  // the oldest one that is not kQueued
  int64_t bytes_under_way_ = 0;
  NcclRank::Clock::time_point oldest_since_;
};

}  // namespace trireme
