#include "runtime/engine/inbox.h"

#include <fmt/format.h>

namespace trireme {

Status Inbox::submit(SubmitCommand command) {
  {
    const std::lock_guard lock(mutex_);
    if (refused_.has_value()) return *refused_;
    if (waiting() >= waiting_max_) {
      return resource_exhausted(fmt::format(
          "{} requests wait already, the most that are let in: try again later", waiting_max_));
    }
    waiting_.fetch_add(1, std::memory_order_relaxed);
    commands_.emplace_back(std::move(command));
  }
  filled_.notify_one();
  return {};
}

bool Inbox::push(EngineCommand command) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    commands_.push_back(std::move(command));
  }
  filled_.notify_one();
  return true;
}

std::vector<EngineCommand> Inbox::take(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) filled_.wait(lock, [&] { return !commands_.empty() || closed_; });
  std::vector<EngineCommand> taken(std::make_move_iterator(commands_.begin()),
                                   std::make_move_iterator(commands_.end()));
  commands_.clear();
  return taken;
}

void Inbox::refuse(Status why) {
  const std::lock_guard lock(mutex_);
  if (!refused_.has_value()) refused_ = std::move(why);
}

void Inbox::close(Status why) {
  {
    const std::lock_guard lock(mutex_);
    if (!refused_.has_value()) refused_ = std::move(why);
    closed_ = true;
  }
  filled_.notify_all();
}

bool Inbox::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

}  // namespace trireme
