#include "runtime/engine/watchdog.h"

#include <utility>

namespace trireme {

Watchdog::Watchdog(std::chrono::milliseconds patience, std::function<void()> missed)
    : patience_(patience), missed_(std::move(missed)), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

// Steps do not wake the thread: it looks again when its sleep is over, and only a sleep without end
// has to be ended.
void Watchdog::arm() {
  const std::lock_guard lock(mutex_);
  deadline_ = std::chrono::steady_clock::now() + patience_;
  if (sleeps_without_end_) changed_.notify_one();
}

void Watchdog::disarm() {
  const std::lock_guard lock(mutex_);
  deadline_.reset();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    if (!deadline_.has_value()) {
      sleeps_without_end_ = true;
      changed_.wait(lock);
      sleeps_without_end_ = false;
    } else if (std::chrono::steady_clock::now() < *deadline_) {
      const auto until = *deadline_;
      changed_.wait_until(lock, until);
    } else {
      deadline_.reset();
      lock.unlock();
      missed_();
      lock.lock();
    }
  }
}

}  // namespace trireme
