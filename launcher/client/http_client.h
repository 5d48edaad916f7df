// HTTP/1.1 to a server: one connection that is kept alive, JSON there, JSON or server-sent events
// back. Coroutines of Asio; a connection belongs to one thread at a time and does one request at a
// time. No TLS.
//
// INVARIANT: every call ends: with the answer, or with one sentence, at the latest after
// connect_timeout + idle_timeout of a silent server.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "kernels/base/status.h"
#include "launcher/client/http_fetch.h"

namespace trireme {

class HttpConnection {
 public:
  HttpConnection(boost::asio::any_io_executor executor, ServerUrl url, HttpOptions options);
  ~HttpConnection();
  HttpConnection(HttpConnection&&) noexcept;

  // `method` "GET" or "POST"; `path` begins with "/"; a body is JSON. The answer may have any
  // status; the error is that there is none: kUnavailable (refused, unknown host, broken off),
  // kDeadlineExceeded, kDataLoss (not HTTP, too long), kCancelled. Sent again once on a fresh
  // connection where a kept one turns out to have been closed before it answered.
  boost::asio::awaitable<Result<HttpAnswer>> request(std::string method, std::string path,
                                                     std::string body, StreamOptions stream = {});

  // Ends what is running, with kCancelled or kUnavailable; from the executor's thread.
  void close();
  // Whether the last answer left the connection open for another request.
  bool reusable() const;

 private:
  struct Wire;
  std::unique_ptr<Wire> wire_;
};

}  // namespace trireme
