// What those who run a server see of it, at an address of its own: a page, the server's state, and
// traces.
//
//   GET /                  the page; with /page.js and /page.css
//   GET /admin/state       server_state()
//   GET /admin/trace       ?seconds=N: what happens in the next N seconds; ?last=N: what happened
//   in
//                          the last. As write_perfetto().
//
// Made before the model is loaded. Handlers run on the server's threads.
#pragma once

#include <atomic>
#include <memory>

#include <boost/asio/thread_pool.hpp>

#include "runtime/gateway/admin/state.h"
#include "runtime/gateway/http/auth.h"
#include "runtime/gateway/http/routes.h"

namespace trireme {

class Admin {
 public:
  explicit Admin(ServerAbout about);
  ~Admin();
  Admin(const Admin&) = delete;

  // The engine is there, and outlives the server.
  void set_monitor(EngineMonitor& monitor) { monitor_ = &monitor; }
  void set_draining() { draining_ = true; }

  // Adds its own. REQUIRES: the server of `routes` ends before this.
  void add_routes(HttpRoutes& routes);

 private:
  boost::asio::awaitable<void> state(HttpExchange& exchange);
  boost::asio::awaitable<void> trace(HttpExchange& exchange);
  HttpResponse state_now() const;
  boost::asio::awaitable<HttpResponse> traced(HttpExchange& exchange, int64_t from_ns);

  const ServerAbout about_;
  std::atomic<EngineMonitor*> monitor_ = nullptr;
  std::atomic<bool> draining_ = false;
  std::atomic<int> traces_ = 0;  // being taken
  boost::asio::thread_pool writers_{1};
};

// Who may come in. The page itself shows nothing, so it needs no key. A server at an address of
// this machine alone is not to be reached under a name that a stranger's page has pointed here:
// such a Host is refused with 421.
bool admits_admin(std::string_view listens_at, const ApiKeys& keys, const HttpRequest& request,
                  HttpResponse& refusal);

}  // namespace trireme
