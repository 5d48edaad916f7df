// The messages under way from one rank to another, in order: what send and receive of an in-process
// world stand on. One thread sends, one receives, any may close.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <vector>

#include "comm/wait_word.h"
#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

class Mailbox {
 public:
  enum class Answer : uint8_t { kDone, kPeerGone, kWrongSize };

  // Copies x in. Waits while other messages are under way and x would make them more than
  // `bytes_max`. kPeerGone: nobody will ever receive it.
  Answer put(const ConstTensorView& x, int64_t bytes_max);

  // Waits for the oldest message and copies it out. What was sent before the sender left still
  // arrives; then kPeerGone. kWrongSize: the message has not x's number of bytes.
  Answer take(const TensorView& x);

  void close_sender();
  void close_receiver();

 private:
  using Message = std::vector<std::byte>;

  std::mutex mutex_;
  std::list<Message> under_way_;
  std::list<Message> spare_;  // their memory is used again
  int64_t bytes_under_way_ = 0;
  bool sender_gone_ = false;
  bool receiver_gone_ = false;
  WaitWord changes_;  // counts puts, takes and closes
};

}  // namespace trireme
