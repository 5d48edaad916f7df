// One HTTP request and its answer, as a handler sees them: nothing of Beast shows here.
//
// A handler is a coroutine that runs on a strand of the server: everything of one exchange happens
// one after the other.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "kernels/base/status.h"

namespace trireme {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // "GET"; HEAD comes as GET, its answer is sent without a body
  std::string path;     // decoded, without the query: "/v1/models/a b"
  std::string query;    // as it came, without '?'
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string request_id;  // of x-request-id, or made by the server; it is echoed in every answer
  // The first header of this name (in lower case), or "".
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // further ones
  std::string body;
};

// REQUIRES: exactly one of send() and begin_stream() is called.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual boost::asio::any_io_executor executor() const = 0;

  // The whole answer. kUnavailable: the client has gone. kDeadlineExceeded: it does not read.
  virtual boost::asio::awaitable<Status> send(HttpResponse response) = 0;

  // An answer in pieces (chunked). `head.body` is ignored; the head goes out together with the
  // first write(), so that nothing is sent before there is something to say.
  virtual void begin_stream(HttpResponse head) = 0;
  // One piece, in one write to the socket. Errors as of send().
  virtual boost::asio::awaitable<Status> write(std::string_view piece) = 0;
  virtual boost::asio::awaitable<Status> end_stream() = 0;

  // Calls `gone` once, on executor(), when the connection is closed before the answer is complete:
  // by the client, a time-out or the server's stop(). Never after the handler has returned.
  virtual void on_client_gone(std::function<void()> gone) = 0;
};

// Returning without an answer, or an exception, is answered with 500 by the server.
using HttpHandler = std::function<boost::asio::awaitable<void>(HttpExchange&)>;

}  // namespace trireme
