#include "tests/launcher/client/fake_server.h"

#include <cstdlib>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/check.h"

namespace trireme::test {

FakeServer::FakeServer(Answer answer)
    : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(::listen(listener_, 64) == 0);
  CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

FakeServer::~FakeServer() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
  {
    const std::lock_guard lock(mutex_);
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  for (const int socket : sockets_) ::close(socket);
}

std::string FakeServer::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

std::vector<FakeRequest> FakeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void FakeServer::accept_all() {
  for (;;) {
    const int socket = ::accept(listener_, nullptr, nullptr);
    if (socket < 0) return;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ++connections_;
    const std::lock_guard lock(mutex_);
    sockets_.push_back(socket);
    threads_.emplace_back([this, socket] { serve(socket); });
  }
}

void FakeServer::serve(int socket) {
  std::string buffer;
  const auto fill = [&] {
    char bytes[16384];
    const ssize_t n = ::recv(socket, bytes, sizeof(bytes), 0);
    if (n > 0) buffer.append(bytes, static_cast<size_t>(n));
    return n > 0;
  };
  for (;;) {
    size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return;
    }
    FakeRequest request;
    request.head = buffer.substr(0, end + 2);
    buffer.erase(0, end + 4);
    const size_t space = request.head.find(' ');
    request.method = request.head.substr(0, space);
    request.path = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
    size_t bytes = 0;
    if (const size_t at = request.head.find("Content-Length: "); at != std::string::npos)
      bytes = std::strtoul(request.head.c_str() + at + 16, nullptr, 10);
    while (buffer.size() < bytes) {
      if (!fill()) return;
    }
    request.body = buffer.substr(0, bytes);
    buffer.erase(0, bytes);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const FakeReply reply = answer_(request);
    for (const std::string& piece : reply.pieces) {
      if (::send(socket, piece.data(), piece.size(), MSG_NOSIGNAL) < 0) return;
    }
    if (reply.close) {
      ::shutdown(socket, SHUT_RDWR);
      return;
    }
  }
}

FakeReply whole(int status, const std::string& body, const std::string& type) {
  return {{fmt::format("HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", status,
                       type, body.size(), body)}};
}

FakeReply stream(const std::vector<std::string>& events) {
  FakeReply reply{
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
       "Transfer-Encoding: chunked\r\n\r\n"}};
  for (const std::string& event : events)
    reply.pieces.push_back(fmt::format("{:x}\r\n{}\r\n", event.size(), event));
  reply.pieces.push_back("0\r\n\r\n");
  return reply;
}

std::string text_event(const std::string& text) {
  return fmt::format(
      "data: {{\"choices\":[{{\"index\":0,\"text\":\"{}\",\"finish_reason\":null}}]}}\n\n", text);
}
std::string chat_event(const std::string& text) {
  return fmt::format(
      "data: "
      "{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":null}}]}}"
      "\n\n",
      text);
}
std::string finish_event() {
  return "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n";
}
std::string usage_event(int prompt, int completion, int cached) {
  return fmt::format(
      "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},"
      "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}}}\n\n",
      prompt, completion, cached);
}

}  // namespace trireme::test
