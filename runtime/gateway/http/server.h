// An HTTP/1.1 server: connections, limits and time-outs; what is answered is the routes' matter.
//
// start() and stop() are called from one thread; handlers run on the server's own threads, each
// exchange on a strand of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/gateway/http/routes.h"

namespace trireme {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: any that is free; port() tells
  int io_threads = 1;
  uint64_t body_bytes_max = uint64_t{64} << 20;
  uint32_t header_bytes_max = 16 << 10;
  uint32_t connections_max = 4096;                  // beyond: 503 and close
  std::chrono::milliseconds idle_timeout{75000};    // for the next request of a connection
  std::chrono::milliseconds header_timeout{15000};  // from a header's first byte to its last
  std::chrono::milliseconds body_timeout{60000};
  std::chrono::milliseconds write_timeout{
      60000};                             // a client that takes nothing for so long is gone
  std::vector<std::string> cors_origins;  // that may call from a browser; "*": all
};

// What the server has seen, for metrics.
struct HttpServerCounts {
  uint64_t connections = 0, connections_refused = 0, requests = 0;
  uint32_t connections_open = 0, exchanges_open = 0;
};

class HttpServer {
 public:
  // Asked before a route is looked for: an answer ends the exchange (authentication, say).
  using Gate = std::function<bool(const HttpRequest& request, HttpResponse& refusal)>;
  // Told of each answer, on the exchange's strand: the route's path, or "" where there was none.
  // Status 499: the connection was closed before there was one.
  using Observer = std::function<void(const HttpRequest& request, std::string_view route,
                                      int status, std::chrono::nanoseconds took)>;

  HttpServer(HttpServerOptions options, HttpRoutes routes, Gate gate = {}, Observer observer = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds and serves. kUnavailable says why the address cannot be had.
  Status start();
  uint16_t port() const;

  // No new connections, and each that is open ends after the answer that is under way.
  void stop_accepting();
  // Stops accepting, lets answers that are under way end for at most `grace`, closes what is left
  // and ends the threads.
  void stop(std::chrono::milliseconds grace = std::chrono::milliseconds(0));

  HttpServerCounts counts() const;

  struct Core;

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace trireme
