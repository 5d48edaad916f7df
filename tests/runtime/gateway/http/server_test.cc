// The HTTP server over real sockets: limits, time-outs, streams, clients that leave, drain.
#include "runtime/gateway/http/server.h"

#include <future>
#include <thread>

#include <arpa/inet.h>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/json.h"
#include "runtime/gateway/http/auth.h"

namespace trireme::test {
namespace {

using std::chrono::milliseconds;

// A socket that sends what it is told and reads until it has seen something. Every read gives up
// after a while, so that a server that hangs fails its test.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // the server has closed: what it said is still to be read
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // All up to and with `mark`; shorter where the connection ends first.
  std::string until(std::string_view mark) {
    while (seen_.find(mark) == std::string::npos && more()) {
    }
    const size_t at = seen_.find(mark);
    const size_t end = at == std::string::npos ? seen_.size() : at + mark.size();
    std::string part = seen_.substr(0, end);
    seen_.erase(0, end);
    return part;
  }
  // All until the server closes.
  std::string rest() {
    while (more()) {
    }
    EXPECT_TRUE(closed_) << "the server does not close";
    return std::exchange(seen_, {});
  }

 private:
  bool more() {
    char buffer[4096];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) closed_ = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    if (n > 0) seen_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }
  int fd_;
  bool closed_ = false;
  std::string seen_;
};

struct Events {
  std::promise<void> started, gone, write_failed;
};

HttpRoutes routes_of(Events& events) {
  HttpRoutes routes;
  routes.add({"POST", "/echo",
              [](HttpExchange& x) -> boost::asio::awaitable<void> {
                HttpResponse response;
                response.body = x.request().body;
                (void)(co_await x.send(std::move(response))).ok();
              },
              false});
  routes.add({"GET", "/hello",
              [](HttpExchange& x) -> boost::asio::awaitable<void> {
                HttpResponse response;
                response.body = "hello";
                (void)(co_await x.send(std::move(response))).ok();
              },
              false});
  routes.add({"GET", "/throw",
              [](HttpExchange&) -> boost::asio::awaitable<void> {
                throw std::runtime_error("broken");
                co_return;
              },
              false});
  routes.add({"GET", "/throw-int",
              [](HttpExchange&) -> boost::asio::awaitable<void> {
                throw 7;
                co_return;
              },
              false});
  routes.add(
      {"POST", "/json",
       [](HttpExchange& x) -> boost::asio::awaitable<void> { (void)(co_await x.send({})).ok(); },
       true});
  routes.add({"GET", "/stream",
              [](HttpExchange& x) -> boost::asio::awaitable<void> {
                x.begin_stream({});
                for (const char* piece : {"one", "two"}) (void)(co_await x.write(piece)).ok();
                (void)(co_await x.end_stream()).ok();
              },
              false});
  routes.add({"GET", "/wait",
              [&events](HttpExchange& x) -> boost::asio::awaitable<void> {
                boost::asio::steady_timer timer(x.executor(), std::chrono::hours(1));
                x.on_client_gone([&] {
                  events.gone.set_value();
                  timer.cancel();
                });
                x.begin_stream({});
                (void)(co_await x.write("first")).ok();
                events.started.set_value();
                boost::system::error_code error;
                co_await timer.async_wait(
                    boost::asio::redirect_error(boost::asio::use_awaitable, error));
              },
              false});
  routes.add({"GET", "/flood",
              [&events](HttpExchange& x) -> boost::asio::awaitable<void> {
                x.begin_stream({});
                const std::string piece(1 << 20, 'x');
                while ((co_await x.write(piece)).ok()) {
                }
                events.write_failed.set_value();
              },
              false});
  return routes;
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServer& serve(HttpServerOptions options = {}) {
    options.port = 0;
    server_ = std::make_unique<HttpServer>(options, routes_of(events_));
    const Status started = server_->start();
    CHECK(started.ok()) << started.message();
    return *server_;
  }
  // One request on a connection of its own.
  std::string ask(std::string_view bytes) {
    Client client(server_->port());
    client.send(bytes);
    return client.rest();
  }
  static bool happens(std::future<void> event) {
    return event.wait_for(std::chrono::seconds(30)) == std::future_status::ready;
  }
  Events events_;
  std::unique_ptr<HttpServer> server_;
};

constexpr std::string_view kClose = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
bool says(const std::string& text, std::string_view what) {
  return text.find(what) != std::string::npos;
}

TEST_F(HttpServerTest, KeepsConnectionsAndAnswersPipelinedRequestsInOrder) {
  Client client(serve().port());
  client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(client.until("hello").starts_with("HTTP/1.1 200"));
  client.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
      "chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
      "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.until("abc").ends_with("abc"));
  EXPECT_TRUE(client.until("def").ends_with("def"));
  EXPECT_TRUE(says(client.rest(), "Connection: close"));
}

TEST_F(HttpServerTest, HeadHasNoBodyAndOldClientsGetNoChunks) {
  serve();
  const std::string head = ask("HEAD /hello" + std::string(kClose));
  EXPECT_TRUE(says(head, "Content-Length: 5"));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  const std::string chunks = ask("GET /stream" + std::string(kClose));
  EXPECT_TRUE(chunks.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")) << chunks;
  const std::string old = ask("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(old.ends_with("\r\n\r\nonetwo")) << old;
}

TEST_F(HttpServerTest, SaysWhatIsWrong) {
  HttpServerOptions options;
  options.body_bytes_max = 10;
  options.header_bytes_max = 1024;
  serve(options);
  const auto status = [&](const std::string& request, std::string_view code) {
    const std::string answer = ask(request);
    EXPECT_TRUE(answer.starts_with(fmt::format("HTTP/1.1 {} ", code))) << request << answer;
    EXPECT_TRUE(says(answer, "{\"error\":{\"message\":")) << answer;
    return answer;
  };
  EXPECT_TRUE(says(status("GET /helo" + std::string(kClose), "404"), "did you mean /hello?"));
  EXPECT_TRUE(says(status("GET /echo" + std::string(kClose), "405"), "Allow: POST, OPTIONS"));
  const std::string odd = status("GET /%c3%a9%ff%ed%a0%80" + std::string(kClose), "404");
  const Result<Json> body = parse_json(odd.substr(odd.find("\r\n\r\n") + 4));
  ASSERT_TRUE(body.ok()) << odd;
  EXPECT_TRUE(says(odd, "/\xc3\xa9????")) << odd;
  status("GET /%zz" + std::string(kClose), "400");
  status("no http at all\r\n\r\n", "400");
  status("POST /echo HTTP/1.1\r\nContent-Length: 11\r\n\r\n", "413");  // before a byte of it
  status("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
         "413");
  status("GET /hello HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n", "431");
  status(
      "POST /json HTTP/1.1\r\nConnection: close\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}",
      "415");
  EXPECT_TRUE(says(status("GET /throw" + std::string(kClose), "500"), "broken"));
  status("GET /throw-int" + std::string(kClose), "500");
  EXPECT_TRUE(says(ask("GET /hello" + std::string(kClose)), "hello"));  // it lives on
  EXPECT_EQ(server_->counts().exchanges_open, 0u);
}

TEST_F(HttpServerTest, SlowHeadersAndBodiesAreTold) {
  HttpServerOptions options;
  options.header_timeout = options.body_timeout = milliseconds(20);
  serve(options);
  EXPECT_TRUE(ask("GET /hel").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(
      ask("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").starts_with("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, IdleConnectionsEndWithoutAWord) {
  HttpServerOptions options;
  options.idle_timeout = milliseconds(20);
  serve(options);
  EXPECT_EQ(ask(""), "");
}

TEST_F(HttpServerTest, ContinuesWhenAsked) {
  Client client(serve().port());
  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.until("\r\n\r\nok").starts_with("HTTP/1.1 200"));
}

// The answer comes before a byte of the body does.
TEST_F(HttpServerTest, RefusesLargeBodiesByTheirHeader) {
  serve();
  for (const char* length : {"Content-Length: 9000000", "Transfer-Encoding: chunked"}) {
    for (const auto& [header, code] :
         {std::pair{"POST /nowhere HTTP/1.1\r\n", "404"},
          std::pair{"GET /echo HTTP/1.1\r\n", "405"},
          std::pair{"POST /json HTTP/1.1\r\nContent-Type: text/plain\r\n", "415"}}) {
      const std::string answer =
          ask(fmt::format("{}Expect: 100-continue\r\n{}\r\n\r\n", header, length));
      EXPECT_TRUE(answer.starts_with(fmt::format("HTTP/1.1 {} ", code))) << answer;
      EXPECT_TRUE(says(answer, "Connection: close")) << answer;
    }
  }
  Client client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 90000\r\n\r\n");
  EXPECT_EQ(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST_F(HttpServerTest, TakesTheWholeAddressForThePath) {
  serve();
  for (const char* target : {"http://a/hello", "http://a:8000/hello?x=/y", "/hello"})
    EXPECT_TRUE(says(ask(fmt::format("GET {}{}", target, kClose)), "hello")) << target;
  for (const char* target : {"http://a", "http://a?/hello", "hello://"})
    EXPECT_TRUE(ask(fmt::format("GET {}{}", target, kClose)).starts_with("HTTP/1.1 404")) << target;
}

TEST_F(HttpServerTest, TellsThatTheClientHasGone) {
  Client client(serve().port());
  client.send("GET /wait HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(happens(events_.started.get_future()));
  client.close();
  EXPECT_TRUE(happens(events_.gone.get_future()));
}

TEST_F(HttpServerTest, HundredsOfStreamsAtOnceAndNoMoreThanItsMost) {
  HttpServerOptions options;
  options.io_threads = 2;
  options.connections_max = 300;
  serve(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send("GET /stream HTTP/1.1\r\n\r\n");
  }
  for (auto& client : clients)
    EXPECT_TRUE(client->until("0\r\n\r\n").ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
  Client late(server_->port());
  const std::string refusal = late.until("most");
  EXPECT_TRUE(refusal.starts_with("HTTP/1.1 503 ")) << refusal;
  EXPECT_TRUE(says(refusal, "Retry-After")) << refusal;
}

TEST_F(HttpServerTest, EchoesOnlyRequestIdsThatAreFit) {
  serve();
  const auto id = [&](const std::string& given) {
    const std::string answer =
        ask("GET /hello HTTP/1.1\r\nConnection: close\r\nx-request-id: " + given + "\r\n\r\n");
    return answer.substr(answer.find("x-request-id: ") + 14);
  };
  EXPECT_TRUE(id("abc-1").starts_with("abc-1\r\n"));
  EXPECT_TRUE(id(std::string(129, 'a')).starts_with("req-"));
}

TEST(ApiKeys, AdmitOnlyTheirOwners) {
  const ApiKeys keys({"first-key", "second-key"});
  const auto admits = [&](const std::string& path, const std::string& header) {
    HttpRequest request;
    request.path = path;
    if (!header.empty()) request.headers.emplace_back("authorization", header);
    HttpResponse refusal;
    const bool in = keys.admits(request, refusal);
    if (!in) {
      EXPECT_EQ(refusal.status, 401);
      EXPECT_TRUE(says(refusal.body, "invalid_api_key"));
      EXPECT_EQ(refusal.headers.at(0).first, "WWW-Authenticate");
    }
    return in;
  };
  EXPECT_TRUE(admits("/v1/models", "Bearer second-key"));
  EXPECT_TRUE(admits("/v1/models", "bearer second-key"));
  EXPECT_TRUE(admits("/v1/models", "BEARER first-key"));
  EXPECT_TRUE(admits("/health", ""));
  for (const char* wrong : {"", "Bearer ", "Bearer second-ke", "second-key", "Bearer second-keys"})
    EXPECT_FALSE(admits("/v1/models", wrong)) << wrong;
}

TEST_F(HttpServerTest, AClientThatNeverReadsIsGone) {
  HttpServerOptions options;
  options.write_timeout = milliseconds(50);
  Client client(serve(options).port());
  client.send("GET /flood HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(happens(events_.write_failed.get_future()));
}

TEST_F(HttpServerTest, AnswersBrowsersOfKnownOrigins) {
  HttpServerOptions options;
  options.cors_origins = {"https://a.example"};
  serve(options);
  const std::string known =
      ask("OPTIONS /echo HTTP/1.1\r\nOrigin: https://a.example\r\nConnection: close\r\n"
          "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_TRUE(known.starts_with("HTTP/1.1 204 ")) << known;
  EXPECT_TRUE(says(known, "Access-Control-Allow-Origin: https://a.example"));
  EXPECT_TRUE(says(known, "Access-Control-Allow-Methods: POST, OPTIONS"));
  EXPECT_FALSE(says(ask("GET /hello HTTP/1.1\r\nOrigin: https://b.example\r\n"
                        "Connection: close\r\n\r\n"),
                    "Access-Control-Allow-Origin"));
}

TEST_F(HttpServerTest, StopsWithAnAnswerUnderWay) {
  Client idle(serve().port());
  Client client(server_->port());
  client.send("GET /wait HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(happens(events_.started.get_future()));
  server_->stop_accepting();
  EXPECT_EQ(idle.rest(), "");
  server_.reset();
  EXPECT_TRUE(happens(events_.gone.get_future()));  // the handler was told, not left waiting
  EXPECT_FALSE(says(client.rest(), "0\r\n\r\n"));   // it must not look whole
}

}  // namespace
}  // namespace trireme::test
