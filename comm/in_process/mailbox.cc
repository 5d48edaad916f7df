#include "comm/in_process/mailbox.h"

#include "comm/tensor_bytes.h"

namespace trireme {

Mailbox::Answer Mailbox::put(const ConstTensorView& x, int64_t bytes_max) {
  const int64_t bytes = tensor_bytes(x);
  std::list<Message> message;
  for (;;) {
    const uint32_t seen = changes_.load();
    {
      std::lock_guard lock(mutex_);
      if (receiver_gone_) return Answer::kPeerGone;
      if (under_way_.empty() || bytes_under_way_ + bytes <= bytes_max) {
        bytes_under_way_ += bytes;
        if (!spare_.empty()) message.splice(message.begin(), spare_, spare_.begin());
        break;
      }
    }
    changes_.wait_past(seen);
  }
  // Only this thread adds messages, so the copy may be made outside the lock.
  if (message.empty()) message.emplace_back();
  message.front().resize(size_t(bytes));
  copy_bytes_out(x, 0, bytes, message.front().data());
  {
    std::lock_guard lock(mutex_);
    under_way_.splice(under_way_.end(), message);
  }
  changes_.add(1);
  return Answer::kDone;
}

Mailbox::Answer Mailbox::take(const TensorView& x) {
  std::list<Message> message;
  for (;;) {
    const uint32_t seen = changes_.load();
    {
      std::lock_guard lock(mutex_);
      if (!under_way_.empty()) {
        message.splice(message.begin(), under_way_, under_way_.begin());
        break;
      }
      if (sender_gone_) return Answer::kPeerGone;
    }
    changes_.wait_past(seen);
  }
  const auto bytes = int64_t(message.front().size());
  const bool fits = bytes == tensor_bytes(x);
  if (fits) copy_bytes_in(message.front().data(), 0, bytes, x);
  {
    std::lock_guard lock(mutex_);
    bytes_under_way_ -= bytes;
    if (spare_.size() < 4) spare_.splice(spare_.begin(), message);
  }
  changes_.add(1);
  return fits ? Answer::kDone : Answer::kWrongSize;
}

void Mailbox::close_sender() {
  {
    std::lock_guard lock(mutex_);
    sender_gone_ = true;
  }
  changes_.add(1);
}

void Mailbox::close_receiver() {
  {
    std::lock_guard lock(mutex_);
    receiver_gone_ = true;
  }
  changes_.add(1);
}

}  // namespace trireme
