#include "launcher/client/http_client.h"

#include <cstdlib>
#include <optional>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/client/sse_parser.h"

namespace trireme {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;

namespace {

constexpr auto kAwait = asio::use_awaitable;
constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr size_t kSlowPieceBytes = 256;
constexpr int kSlowReceiveBuffer = 4096;

using Parser = http::response_parser<http::buffer_body>;

bool is_stream(const Parser& parser) {
  return parser.get()[http::field::content_type].starts_with("text/event-stream");
}

}  // namespace

struct HttpConnection::Wire {
  Wire(asio::any_io_executor executor, ServerUrl u, HttpOptions o)
      : url(std::move(u)), options(std::move(o)), stream(std::move(executor)) {}

  const ServerUrl url;
  const HttpOptions options;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  bool open = false;
  bool closed_by_us = false;

  Status wrong(const error_code& error, std::string_view doing) const {
    const std::string what = fmt::format("{}: {}", url.text(), doing);
    if (closed_by_us) return {StatusCode::kCancelled, what + ": stopped"};
    if (error == beast::error::timeout || error == asio::error::timed_out)
      return {StatusCode::kDeadlineExceeded, what + ": no answer in time"};
    if (error == asio::error::connection_refused)
      return unavailable(what + ": connection refused: is the server running?");
    if (error == http::error::end_of_stream || error == asio::error::eof ||
        error == http::error::partial_message || error == asio::error::connection_reset ||
        error == asio::error::broken_pipe)
      return unavailable(what + ": the server closed the connection");
    if (error.category() == http::make_error_code(http::error::end_of_stream).category())
      return data_loss(fmt::format("{}: what came back is not HTTP ({})", what, error.message()));
    return unavailable(fmt::format("{}: {}", what, error.message()));
  }

  void shut() {
    open = false;
    error_code ignored;
    stream.socket().close(ignored);
    buffer.clear();
  }

  asio::awaitable<Status> connect(bool slow) {
    shut();
    error_code error;
    asio::ip::tcp::resolver resolver(stream.get_executor());
    const auto endpoints =
        co_await resolver.async_resolve(url.host, url.port, asio::redirect_error(kAwait, error));
    if (error) co_return wrong(error, fmt::format("cannot look up '{}'", url.host));
    stream.expires_after(options.connect_timeout);
    co_await stream.async_connect(endpoints, asio::redirect_error(kAwait, error));
    if (error) co_return wrong(error, "cannot connect");
    error_code ignored;
    stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    if (slow)
      stream.socket().set_option(asio::socket_base::receive_buffer_size(kSlowReceiveBuffer),
                                 ignored);
    open = true;
    co_return Status();
  }

  http::request<http::string_body> message(const std::string& method, const std::string& path,
                                           const std::string& body) const {
    http::request<http::string_body> request(method == "GET" ? http::verb::get : http::verb::post,
                                             url.prefix + path, 11);
    request.set(http::field::host, url.authority());
    request.set(http::field::user_agent, "trireme");
    request.set(http::field::accept, "*/*");
    if (!options.api_key.empty())
      request.set(http::field::authorization, "Bearer " + options.api_key);
    if (!body.empty()) request.set(http::field::content_type, "application/json");
    request.body() = body;
    request.prepare_payload();
    return request;
  }

  // The body behind a header that was read: to on_event, or into answer.body.
  asio::awaitable<Status> read_body(Parser& parser, HttpAnswer& answer, const StreamOptions& how) {
    SseParser events;
    std::string piece(how.read_pause.count() > 0 ? kSlowPieceBytes : kPieceBytes, '\0');
    asio::steady_timer timer(stream.get_executor());
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      parser.get().body().more = true;
      error_code error;
      stream.expires_after(options.idle_timeout);
      co_await http::async_read_some(stream, buffer, parser, asio::redirect_error(kAwait, error));
      if (error == http::error::need_buffer) error = {};
      if (error) co_return wrong(error, "the answer broke off");
      const std::string_view got(piece.data(), piece.size() - parser.get().body().size);
      if (answer.streamed) {
        if (Status s = events.feed(got, how.on_event); !s.ok()) co_return s;
      } else if (answer.body.size() + got.size() > options.body_bytes_max) {
        co_return data_loss(fmt::format("{}: the answer is longer than {} bytes", url.text(),
                                        options.body_bytes_max));
      } else {
        answer.body += got;
      }
      if (how.read_pause.count() > 0 && !parser.is_done()) {
        timer.expires_after(how.read_pause);
        co_await timer.async_wait(asio::redirect_error(kAwait, error));
      }
    }
    co_return Status();
  }

  // One try. `*silent` says whether it failed before a byte of the answer came.
  asio::awaitable<Result<HttpAnswer>> attempt(const http::request<http::string_body>& request,
                                              const StreamOptions& how, bool* silent) {
    *silent = true;
    error_code error;
    stream.expires_after(options.idle_timeout);
    co_await http::async_write(stream, request, asio::redirect_error(kAwait, error));
    if (error) co_return wrong(error, "cannot send");
    if (how.drop_after_send) {
      *silent = false;
      co_return Status(StatusCode::kCancelled, "dropped after it was sent");
    }
    Parser parser;
    parser.body_limit(boost::none);
    stream.expires_after(options.idle_timeout);
    co_await http::async_read_header(stream, buffer, parser, asio::redirect_error(kAwait, error));
    if (error) {
      *silent = !parser.got_some();
      co_return wrong(error, "no answer");
    }
    *silent = false;
    HttpAnswer answer;
    answer.status = parser.get().result_int();
    answer.streamed = answer.status == 200 && how.on_event && is_stream(parser);
    if (Status s = co_await read_body(parser, answer, how); !s.ok()) co_return s;
    open = parser.keep_alive();
    co_return answer;
  }
};

HttpConnection::HttpConnection(asio::any_io_executor executor, ServerUrl url, HttpOptions options)
    : wire_(std::make_unique<Wire>(std::move(executor), std::move(url), std::move(options))) {}
HttpConnection::~HttpConnection() = default;
HttpConnection::HttpConnection(HttpConnection&&) noexcept = default;

asio::awaitable<Result<HttpAnswer>> HttpConnection::request(std::string method, std::string path,
                                                            std::string body, StreamOptions how) {
  const http::request<http::string_body> message = wire_->message(method, path, body);
  for (bool kept = wire_->open;; kept = false) {
    if (!kept) {
      if (Status s = co_await wire_->connect(how.read_pause.count() > 0); !s.ok()) co_return s;
    }
    bool silent = false;
    Result<HttpAnswer> answer = co_await wire_->attempt(message, how, &silent);
    if (!answer.ok() || !wire_->open) wire_->shut();
    const bool again =
        !answer.ok() && kept && silent && answer.status().code() == StatusCode::kUnavailable;
    if (!again) co_return answer;
  }
}

void HttpConnection::close() {
  wire_->closed_by_us = true;
  wire_->shut();
}

bool HttpConnection::reusable() const { return wire_->open; }

Result<HttpAnswer> fetch(const ServerUrl& url, const HttpOptions& options, std::string method,
                         std::string path, std::string body, StreamOptions stream,
                         bool stop_on_interrupt) {
  asio::io_context io(1);
  HttpConnection connection(io.get_executor(), url, options);
  std::optional<asio::signal_set> signals;
  if (stop_on_interrupt) {
    signals.emplace(io, SIGINT);
    signals->async_wait([&](const error_code& error, int) {
      if (!error) connection.close();
    });
  }
  Result<HttpAnswer> answer = unavailable("no answer");
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        answer = co_await connection.request(std::move(method), std::move(path), std::move(body),
                                             std::move(stream));
        if (signals.has_value()) signals->cancel();
      },
      [](std::exception_ptr thrown) { CHECK(thrown == nullptr); });
  io.run();
  return answer;
}

std::string api_key_or_environment(const std::string& given) {
  const char* const key = given.empty() ? std::getenv("OPENAI_API_KEY") : given.c_str();
  return key == nullptr ? "" : key;
}

std::string error_message(const HttpAnswer& answer) {
  const Result<Json> body = parse_json(answer.body);
  if (body.ok()) {
    const Json* error = find(*body, "error");
    const Json* message = error == nullptr ? find(*body, "message") : find(*error, "message");
    if (message == nullptr) message = error;
    if (message != nullptr && message->is_string())
      return fmt::format("status {}: {}", answer.status, std::string(message->as_string()));
  }
  constexpr size_t kShown = 200;
  return fmt::format("status {}: {}", answer.status, answer.body.substr(0, kShown));
}

}  // namespace trireme
