// Events on their way from the engine's thread to the coroutine of an exchange. Several requests
// (the prompts of one call) may share one mailbox; each has a tag.
//
// Bounded by what it carries: no more events come than the requests have tokens.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "runtime/engine/request.h"

namespace trireme {

struct TaggedEvent {
  size_t tag = 0;
  Event event;
};

class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // `executor`: a strand, that of the coroutine that calls next().
  explicit Mailbox(boost::asio::any_io_executor executor)
      : executor_(executor), wake_(executor, boost::asio::steady_timer::time_point::max()) {}

  // The sink of a request; it keeps the mailbox.
  std::shared_ptr<EventSink> sink(size_t tag);

  // Everything that has come, in order; waits where nothing has. Empty: interrupt() was called.
  boost::asio::awaitable<std::vector<TaggedEvent>> next();

  // Ends a wait that is under way, and every later one at once. On the executor.
  void interrupt();
  bool interrupted() const { return interrupted_; }

 private:
  class Sink;
  void put(size_t tag, std::span<const Event> events);

  const boost::asio::any_io_executor executor_;
  boost::asio::steady_timer wake_;  // used on the executor only
  bool interrupted_ = false;        // likewise
  std::mutex mutex_;
  std::vector<TaggedEvent> events_;
  bool closed_ = false;  // nobody reads any more
};

}  // namespace trireme
