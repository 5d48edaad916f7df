#include "runtime/gateway/mailbox.h"

#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace trireme {

namespace asio = boost::asio;

class Mailbox::Sink final : public EventSink {
 public:
  Sink(std::shared_ptr<Mailbox> mailbox, size_t tag) : mailbox_(std::move(mailbox)), tag_(tag) {}
  void on_events(std::span<const Event> events) override { mailbox_->put(tag_, events); }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
  const size_t tag_;
};

std::shared_ptr<EventSink> Mailbox::sink(size_t tag) {
  return std::make_shared<Sink>(shared_from_this(), tag);
}

// One wake-up is under way from the first event after next() has emptied the box: it runs on the
// strand, so either the coroutine waits already and is woken, or it has yet to look.
void Mailbox::put(size_t tag, std::span<const Event> events) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    first = events_.empty();
    for (const Event& event : events) events_.push_back({tag, event});
  }
  if (first) asio::post(executor_, [self = shared_from_this()] { self->wake_.cancel(); });
}

asio::awaitable<std::vector<TaggedEvent>> Mailbox::next() {
  for (;;) {
    std::vector<TaggedEvent> taken;
    if (interrupted_) co_return taken;
    {
      const std::lock_guard lock(mutex_);
      taken.swap(events_);
    }
    if (!taken.empty()) co_return taken;
    boost::system::error_code cancelled;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
}

void Mailbox::interrupt() {
  interrupted_ = true;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    events_.clear();
  }
  wake_.cancel();
}

}  // namespace trireme
