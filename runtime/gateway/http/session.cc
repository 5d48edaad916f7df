// A connection: its requests, read within limits and time-outs, and answered one after the other.
#include <algorithm>
#include <array>
#include <random>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "runtime/gateway/http/socket_exchange.h"

namespace trireme {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Core = HttpServer::Core;
using Parser = http::request_parser<http::string_body>;

std::string lower(std::string_view text) {
  std::string low(text);
  std::transform(low.begin(), low.end(), low.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return low;
}

// The caller's id where it is printable and short, else one of our own.
std::string request_id_of(std::string_view given) {
  const bool fit =
      !given.empty() && given.size() <= 128 &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > 32 && c < 127; });
  if (fit) return std::string(given);
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("req-{:016x}{:016x}", random(), random());
}

// Ends what a stream waits for after a while without closing it, as a time-out of the stream itself
// would: the client is to be told.
class Deadline {
 public:
  Deadline(HttpStream& stream, std::chrono::milliseconds patience)
      : passed_(std::make_shared<bool>(false)), timer_(stream.get_executor(), patience) {
    timer_.async_wait([passed = passed_, &stream](const ErrorCode& error) {
      if (error || passed.use_count() == 1) return;
      *passed = true;
      stream.cancel();
    });
  }
  bool passed() const { return *passed_; }

 private:
  std::shared_ptr<bool> passed_;  // shared with the wait: alone, the wait has nobody to end
  asio::steady_timer timer_;
};

// "http://host/path?query" is "/path?query", as a proxy's client writes it.
std::string_view without_authority(std::string_view target) {
  const size_t scheme = target.find("://");
  if (target.starts_with('/') || scheme == std::string_view::npos) return target;
  const size_t path = target.find_first_of("/?", scheme + 3);
  if (path == std::string_view::npos || target[path] == '?') return "/";
  return target.substr(path);
}

// All but the body.
HttpRequest request_of(const http::request<http::string_body>& message, bool& path_ok) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string_view target =
      without_authority({message.target().data(), message.target().size()});
  const size_t question = target.find('?');
  path_ok = decode_path(target.substr(0, question), request.path) && !request.path.empty();
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  for (const auto& field : message) {
    const auto name = field.name_string();
    const auto value = field.value();
    request.headers.emplace_back(lower({name.data(), name.size()}),
                                 std::string(value.data(), value.size()));
  }
  request.request_id = request_id_of(request.header("x-request-id"));
  return request;
}

HttpResponse preflight(const Core& core, const HttpRequest& request) {
  HttpResponse response;
  response.status = 204;
  const std::string allow = core.routes.allowed(request.path);
  response.headers.emplace_back("Allow", allow);
  if (!request.header("access-control-request-method").empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", allow);
    response.headers.emplace_back("Access-Control-Allow-Headers",
                                  "Authorization, Content-Type, x-request-id");
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  return response;
}

// Who answers a request; null, with what it is refused with. Looks at the header alone.
const HttpRoute* route_of(const Core& core, const HttpRequest& request, bool path_ok,
                          HttpResponse& refusal) {
  if (!path_ok) {
    refusal = error_response(api_error(400, "bad_request", "the path has a malformed escape"));
  } else if (request.method == "OPTIONS" && !core.routes.allowed(request.path).empty()) {
    refusal = preflight(core, request);
  } else if (!core.gate || core.gate(request, refusal)) {
    return core.routes.find(request, refusal);
  }
  return nullptr;
}

// Whether so much follows the header that nobody reads it for a request that is refused.
bool body_is_large(const Parser& parser) {
  constexpr uint64_t kReadAnyway = 64 << 10;
  const auto length = parser.content_length();
  return length.has_value() ? *length > kReadAnyway : parser.chunked();
}

// Runs the handler of a request; afterwards the exchange has an answer, or its connection is lost.
asio::awaitable<void> answer(Core& core, SocketExchange& exchange, bool path_ok) {
  const HttpRequest& request = exchange.request();
  const Clock::time_point start = Clock::now();
  ++core.requests;
  ++core.exchanges_open;
  const Leave leave(core.exchanges_open);
  HttpResponse refusal;
  const HttpRoute* const route = route_of(core, request, path_ok, refusal);
  std::string_view name;
  if (route == nullptr) {
    (void)(co_await exchange.send(std::move(refusal))).ok();
  } else {
    name = route->path;
    std::string failure = "the handler gave no answer";
    try {
      co_await route->handler(exchange);
    } catch (const std::exception& e) {
      failure = e.what();
    } catch (...) {
      failure = "an exception of no standard type";
    }
    exchange.stop_watching();
    if (!exchange.answered() && !exchange.give_up_if_left())
      (void)(co_await exchange.send(
                 error_response(api_error(500, "internal_error", "internal error: " + failure))))
          .ok();
  }
  if (core.observer) core.observer(request, name, exchange.status(), Clock::now() - start);
}

// A connection whose request cannot be read is told why, once, and closed.
asio::awaitable<void> reject(Core& core, HttpStream& stream, const ErrorCode& error,
                             unsigned version) {
  ApiError why = api_error(400, "bad_request", "the request is not HTTP: " + error.message());
  if (error == http::error::header_limit)
    why =
        api_error(431, "header_too_large",
                  fmt::format("the header is larger than {} bytes", core.options.header_bytes_max));
  if (error == http::error::body_limit)
    why = api_error(413, "body_too_large",
                    fmt::format("the body is larger than {} bytes", core.options.body_bytes_max));
  if (error == beast::error::timeout)
    why = api_error(408, "request_timeout", "the request did not arrive in time");
  HttpRequest nobody;
  nobody.request_id = request_id_of("");
  SocketExchange exchange(core, stream, std::move(nobody), version, false);
  (void)(co_await exchange.send(error_response(why))).ok();
}

bool worth_an_answer(const ErrorCode& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

// The sender may still be sending what nobody reads: closing at once would reset the connection and
// lose the answer.
asio::awaitable<void> linger(HttpStream& stream) {
  ErrorCode error;
  stream.socket().shutdown(tcp::socket::shutdown_send, error);
  std::array<char, 16384> sink;
  stream.expires_after(std::chrono::seconds(2));
  for (size_t total = 0; !error && total < (size_t{64} << 20);)
    total += co_await stream.async_read_some(asio::buffer(sink), as_value(error));
}

}  // namespace

asio::awaitable<void> HttpServer::Core::session(tcp::socket socket) {
  const Leave leave(connections_open);
  ErrorCode error;
  socket.set_option(tcp::no_delay(true), error);
  HttpStream stream(std::move(socket));
  const Member member(*this, stream);
  beast::flat_buffer buffer;
  for (bool more = true; more;) {
    Parser parser;
    parser.header_limit(options.header_bytes_max);
    parser.body_limit(options.body_bytes_max);
    error = {};
    if (buffer.size() == 0) {
      set_waiting(&stream, true);
      stream.expires_after(draining ? std::chrono::milliseconds(1) : options.idle_timeout);
      const size_t n = co_await stream.async_read_some(buffer.prepare(4096), as_value(error));
      buffer.commit(n);
      set_waiting(&stream, false);
      if (error) break;  // the client has gone, or says nothing: no answer is due
    }
    stream.expires_never();
    {
      const Deadline deadline(stream, options.header_timeout);
      co_await http::async_read_header(stream, buffer, parser, as_value(error));
      if (error && deadline.passed()) error = beast::error::timeout;
    }
    if (!error && parser.content_length().has_value() &&
        *parser.content_length() > options.body_bytes_max)
      error = http::error::body_limit;
    if (!error && body_is_large(parser)) {
      bool path_ok = false;
      HttpRequest request = request_of(parser.get(), path_ok);
      HttpResponse refusal;
      if (route_of(*this, request, path_ok, refusal) == nullptr) {
        SocketExchange exchange(*this, stream, std::move(request), parser.get().version(), false);
        co_await answer(*this, exchange, path_ok);
        co_await linger(stream);
        break;
      }
    }
    if (!error && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      stream.expires_after(options.write_timeout);
      co_await asio::async_write(stream, asio::buffer(kContinue), as_value(error));
      stream.expires_never();
    }
    if (!error) {
      const Deadline deadline(stream, options.body_timeout);
      co_await http::async_read(stream, buffer, parser, as_value(error));
      if (error && deadline.passed()) error = beast::error::timeout;
    }
    if (error) {
      if (worth_an_answer(error) || error == beast::error::timeout) {
        co_await reject(*this, stream, error, 11);
        co_await linger(stream);
      }
      break;
    }
    stream.expires_never();
    bool path_ok = false;
    http::request<http::string_body> message = parser.release();
    HttpRequest request = request_of(message, path_ok);
    request.body = std::move(message.body());
    SocketExchange exchange(*this, stream, std::move(request), message.version(),
                            message.keep_alive());
    co_await answer(*this, exchange, path_ok);
    more = exchange.keep_alive() && !draining;
    if (!exchange.complete()) {
      stream.close();  // an answer that broke off must not look whole
      break;
    }
  }
  if (stream.socket().is_open()) {
    stream.socket().shutdown(tcp::socket::shutdown_send, error);
    stream.close();
  }
}

asio::awaitable<void> HttpServer::Core::refuse(tcp::socket socket) {
  HttpStream stream(std::move(socket));
  const Member member(*this, stream);
  HttpRequest nobody;
  nobody.request_id = request_id_of("");
  SocketExchange exchange(*this, stream, std::move(nobody), 11, false);
  (void)(co_await exchange.send(error_response(api_error(
             503, "too_many_connections",
             fmt::format("the server has {} connections, its most", options.connections_max)))))
      .ok();
  co_await linger(stream);
}

}  // namespace trireme
