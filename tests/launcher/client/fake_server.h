// A server that says what a test tells it to: plain sockets and threads of its own, so that a test
// decides about every byte.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace trireme::test {

struct FakeRequest {
  std::string method, path, head, body;
};

// What is sent back, piece by piece, one send each; then the connection is closed where `close`.
struct FakeReply {
  std::vector<std::string> pieces;
  bool close = false;
};

class FakeServer {
 public:
  // Called for each request, from threads of the server, several at a time.
  using Answer = std::function<FakeReply(const FakeRequest&)>;

  explicit FakeServer(Answer answer);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;

  std::string url() const;
  uint16_t port() const { return port_; }
  int connections() const { return connections_; }
  std::vector<FakeRequest> requests() const;

 private:
  void accept_all();
  void serve(int socket);

  const Answer answer_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<int> connections_ = 0;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
  std::vector<int> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// An answer with a body and Content-Length.
FakeReply whole(int status, const std::string& body, const std::string& type = "application/json");
// A chunked event stream; each of `events` is one chunk as it stands.
FakeReply stream(const std::vector<std::string>& events);
// "data: <json>\n\n" of a completion's, or a chat's, token, the end and the usage.
std::string text_event(const std::string& text);
std::string chat_event(const std::string& text);
std::string finish_event();
std::string usage_event(int prompt, int completion, int cached = 0);
inline const std::string kDone = "data: [DONE]\n\n";

}  // namespace trireme::test
