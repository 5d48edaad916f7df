#include "runtime/gateway/admin/admin.h"

#include <charconv>
#include <chrono>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "runtime/gateway/admin/page_files.h"
#include "runtime/gateway/admin/perfetto.h"
#include "runtime/gateway/delivery.h"

namespace trireme {

namespace asio = boost::asio;

namespace {

constexpr int64_t kSecondsMax = 3600;
constexpr int kTracesMax = 4;                // at a time
constexpr size_t kRequestsTraced = 1 << 16;  // of the log, at most

HttpResponse page_file(std::string_view text, std::string_view type) {
  HttpResponse response;
  response.content_type = std::string(type) + "; charset=utf-8";
  response.body = std::string(text);
  response.headers = {
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "
       "data:; "
       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Cache-Control", "no-cache"},
  };
  return response;
}

HttpHandler always(std::string_view text, std::string_view type) {
  return [text, type](HttpExchange& exchange) -> asio::awaitable<void> {
    HttpResponse response = page_file(text, type);
    (void)(co_await exchange.send(std::move(response))).ok();
  };
}

// "seconds=10" or "last=10": what is wanted, or an error.
struct Window {
  std::string_view member;
  int64_t seconds = 0;
  std::optional<ApiError> error;
};
Window parse_window(std::string_view query) {
  Window window;
  if (query.empty()) query = "seconds=10";
  const size_t equals = query.find('=');
  const std::string_view name = query.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : query.substr(equals + 1);
  window.member = name;
  if (name != "seconds" && name != "last") {
    window.error = api_error(
        400, "invalid_value",
        "the query is seconds=N, for what happens in the next N seconds, or last=N, for what "
        "happened in the last");
    return window;
  }
  const auto [end, wrong] =
      std::from_chars(value.data(), value.data() + value.size(), window.seconds);
  if (wrong != std::errc() || end != value.data() + value.size() || window.seconds < 1 ||
      window.seconds > kSecondsMax) {
    window.error = api_error(400, "invalid_value",
                             fmt::format("{} is '{}': it must be a whole number from 1 to {}", name,
                                         value.substr(0, 40), kSecondsMax),
                             std::string(name));
  }
  return window;
}

// Some time, unless the client leaves.
struct Wait {
  Wait(const asio::any_io_executor& executor, std::chrono::seconds time) : timer(executor, time) {}
  asio::steady_timer timer;
  bool left = false;
};

struct Counted {
  explicit Counted(std::atomic<int>& count) : count_(count), before(count.fetch_add(1)) {}
  ~Counted() { count_.fetch_sub(1); }
  std::atomic<int>& count_;
  const int before;
};

}  // namespace

Admin::Admin(ServerAbout about) : about_(std::move(about)) {}
Admin::~Admin() { writers_.join(); }

void Admin::add_routes(HttpRoutes& routes) {
  routes.add({"GET", "/", always(kPageHtml, "text/html")});
  routes.add({"GET", "/page.js", always(kPageJs, "text/javascript")});
  routes.add({"GET", "/page.css", always(kPageCss, "text/css")});
  routes.add({"GET", "/admin/state", [this](HttpExchange& exchange) { return state(exchange); }});
  routes.add({"GET", "/admin/trace", [this](HttpExchange& exchange) { return trace(exchange); }});
}

HttpResponse Admin::state_now() const {
  HttpResponse response;
  response.headers = {{"Cache-Control", "no-store"}};
  response.body = boost::json::serialize(server_state(about_, monitor_, draining_, trace_now()));
  return response;
}

asio::awaitable<void> Admin::state(HttpExchange& exchange) {
  HttpResponse response = state_now();
  (void)(co_await exchange.send(std::move(response))).ok();
}

asio::awaitable<void> Admin::trace(HttpExchange& exchange) {
  const Window window = parse_window(exchange.request().query);
  const Counted counted(traces_);
  HttpResponse response;
  if (window.error.has_value()) {
    response = error_response(*window.error);
  } else if (monitor_ == nullptr) {
    response = error_response(
        api_error(503, "loading", "the model is being loaded: try again in a moment"));
  } else if (counted.before >= kTracesMax) {
    response = error_response(
        api_error(429, "too_many_traces",
                  fmt::format("{} traces are being taken already: try again later", kTracesMax)));
  } else {
    int64_t from_ns = trace_now();
    if (window.member == "last") {
      from_ns -= window.seconds * 1000000000;
    } else {
      const auto wait =
          std::make_shared<Wait>(exchange.executor(), std::chrono::seconds(window.seconds));
      exchange.on_client_gone([wait] {
        wait->left = true;
        wait->timer.cancel();
      });
      boost::system::error_code cancelled;
      co_await wait->timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
      if (wait->left) co_return;
    }
    response = co_await traced(exchange, from_ns);
  }
  (void)(co_await exchange.send(std::move(response))).ok();
}

asio::awaitable<HttpResponse> Admin::traced(HttpExchange& exchange, int64_t from_ns) {
  Delivery<Result<std::vector<RankTrace>>> delivery(exchange.executor());
  EngineMonitor* const monitor = monitor_;
  monitor->trace(from_ns, delivery.bringer());
  std::optional<Result<std::vector<RankTrace>>> traces = co_await delivery.wait();
  HttpResponse response;
  if (!traces->ok()) {
    response = error_response(api_error(503, "no_trace", traces->status().message()));
    co_return response;
  }
  TraceDocument document;
  document.from_ns = from_ns;
  document.to_ns = trace_now();
  document.ranks = traces->take();
  document.requests = monitor->timelines(from_ns, kRequestsTraced);
  document.block_kinds = monitor->info().block_kinds;
  document.version = about_.version;
  document.model = about_.model;
  document.from_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count() -
                          (document.to_ns - from_ns) / 1000000;
  for (size_t r = 0; r < about_.ranks.size(); ++r) {
    const RankPlace& place = about_.ranks[r];
    document.rank_names.push_back(
        fmt::format("rank {} ({}, stage {}, shard {})", r, place.host, place.stage, place.shard));
  }
  response.body = co_await asio::co_spawn(
      writers_,
      [&document]() -> asio::awaitable<std::string> { co_return write_perfetto(document); },
      asio::use_awaitable);
  co_return response;
}

bool admits_admin(std::string_view listens_at, const ApiKeys& keys, const HttpRequest& request,
                  HttpResponse& refusal) {
  if (is_loopback(listens_at)) {
    std::string_view host = request.header("host");
    const size_t colon = host.rfind(':');
    if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos)
      host = host.substr(0, colon);
    if (!is_loopback(host)) {
      refusal =
          error_response(api_error(421, "misdirected",
                                   fmt::format("this address is called localhost or {}, not '{}'",
                                               listens_at, host.substr(0, 200))));
      return false;
    }
  }
  const std::string& path = request.path;
  if (path == "/" || path == "/page.js" || path == "/page.css") return true;
  return keys.admits(request, refusal);
}

}  // namespace trireme
