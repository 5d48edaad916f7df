// What the host writes down for each step and the device reads: all of it in one piece of memory,
// at addresses that stay the same, brought to the device by one copy a step. Where the device is
// the CPU, the piece is the host's own and nothing is copied.
//
// Used by one thread: parts are added and allocate()d once, then for each step begin(), writing,
// upload().
//
// INVARIANT: what a copy reads stays as it is until the copy is done. So there are two pieces of
// host memory in turns, and begin() waits for the copy of the step before the last: a rank that
// never waits for its device is at most two steps ahead of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace trireme {

class StagedArea {
 public:
  // `count` numbers of the area.
  template <class T>
  struct Part {
    size_t offset = 0;  // bytes
    size_t count = 0;
  };

  // Lays a part out behind those before. REQUIRES: before allocate().
  template <class T>
  Part<T> add(size_t count) {
    CHECK(device_ == nullptr);
    const Part<T> part{bytes_, count};
    bytes_ = (bytes_ + count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  // `device` outlives the area.
  Status allocate(Device& device) {
    device_ = &device;
    const bool far = device.place() != Place::kHost;
    for (Buffer& buffer : host_) {
      Result<Buffer> made = device.allocate_pinned(bytes_);
      if (!made.ok()) return made.status();
      buffer = made.take();
      if (!far) break;
    }
    if (!far) return Status::ok_status();
    Result<Buffer> made = device.allocate(bytes_);
    if (!made.ok()) return made.status();
    on_device_ = made.take();
    return Status::ok_status();
  }

  size_t bytes() const { return bytes_; }

  // From here on the host may write. What earlier steps wrote is not there again.
  Status begin() {
    if (on_device_.data() == nullptr) return Status::ok_status();
    turn_ ^= 1;
    return marks_[turn_] == 0 ? Status::ok_status() : device_->wait(marks_[turn_] - 1);
  }
  // The device sees the first `bytes` of the area, before what is queued from now on.
  void upload(size_t bytes) {
    CHECK(bytes <= bytes_);
    if (on_device_.data() == nullptr) return;
    device_->copy(on_device_.data(), host_[turn_].data(), bytes);
    marks_[turn_] = device_->mark() + 1;
  }

  // Where the host writes between begin() and upload(), and where the device reads.
  template <class T>
  T* host(Part<T> part) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(host_[turn_].data()) + part.offset);
  }
  template <class T>
  const T* device(Part<T> part) const {
    const Buffer& buffer = on_device_.data() == nullptr ? host_[0] : on_device_;
    return reinterpret_cast<const T*>(static_cast<std::byte*>(buffer.data()) + part.offset);
  }

 private:
  static constexpr size_t kAlignment = 64;

  Device* device_ = nullptr;
  size_t bytes_ = 0;
  std::array<Buffer, 2> host_;  // the second only where there is on_device_
  Buffer on_device_;
  size_t turn_ = 0;
  std::array<uint64_t, 2> marks_{};  // of the copies of host_, + 1; 0: none
};

}  // namespace trireme
