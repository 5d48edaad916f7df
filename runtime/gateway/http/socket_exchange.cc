#include "runtime/gateway/http/socket_exchange.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/status.hpp>
#include <fmt/format.h>

namespace trireme {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;

namespace {

Status status_of(const ErrorCode& error) {
  if (!error) return {};
  if (error == boost::beast::error::timeout)
    return Status(StatusCode::kDeadlineExceeded, "the client does not read its answer");
  return unavailable("the client has gone: " + error.message());
}

void add_field(std::string& head, std::string_view name, std::string_view value) {
  head += fmt::format("{}: {}\r\n", name, value);
}

}  // namespace

SocketExchange::SocketExchange(HttpServer::Core& core, HttpStream& stream, HttpRequest request,
                               unsigned version, bool keep_alive)
    : core_(core),
      stream_(stream),
      request_(std::move(request)),
      version_(version),
      keep_alive_(keep_alive) {}

SocketExchange::~SocketExchange() { stop_watching(); }

bool SocketExchange::give_up_if_left() {
  if (!left_) return false;
  status_ = 499;
  keep_alive_ = false;
  return true;
}

asio::awaitable<Status> SocketExchange::send(HttpResponse response) {
  CHECK(!answered_) << "two answers to one request";
  answered_ = true;
  std::string bytes = head_of(response, response.body.size());
  if (request_.method != "HEAD") bytes += response.body;
  const Status sent = co_await write_all(std::move(bytes));
  complete_ = sent.ok();
  co_return sent;
}

void SocketExchange::begin_stream(HttpResponse head) {
  CHECK(!answered_) << "two answers to one request";
  answered_ = true;
  chunked_ = version_ >= 11;
  keep_alive_ = keep_alive_ && chunked_;
  pending_ = head_of(head, std::nullopt);
}

asio::awaitable<Status> SocketExchange::write(std::string_view piece) {
  CHECK(answered_ && !complete_);
  std::string bytes = std::exchange(pending_, {});
  if (request_.method != "HEAD" && !piece.empty()) {
    if (chunked_) bytes += fmt::format("{:x}\r\n", piece.size());
    bytes += piece;
    if (chunked_) bytes += "\r\n";
  }
  co_return co_await write_all(std::move(bytes));
}

asio::awaitable<Status> SocketExchange::end_stream() {
  CHECK(answered_ && !complete_);
  std::string bytes = std::exchange(pending_, {});
  if (chunked_ && request_.method != "HEAD") bytes += "0\r\n\r\n";
  const Status sent = co_await write_all(std::move(bytes));
  complete_ = sent.ok();
  co_return sent;
}

asio::awaitable<Status> SocketExchange::write_all(std::string bytes) {
  if (bytes.empty()) co_return Status::ok_status();
  ErrorCode error;
  size_t done = 0;
  // Piece by piece, so that the time-out is of no progress, not of a long answer.
  while (done < bytes.size() && !error) {
    stream_.expires_after(core_.options.write_timeout);
    done += co_await stream_.async_write_some(
        asio::buffer(bytes.data() + done, bytes.size() - done), as_value(error));
  }
  stream_.expires_never();
  if (error) keep_alive_ = false;
  co_return status_of(error);
}

std::string SocketExchange::head_of(const HttpResponse& response, std::optional<size_t> length) {
  status_ = response.status;
  const auto reason = boost::beast::http::obsolete_reason(
      boost::beast::http::int_to_status(static_cast<unsigned>(response.status)));
  std::string head = fmt::format("HTTP/{}.{} {} {}\r\n", version_ / 10, version_ % 10,
                                 response.status, std::string_view(reason.data(), reason.size()));
  add_field(head, "Content-Type", response.content_type);
  add_field(head, "x-request-id", request_.request_id);
  for (const auto& [name, value] : response.headers) add_field(head, name, value);
  add_cors(head);
  if (core_.draining) keep_alive_ = false;
  if (length.has_value()) {
    if (response.status != 204) add_field(head, "Content-Length", std::to_string(*length));
  } else {
    add_field(head, "Cache-Control", "no-cache");
    add_field(head, "X-Accel-Buffering", "no");
    if (chunked_) add_field(head, "Transfer-Encoding", "chunked");
  }
  add_field(head, "Connection", keep_alive_ ? "keep-alive" : "close");
  return head + "\r\n";
}

void SocketExchange::add_cors(std::string& head) const {
  const std::string_view origin = request_.header("origin");
  if (origin.empty()) return;
  for (const std::string& allowed : core_.options.cors_origins) {
    if (allowed != "*" && allowed != origin) continue;
    add_field(head, "Access-Control-Allow-Origin", allowed == "*" ? "*" : origin);
    add_field(head, "Vary", "Origin");
    add_field(head, "Access-Control-Expose-Headers", "x-request-id, Retry-After");
    return;
  }
}

// Outlives the exchange, because a cancelled wait ends later.
struct SocketExchange::Watch {
  SocketExchange* exchange = nullptr;
  asio::cancellation_signal stop;
};

void SocketExchange::on_client_gone(std::function<void()> gone) {
  gone_ = std::move(gone);
  if (watch_ == nullptr) watch();
}

void SocketExchange::stop_watching() {
  if (watch_ == nullptr) return;
  watch_->exchange = nullptr;
  watch_->stop.emit(asio::cancellation_type::all);
  watch_.reset();
}

// Something to read while an answer is made is the next request, or the end of the connection.
void SocketExchange::watch() {
  watch_ = std::make_shared<Watch>();
  watch_->exchange = this;
  stream_.socket().async_wait(
      HttpSocket::wait_read,
      asio::bind_cancellation_slot(watch_->stop.slot(), [w = watch_](const ErrorCode& error) {
        if (w->exchange == nullptr) return;
        // An error: the server has closed the connection, by a time-out or stop().
        error ? w->exchange->tell_gone() : w->exchange->look();
      }));
}

void SocketExchange::look() {
  char byte = 0;
  ErrorCode error;
  stream_.socket().receive(asio::buffer(&byte, 1), HttpSocket::message_peek, error);
  if (!error || error == asio::error::would_block) return;  // the next request: it can wait
  tell_gone();
}

void SocketExchange::tell_gone() {
  left_ = true;
  if (gone_) std::exchange(gone_, {})();
}

}  // namespace trireme
