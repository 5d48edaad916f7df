#include "runtime/gateway/http/server.h"

#include <algorithm>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <fmt/format.h>

#include "runtime/gateway/http/core.h"

namespace trireme {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

asio::awaitable<void> HttpServer::Core::accept() {
  while (!draining && acceptor->is_open()) {
    ErrorCode error;
    tcp::socket socket =
        co_await acceptor->async_accept(asio::make_strand(context), as_value(error));
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {  // out of descriptors, as a rule: others will be closed
      asio::steady_timer pause(context, std::chrono::milliseconds(50));
      ErrorCode ignored;
      co_await pause.async_wait(as_value(ignored));
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
  core.on_connections([](bool waits) { return waits; },
                      [](HttpStream& stream) { stream.cancel(); });
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
    core.on_connections([](bool) { return true; }, [](HttpStream& stream) { stream.close(); });
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
