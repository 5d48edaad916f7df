// What the connections of an HttpServer share: for the files of this folder alone.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/basic_stream.hpp>

#include "runtime/gateway/http/server.h"

namespace trireme {

using HttpSocket = boost::asio::ip::tcp::socket;
using HttpStream = boost::beast::basic_stream<boost::asio::ip::tcp, boost::asio::any_io_executor>;

// What a wait is given whose error is a value, not an exception.
inline auto as_value(boost::system::error_code& error) {
  return boost::asio::redirect_error(boost::asio::use_awaitable, error);
}

struct HttpServer::Core {
  Core(HttpServerOptions o, HttpRoutes r, Gate g, Observer s)
      : options(std::move(o)),
        routes(std::move(r)),
        gate(std::move(g)),
        observer(std::move(s)),
        context(std::max(options.io_threads, 1)) {}

  struct Member;  // a connection, as long as it lives

  const HttpServerOptions options;
  const HttpRoutes routes;
  const Gate gate;
  const Observer observer;
  uint16_t port = 0;
  std::atomic<bool> draining = false;
  std::atomic<uint64_t> connections = 0, refused = 0, requests = 0;
  std::atomic<uint32_t> connections_open = 0, exchanges_open = 0;
  std::mutex mutex;
  std::condition_variable thread_ended;
  size_t threads_running = 0;
  std::map<HttpStream*, bool> open;  // connections; true: it waits for a request
  // Destroying the context destroys the coroutines that still wait, which use what is above.
  boost::asio::io_context context;
  std::optional<boost::asio::ip::tcp::acceptor> acceptor;
  std::vector<std::thread> threads;

  void set_waiting(HttpStream* stream, bool waits) {
    const std::lock_guard lock(mutex);
    open[stream] = waits;
  }
  void forget(HttpStream* stream) {
    const std::lock_guard lock(mutex);
    open.erase(stream);
  }
  // Does `act` on the connections of which `which` is true, on their strands.
  template <class Which, class Act>
  void on_connections(const Which& which, const Act& act) {
    const std::lock_guard lock(mutex);
    for (const auto& [stream, waits] : open) {
      if (!which(waits)) continue;
      boost::asio::post(stream->get_executor(), [this, act, which, s = stream] {
        const std::lock_guard held(mutex);
        const auto found = open.find(s);  // it may have ended, or found work
        if (found != open.end() && which(found->second)) act(*s);
      });
    }
  }

  // The listener: server.cc. A connection, and one that is one too many: session.cc.
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> session(HttpSocket socket);
  boost::asio::awaitable<void> refuse(HttpSocket socket);
};

// Leaves the list of connections however its coroutine ends.
struct HttpServer::Core::Member {
  Member(Core& c, HttpStream& s) : core(c), stream(s) { core.set_waiting(&stream, false); }
  ~Member() { core.forget(&stream); }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  Core& core;
  HttpStream& stream;
};

// Counts down however its scope is left.
class Leave {
 public:
  explicit Leave(std::atomic<uint32_t>& count) : count_(count) {}
  ~Leave() { --count_; }
  Leave(const Leave&) = delete;
  Leave& operator=(const Leave&) = delete;

 private:
  std::atomic<uint32_t>& count_;
};

}  // namespace trireme
