// The HTTP client against a server that sends what it is told, cut where it is told.
#include <gtest/gtest.h>

#include "launcher/client/http_fetch.h"
#include "tests/launcher/client/fake_server.h"

namespace trireme {
namespace {

using test::FakeReply;
using test::FakeRequest;
using test::FakeServer;

ServerUrl url_of(const FakeServer& server) { return *parse_server_url(server.url()); }

TEST(ServerUrl, FormsAndMistakes) {
  EXPECT_EQ(parse_server_url("http://h:81/v1/")->text(), "http://h:81");
  EXPECT_EQ(parse_server_url("h")->text(), "http://h:8000");
  EXPECT_EQ(parse_server_url("h:9/proxy/")->text(), "http://h:9/proxy");
  EXPECT_EQ(parse_server_url("http://[::1]:80")->text(), "http://[::1]:80");
  EXPECT_EQ(parse_server_url("http://[::1]:80")->host, "::1");
  for (const char* text : {"", "http://", "https://h", "h:0", "h:65536", "h:x", "h:80x", "[::1",
                           "a b", "h\r\nX: y", "user@h", "h/?q"})
    EXPECT_FALSE(parse_server_url(text).ok()) << text;
}

TEST(HttpClient, SendsKeyAndBodyAndReadsTheAnswer) {
  FakeServer server([](const FakeRequest&) { return test::whole(201, "{\"x\":1}"); });
  const auto answer = fetch(url_of(server), {.api_key = "secret"}, "POST", "/v1/x", "{\"a\":2}");
  ASSERT_TRUE(answer.ok()) << answer.status().message();
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "{\"x\":1}");
  const FakeRequest request = server.requests().at(0);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/v1/x");
  EXPECT_EQ(request.body, "{\"a\":2}");
  EXPECT_NE(request.head.find("Authorization: Bearer secret\r\n"), std::string::npos);
  EXPECT_NE(request.head.find("Content-Type: application/json\r\n"), std::string::npos);
}

// A chunked stream of three events, in two sends that are cut at every byte.
TEST(HttpClient, StreamsAreTheSameWhereverTheyAreCut) {
  std::string bytes;
  for (const std::string& piece :
       test::stream({"data: one\n\nda", "ta: two\r\n\r\n", ": ping\n\ndata: three\n\n"}).pieces)
    bytes += piece;
  size_t cut = 0;
  FakeServer server([&](const FakeRequest&) {
    return FakeReply{{bytes.substr(0, cut), bytes.substr(cut)}};
  });
  for (cut = 1; cut < bytes.size(); ++cut) {
    std::vector<std::string> events;
    StreamOptions stream;
    stream.on_event = [&](std::string_view data) {
      events.emplace_back(data);
      return true;
    };
    const auto answer = fetch(url_of(server), {}, "POST", "/", "{}", stream);
    ASSERT_TRUE(answer.ok()) << cut << answer.status().message();
    EXPECT_TRUE(answer->streamed);
    ASSERT_EQ(events, (std::vector<std::string>{"one", "two", "three"})) << cut;
  }
}

TEST(HttpClient, SaysWhatWentWrong) {
  uint16_t gone = 0;
  {
    const FakeServer server([](const FakeRequest&) { return FakeReply{}; });
    gone = server.port();
  }
  const std::string url = "http://127.0.0.1:" + std::to_string(gone);
  const auto refused = fetch(*parse_server_url(url), {}, "GET", "/");
  EXPECT_EQ(refused.status().message(),
            url + ": cannot connect: connection refused: is the server running?");

  FakeServer server([](const FakeRequest& request) {
    if (request.path == "/silent") return FakeReply{};
    if (request.path == "/closed") return FakeReply{{}, true};
    if (request.path == "/ssh") return FakeReply{{"SSH-2.0-OpenSSH_9.2\r\n\r\n"}, true};
    return FakeReply{{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"}, true};
  });
  const HttpOptions hasty{.api_key = "", .idle_timeout = std::chrono::milliseconds(50)};
  const auto code = [&](const char* path, const HttpOptions& options = {}) {
    return fetch(url_of(server), options, "GET", path).status().code();
  };
  EXPECT_EQ(code("/silent", hasty), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(code("/closed"), StatusCode::kUnavailable);
  EXPECT_EQ(code("/ssh"), StatusCode::kDataLoss);
  EXPECT_EQ(code("/short"), StatusCode::kUnavailable);
}

TEST(HttpClient, AnswersHaveALimit) {
  FakeServer server([](const FakeRequest&) { return test::whole(200, std::string(1000, 'x')); });
  EXPECT_EQ(
      fetch(url_of(server), {.api_key = "", .body_bytes_max = 999}, "GET", "/").status().code(),
      StatusCode::kDataLoss);
  EXPECT_TRUE(fetch(url_of(server), {.api_key = "", .body_bytes_max = 1000}, "GET", "/").ok());
}

TEST(HttpClient, ErrorBodies) {
  EXPECT_EQ(error_message({400, false, "{\"error\":{\"message\":\"no\"}}"}), "status 400: no");
  EXPECT_EQ(error_message({500, false, "{\"error\":\"worse\"}"}), "status 500: worse");
  EXPECT_EQ(error_message({502, false, "<html>"}), "status 502: <html>");
}

}  // namespace
}  // namespace trireme
