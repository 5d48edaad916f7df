// One value that another thread brings to a coroutine: what an engine answers later.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace trireme {

// INVARIANT: what it holds is touched on the strand only, so that whoever comes first, value or
// deadline, has come. What brings the value may outlive the coroutine, and the other way round.
template <class T>
class Delivery {
 public:
  // The coroutine's.
  explicit Delivery(const boost::asio::any_io_executor& strand)
      : strand_(strand), held_(std::make_shared<Held>(strand)) {}

  // For any thread, to be called once.
  auto bringer() const {
    return [strand = strand_, held = held_](T value) {
      auto moved = std::make_shared<T>(std::move(value));
      boost::asio::post(strand, [held, moved] {
        held->value = std::move(*moved);
        held->timer.cancel();
      });
    };
  }

  // Nothing: it has not come in time.
  boost::asio::awaitable<std::optional<T>> wait(boost::asio::steady_timer::time_point deadline =
                                                    boost::asio::steady_timer::time_point::max()) {
    const std::shared_ptr<Held> held = held_;
    held->timer.expires_at(deadline);
    boost::system::error_code ended;
    while (!held->value.has_value() && std::chrono::steady_clock::now() < deadline)
      co_await held->timer.async_wait(
          boost::asio::redirect_error(boost::asio::use_awaitable, ended));
    co_return std::move(held->value);
  }

 private:
  struct Held {
    explicit Held(const boost::asio::any_io_executor& strand) : timer(strand) {}
    boost::asio::steady_timer timer;
    std::optional<T> value;
  };
  boost::asio::any_io_executor strand_;
  std::shared_ptr<Held> held_;
};

}  // namespace trireme
