#include "runtime/gateway/http/server.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

namespace trireme {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Stream = beast::basic_stream<tcp, asio::any_io_executor>;
using Parser = http::request_parser<http::string_body>;

auto token(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

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

Status status_of(const ErrorCode& error) {
  if (!error) return {};
  if (error == beast::error::timeout)
    return Status(StatusCode::kDeadlineExceeded, "the client does not read its answer");
  return unavailable("the client has gone: " + error.message());
}

}  // namespace

// What the sessions share.
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
  std::map<Stream*, bool> open;  // connections; true: it waits for a request
  // Destroying the context destroys the coroutines that still wait, which use what is above.
  asio::io_context context;
  std::optional<tcp::acceptor> acceptor;
  std::vector<std::thread> threads;

  void set_waiting(Stream* stream, bool waits) {
    const std::lock_guard lock(mutex);
    open[stream] = waits;
  }
  void forget(Stream* stream) {
    const std::lock_guard lock(mutex);
    open.erase(stream);
  }
  // Does `act` on the connections of which `which` is true, on their strands.
  template <class Which, class Act>
  void on_connections(const Which& which, const Act& act) {
    const std::lock_guard lock(mutex);
    for (const auto& [stream, waits] : open) {
      if (!which(waits)) continue;
      asio::post(stream->get_executor(), [this, act, which, s = stream] {
        const std::lock_guard held(mutex);
        const auto found = open.find(s);  // it may have ended, or found work
        if (found != open.end() && which(found->second)) act(*s);
      });
    }
  }

  asio::awaitable<void> accept();
  asio::awaitable<void> session(tcp::socket socket);
  asio::awaitable<void> refuse(tcp::socket socket);
};

// Leaves the list of connections however its coroutine ends.
struct HttpServer::Core::Member {
  Member(Core& c, Stream& s) : core(c), stream(s) { core.set_waiting(&stream, false); }
  ~Member() { core.forget(&stream); }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  Core& core;
  Stream& stream;
};

namespace {

using Core = HttpServer::Core;

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

// Ends what a stream waits for after a while without closing it, as a time-out of the stream itself
// would: the client is to be told.
class Deadline {
 public:
  Deadline(Stream& stream, std::chrono::milliseconds patience)
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

// One request and its answer on a connection.
class Exchange final : public HttpExchange {
 public:
  Exchange(Core& core, Stream& stream, HttpRequest request, unsigned version, bool keep_alive)
      : core_(core),
        stream_(stream),
        request_(std::move(request)),
        version_(version),
        keep_alive_(keep_alive) {}
  ~Exchange() override { stop_watching(); }

  const HttpRequest& request() const override { return request_; }
  asio::any_io_executor executor() const override { return stream_.get_executor(); }
  bool answered() const { return answered_; }
  bool complete() const { return complete_; }
  bool keep_alive() const { return keep_alive_ && complete_; }
  int status() const { return status_; }
  // Nobody is there to be answered: 499, as nginx has it.
  bool give_up_if_left() {
    if (!left_) return false;
    status_ = 499;
    keep_alive_ = false;
    return true;
  }

  asio::awaitable<Status> send(HttpResponse response) override {
    CHECK(!answered_) << "two answers to one request";
    answered_ = true;
    std::string bytes = head_of(response, response.body.size());
    if (request_.method != "HEAD") bytes += response.body;
    const Status sent = co_await write_all(std::move(bytes));
    complete_ = sent.ok();
    co_return sent;
  }

  void begin_stream(HttpResponse head) override {
    CHECK(!answered_) << "two answers to one request";
    answered_ = true;
    chunked_ = version_ >= 11;
    keep_alive_ = keep_alive_ && chunked_;
    pending_ = head_of(head, std::nullopt);
  }

  asio::awaitable<Status> write(std::string_view piece) override {
    CHECK(answered_ && !complete_);
    std::string bytes = std::move(pending_);
    pending_.clear();
    if (request_.method != "HEAD" && !piece.empty()) {
      if (chunked_) bytes += fmt::format("{:x}\r\n", piece.size());
      bytes += piece;
      if (chunked_) bytes += "\r\n";
    }
    co_return co_await write_all(std::move(bytes));
  }

  asio::awaitable<Status> end_stream() override {
    CHECK(answered_ && !complete_);
    std::string bytes = std::move(pending_);
    pending_.clear();
    if (chunked_ && request_.method != "HEAD") bytes += "0\r\n\r\n";
    const Status sent = co_await write_all(std::move(bytes));
    complete_ = sent.ok();
    co_return sent;
  }

  void on_client_gone(std::function<void()> gone) override {
    gone_ = std::move(gone);
    if (watch_ == nullptr) watch();
  }

  // The handler has returned: nobody is called any more.
  void stop_watching() {
    if (watch_ == nullptr) return;
    watch_->exchange = nullptr;
    watch_->stop.emit(asio::cancellation_type::all);
    watch_.reset();
  }

 private:
  // Outlives the exchange, because a cancelled wait ends later.
  struct Watch {
    Exchange* exchange = nullptr;
    asio::cancellation_signal stop;
  };

  // Something to read while an answer is made is the next request, or the end of the connection.
  void watch() {
    watch_ = std::make_shared<Watch>();
    watch_->exchange = this;
    stream_.socket().async_wait(
        tcp::socket::wait_read,
        asio::bind_cancellation_slot(watch_->stop.slot(), [w = watch_](const ErrorCode& error) {
          if (w->exchange == nullptr) return;
          // An error: the server has closed the connection, by a time-out or stop().
          error ? w->exchange->tell_gone() : w->exchange->look();
        }));
  }
  void look() {
    char byte = 0;
    ErrorCode error;
    stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, error);
    if (!error || error == asio::error::would_block) return;  // the next request: it can wait
    tell_gone();
  }
  void tell_gone() {
    left_ = true;
    if (gone_) std::exchange(gone_, {})();
  }

  std::string head_of(const HttpResponse& response, std::optional<size_t> length) {
    status_ = response.status;
    http::response<http::empty_body> head;
    head.version(static_cast<unsigned>(version_));
    head.result(static_cast<unsigned>(response.status));
    head.set(http::field::content_type, response.content_type);
    head.set("x-request-id", request_.request_id);
    for (const auto& [name, value] : response.headers) head.set(name, value);
    set_cors(head);
    if (core_.draining) keep_alive_ = false;
    if (length.has_value()) {
      if (response.status != 204) head.set(http::field::content_length, std::to_string(*length));
    } else {
      head.set(http::field::cache_control, "no-cache");
      head.set("X-Accel-Buffering", "no");
      if (chunked_) head.set(http::field::transfer_encoding, "chunked");
    }
    head.set(http::field::connection, keep_alive_ ? "keep-alive" : "close");
    std::ostringstream text;
    text << head.base();
    return text.str();
  }

  template <class Head>
  void set_cors(Head& head) {
    const std::string_view origin = request_.header("origin");
    if (origin.empty()) return;
    for (const std::string& allowed : core_.options.cors_origins) {
      if (allowed != "*" && allowed != origin) continue;
      head.set("Access-Control-Allow-Origin", std::string(allowed == "*" ? "*" : origin));
      head.set("Vary", "Origin");
      head.set("Access-Control-Expose-Headers", "x-request-id, Retry-After");
      return;
    }
  }

  asio::awaitable<Status> write_all(std::string bytes) {
    if (bytes.empty()) co_return Status::ok_status();
    ErrorCode error;
    size_t done = 0;
    // Piece by piece, so that the time-out is of no progress, not of a long answer.
    while (done < bytes.size() && !error) {
      stream_.expires_after(core_.options.write_timeout);
      done += co_await stream_.async_write_some(
          asio::buffer(bytes.data() + done, bytes.size() - done), token(error));
    }
    stream_.expires_never();
    if (error) keep_alive_ = false;
    co_return status_of(error);
  }

  Core& core_;
  Stream& stream_;
  const HttpRequest request_;
  const unsigned version_;
  bool keep_alive_;
  bool answered_ = false, complete_ = false, chunked_ = false, left_ = false;
  int status_ = 0;
  std::string pending_;  // the head of a stream, until its first piece
  std::function<void()> gone_;
  std::shared_ptr<Watch> watch_;
};

HttpRequest request_of(const http::request<http::string_body>& message, bool& path_ok) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
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

// Runs the handler of a request; afterwards the exchange has an answer, or its connection is lost.
asio::awaitable<void> answer(Core& core, Exchange& exchange, bool path_ok) {
  const HttpRequest& request = exchange.request();
  const Clock::time_point start = Clock::now();
  ++core.requests;
  ++core.exchanges_open;
  const Leave leave(core.exchanges_open);
  HttpResponse refusal;
  const HttpRoute* route = nullptr;
  std::string_view name;
  if (!path_ok) {
    refusal = error_response(api_error(400, "bad_request", "the path has a malformed escape"));
  } else if (request.method == "OPTIONS" && !core.routes.allowed(request.path).empty()) {
    refusal = preflight(core, request);
  } else if (!core.gate || core.gate(request, refusal)) {
    route = core.routes.find(request, refusal);
  }
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
asio::awaitable<void> reject(Core& core, Stream& stream, const ErrorCode& error, unsigned version) {
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
  Exchange exchange(core, stream, std::move(nobody), version, false);
  (void)(co_await exchange.send(error_response(why))).ok();
}

bool worth_an_answer(const ErrorCode& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

// The sender may still be sending what nobody reads: closing at once would reset the connection and
// lose the answer.
asio::awaitable<void> linger(Stream& stream) {
  ErrorCode error;
  stream.socket().shutdown(tcp::socket::shutdown_send, error);
  std::array<char, 16384> sink;
  stream.expires_after(std::chrono::seconds(2));
  for (size_t total = 0; !error && total < (size_t{64} << 20);)
    total += co_await stream.async_read_some(asio::buffer(sink), token(error));
}

}  // namespace

asio::awaitable<void> HttpServer::Core::session(tcp::socket socket) {
  const Leave leave(connections_open);
  ErrorCode error;
  socket.set_option(tcp::no_delay(true), error);
  Stream stream(std::move(socket));
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
      const size_t n = co_await stream.async_read_some(buffer.prepare(4096), token(error));
      buffer.commit(n);
      set_waiting(&stream, false);
      if (error) break;  // the client has gone, or says nothing: no answer is due
    }
    stream.expires_never();
    {
      const Deadline deadline(stream, options.header_timeout);
      co_await http::async_read_header(stream, buffer, parser, token(error));
      if (error && deadline.passed()) error = beast::error::timeout;
    }
    if (!error && parser.content_length().has_value() &&
        *parser.content_length() > options.body_bytes_max)
      error = http::error::body_limit;
    if (!error && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      stream.expires_after(options.write_timeout);
      co_await asio::async_write(stream, asio::buffer(kContinue), token(error));
      stream.expires_never();
    }
    if (!error) {
      const Deadline deadline(stream, options.body_timeout);
      co_await http::async_read(stream, buffer, parser, token(error));
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
    Exchange exchange(*this, stream, std::move(request), message.version(), message.keep_alive());
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
  Stream stream(std::move(socket));
  const Member member(*this, stream);
  HttpRequest nobody;
  nobody.request_id = request_id_of("");
  Exchange exchange(*this, stream, std::move(nobody), 11, false);
  (void)(co_await exchange.send(error_response(api_error(
             503, "too_many_connections",
             fmt::format("the server has {} connections, its most", options.connections_max)))))
      .ok();
  co_await linger(stream);
}

asio::awaitable<void> HttpServer::Core::accept() {
  while (!draining && acceptor->is_open()) {
    ErrorCode error;
    tcp::socket socket = co_await acceptor->async_accept(asio::make_strand(context), token(error));
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {  // out of descriptors, as a rule: others will be closed
      asio::steady_timer pause(context, std::chrono::milliseconds(50));
      ErrorCode ignored;
      co_await pause.async_wait(token(ignored));
      continue;
    }
    ++connections;
    const asio::any_io_executor strand = socket.get_executor();
    if (connections_open >= options.connections_max) {
      ++refused;
      asio::co_spawn(strand, refuse(std::move(socket)), asio::detached);
    } else {
      ++connections_open;
      asio::co_spawn(strand, session(std::move(socket)), asio::detached);
    }
  }
}

HttpServer::HttpServer(HttpServerOptions options, HttpRoutes routes, Gate gate, Observer observer)
    : core_(std::make_unique<Core>(std::move(options), std::move(routes), std::move(gate),
                                   std::move(observer))) {}

HttpServer::~HttpServer() { stop(); }

Status HttpServer::start() {
  Core& core = *core_;
  ErrorCode error;
  const asio::ip::address address = asio::ip::make_address(
      core.options.host == "localhost" ? "127.0.0.1" : core.options.host, error);
  if (error)
    return invalid_argument(
        fmt::format("host '{}' is not an IP address: give 127.0.0.1, 0.0.0.0, ::1 or an address of "
                    "this machine",
                    core.options.host));
  const tcp::endpoint endpoint(address, core.options.port);
  core.acceptor.emplace(asio::make_strand(core.context));
  core.acceptor->open(endpoint.protocol(), error);
  if (!error) core.acceptor->set_option(asio::socket_base::reuse_address(true), error);
  if (!error) core.acceptor->bind(endpoint, error);
  if (!error) core.acceptor->listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    core.acceptor.reset();
    return unavailable(fmt::format("cannot listen at {} port {}: {}: choose another port",
                                   core.options.host, core.options.port, error.message()));
  }
  core.port = core.acceptor->local_endpoint().port();
  asio::co_spawn(core.acceptor->get_executor(), core.accept(), asio::detached);
  core.threads_running = static_cast<size_t>(std::max(core.options.io_threads, 1));
  for (size_t i = 0; i < core.threads_running; ++i) {
    core.threads.emplace_back([&core] {
      core.context.run();
      const std::lock_guard lock(core.mutex);
      --core.threads_running;
      core.thread_ended.notify_all();
    });
  }
  return {};
}

uint16_t HttpServer::port() const { return core_->port; }

void HttpServer::stop_accepting() {
  Core& core = *core_;
  if (core.draining.exchange(true) || !core.acceptor.has_value()) return;
  asio::post(core.acceptor->get_executor(), [&core] {
    ErrorCode ignored;
    core.acceptor->close(ignored);
  });
  core.on_connections([](bool waits) { return waits; }, [](Stream& stream) { stream.cancel(); });
}

// Connections that have no answer under way are closed already; the threads end when the last one
// has. Closing the others lets their coroutines end by themselves.
void HttpServer::stop(std::chrono::milliseconds grace) {
  Core& core = *core_;
  if (core.threads.empty()) return;
  stop_accepting();
  const auto wait = [&core](std::chrono::milliseconds patience) {
    std::unique_lock lock(core.mutex);
    return core.thread_ended.wait_for(lock, patience, [&] { return core.threads_running == 0; });
  };
  if (!wait(grace)) {
    core.on_connections([](bool) { return true; }, [](Stream& stream) { stream.close(); });
    constexpr auto kPatience = std::chrono::seconds(5);  // with handlers that wait for others
    wait(kPatience);
  }
  core.context.stop();
  for (std::thread& thread : core.threads) thread.join();
  core.threads.clear();
}

HttpServerCounts HttpServer::counts() const {
  const Core& core = *core_;
  return {core.connections, core.refused, core.requests, core.connections_open,
          core.exchanges_open};
}

}  // namespace trireme
