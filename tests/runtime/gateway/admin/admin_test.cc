// The admin address over a real engine and real sockets.
#include "runtime/gateway/admin/admin.h"

#include <future>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/runtime/gateway/admin/trace_rules.h"
#include "tests/support/gateway_harness.h"

namespace trireme::test {
namespace {

class AdminHarness {
 public:
  explicit AdminHarness(GatewayHarnessOptions options, std::vector<std::string> keys = {})
      : gateway_(with_traces(std::move(options))),
        keys_(keys),
        admin_(
            {"v", "demo", "models/demo", "http://api", {{"node1", 11, 0, 0}, {"node2", 12, 1, 0}}}),
        server_(http_options(), routes(),
                [this](const HttpRequest& request, HttpResponse& refusal) {
                  return admits_admin("0.0.0.0", keys_, request, refusal);  // by any name
                }) {
    const Status started = server_.start();
    CHECK(started.ok()) << started.message();
  }
  ~AdminHarness() { server_.stop(); }

  void set_monitor() { admin_.set_monitor(gateway_.engine()); }
  Admin& admin() { return admin_; }
  GatewayHarness& gateway() { return gateway_; }
  uint16_t port() const { return server_.port(); }
  HttpReply get(std::string_view path, const std::vector<std::string>& headers = {}) {
    return http(port(), "GET", path, "", headers);
  }
  Json state() {
    const HttpReply reply = get("/admin/state");
    CHECK(reply.status == 200) << reply.body;
    Result<Json> json = parse_json(reply.body);
    CHECK(json.ok()) << json.status().message();
    return json.take();
  }
  // A completion of so many tokens, under this x-request-id.
  void complete(int tokens, std::string_view id) {
    const HttpReply reply =
        http(gateway_.port(), "POST", "/v1/completions",
             fmt::format(R"({{"prompt": "And God said", "max_tokens": {}, "ignore_eos": true}})",
                         tokens),
             {fmt::format("x-request-id: {}", id)});
    CHECK(reply.status == 200) << reply.body;
  }

 private:
  static GatewayHarnessOptions with_traces(GatewayHarnessOptions options) {
    options.engine.trace_events = 1 << 18;
    options.engine.engine.requests_logged = 50;
    return options;
  }
  static HttpServerOptions http_options() {
    HttpServerOptions options;
    options.port = 0;
    return options;
  }
  HttpRoutes routes() {
    HttpRoutes routes = gateway_.gateway().routes();
    admin_.add_routes(routes);
    return routes;
  }
  GatewayHarness gateway_;
  const ApiKeys keys_;
  Admin admin_;
  HttpServer server_;
};

GatewayHarnessOptions two_by_two() {
  GatewayHarnessOptions options = gateway_harness();
  options.engine.ranks.mesh = {2, 2};
  options.engine.engine.pipeline_depth = 2;
  return options;
}

TEST(Admin, ServesThePageUnderAStrictPolicy) {
  AdminHarness server(gateway_harness());
  for (const auto& [path, type, begin] : {std::tuple{"/", "text/html", "<!doctype html>"},
                                          std::tuple{"/page.js", "text/javascript", "'use strict'"},
                                          std::tuple{"/page.css", "text/css", ":root"}}) {
    const HttpReply reply = server.get(path);
    EXPECT_EQ(reply.status, 200);
    EXPECT_TRUE(reply.headers.at("content-type").starts_with(type));
    EXPECT_TRUE(reply.body.starts_with(begin)) << reply.body.substr(0, 40);
    EXPECT_TRUE(reply.headers.at("content-security-policy").starts_with("default-src 'none'"));
    EXPECT_EQ(reply.headers.at("x-content-type-options"), "nosniff");
  }
  EXPECT_EQ(server.gateway().get("/").status, 404) << "the API's own address has no page";
  EXPECT_EQ(server.gateway().get("/admin/state").status, 404);
}

TEST(Admin, SaysHowTheServerFares) {
  AdminHarness server(two_by_two());
  Json state = server.state();
  EXPECT_EQ(state.at("status").as_string(), "loading");
  EXPECT_EQ(state.at("ranks").as_array().size(), 2u);
  EXPECT_EQ(state.at("ranks").at(1).at("host").as_string(), "node2");
  EXPECT_FALSE(state.as_object().contains("cache"));
  server.set_monitor();
  server.complete(5, "first");
  server.complete(3, "second");
  state = server.state();
  EXPECT_EQ(state.at("status").as_string(), "serving");
  EXPECT_EQ(state.at("mesh").at("stages").to_number<int>(), 2);
  EXPECT_EQ(state.at("stages").as_array().size(), 2u);
  const EngineStats stats = server.gateway().engine().stats();
  EXPECT_EQ(state.at("counters").at("generation_tokens").to_number<uint64_t>(), 8u);
  EXPECT_EQ(state.at("counters").at("steps").to_number<uint64_t>(), stats.steps);
  EXPECT_EQ(state.at("sequences").at("running").to_number<int>(), 0);
  const Json& pages = state.at("cache").at("classes").at(0);
  EXPECT_EQ(pages.at("kind").as_string(), "pages");
  EXPECT_EQ(pages.at("free").to_number<int>() + pages.at("live").to_number<int>() +
                pages.at("cached").to_number<int>(),
            pages.at("total").to_number<int>());
  const JsonArray& requests = state.at("requests").as_array();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].at("request_id").as_string(), "first");
  EXPECT_EQ(requests[1].at("output_tokens").to_number<int>(), 3);
  EXPECT_EQ(requests[1].at("finish").as_string(), "length");
  double before = 1e12;  // milliseconds ago: ever less
  for (const char* time : {"arrived", "scheduled", "first_token", "last_token", "ended"}) {
    const double ago = requests[0].at(time).to_number<double>();
    EXPECT_LE(ago, before) << time;
    EXPECT_GE(ago, 0);
    before = ago;
  }
  server.admin().set_draining();
  EXPECT_EQ(server.state().at("status").as_string(), "draining");
}

TEST(Admin, TracesWhatHappensAndWhatHappened) {
  AdminHarness server(two_by_two());
  EXPECT_EQ(server.get("/admin/trace?last=1").status, 503) << "it is being loaded";
  server.set_monitor();
  server.complete(4, "before");
  std::future<HttpReply> next =
      std::async(std::launch::async, [&] { return server.get("/admin/trace?seconds=1"); });
  while (next.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    server.complete(6, "within");
  for (const bool all : {false, true}) {
    SCOPED_TRACE(all ? "all there was" : "a window");
    const HttpReply reply = all ? server.get("/admin/trace?last=3600") : next.get();
    ASSERT_EQ(reply.status, 200) << reply.body;
    const Result<Json> trace = parse_json(reply.body);
    ASSERT_TRUE(trace.ok()) << trace.status().message();
    expect_trace_rules(*trace);
    std::map<int, int> steps;
    std::set<std::string> requests;
    for (const Json& e : trace->at("traceEvents").as_array()) {
      if (e.at("name").as_string() == "step" && e.at("ph").as_string() == "X")
        ++steps[e.at("pid").to_number<int>()];
      if (const Json* args = find(e, "args"); args != nullptr && find(*args, "request_id"))
        requests.insert(std::string(args->at("request_id").as_string()));
    }
    EXPECT_EQ(steps.size(), 4u) << "a lane for each rank";
    // A window may begin between a step's end on one rank and its end on another.
    if (all) {
      for (const auto& [rank, count] : steps) EXPECT_EQ(count, steps[0]);
    }
    EXPECT_GE(steps[0], 6);
    EXPECT_TRUE(requests.contains("within"));
  }
}

TEST(Admin, RefusesWindowsThatAreNone) {
  AdminHarness server(gateway_harness());
  server.set_monitor();
  for (const char* query : {"seconds=0", "seconds=3601", "seconds=", "seconds=1x", "last=-1",
                            "seconds=99999999999999999999", "first=1", "seconds"}) {
    const HttpReply reply = server.get(fmt::format("/admin/trace?{}", query));
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_TRUE(parse_json(reply.body).ok());
  }
}

// Whoever leaves while a trace is taken takes no place: five go, four fit.
TEST(Admin, ForgetsTracesWhoseClientHasLeft) {
  AdminHarness server(gateway_harness());
  server.set_monitor();
  {
    std::vector<std::unique_ptr<HttpConnection>> waiting;
    for (int i = 0; i < 4; ++i) {
      waiting.push_back(std::make_unique<HttpConnection>(server.port()));
      waiting.back()->request("GET", "/admin/trace?seconds=3600");
    }
    HttpReply refused;
    while (refused.status != 429) refused = server.get("/admin/trace?last=1");
  }
  HttpReply served;
  while (served.status != 200) served = server.get("/admin/trace?last=1");
}

TEST(Admin, NeedsAKeyWhereTheServerHasOnes) {
  AdminHarness server(gateway_harness(), {"secret-key"});
  server.set_monitor();
  EXPECT_EQ(server.get("/").status, 200) << "the page itself shows nothing";
  for (const char* path : {"/admin/state", "/admin/trace?last=1", "/v1/models"}) {
    EXPECT_EQ(server.get(path).status, 401) << path;
    EXPECT_EQ(server.get(path, {"Authorization: Bearer secret-key"}).status, 200) << path;
  }
}

TEST(Admin, AnswersToItsOwnNamesOnly) {
  const ApiKeys open;
  const auto admitted = [&](std::string_view listens_at, std::string host) {
    HttpRequest request;
    request.path = "/admin/state";
    request.headers = {{"host", std::move(host)}};
    HttpResponse refusal;
    const bool in = admits_admin(listens_at, open, request, refusal);
    EXPECT_EQ(refusal.status, in ? 200 : 421);
    return in;
  };
  for (const char* host : {"localhost", "localhost:8001", "127.0.0.1:8001", "[::1]:8001", "[::1]"})
    EXPECT_TRUE(admitted("127.0.0.1", host)) << host;
  for (const char* host : {"evil.example", "evil.example:8001", "127.0.0.1.evil.example", ""})
    EXPECT_FALSE(admitted("127.0.0.1", host)) << host;
  EXPECT_TRUE(admitted("0.0.0.0", "node1.cluster:8001"));
}

}  // namespace
}  // namespace trireme::test
