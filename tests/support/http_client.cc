#include "tests/support/http_client.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/check.h"

namespace trireme::test {

HttpConnection::HttpConnection(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(socket_ >= 0 &&
        ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  timeval patience{30, 0};  // a test that waits so long has failed
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

void HttpConnection::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void HttpConnection::small_receive_buffer() {
  const int bytes = 4096;
  setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

void HttpConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the server has closed: the reply says why
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void HttpConnection::request(std::string_view method, std::string_view path, std::string_view body,
                             const std::vector<std::string>& headers) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: test\r\n", method, path);
  bool typed = false;
  for (const std::string& header : headers) {
    text += header + "\r\n";
    typed = typed || header.starts_with("Content-Type");
  }
  if (!body.empty()) {
    if (!typed) text += "Content-Type: application/json\r\n";
    text += fmt::format("Content-Length: {}\r\n", body.size());
  }
  send(text + "\r\n" + std::string(body));
}

bool HttpConnection::fill() {
  char bytes[16384];
  const ssize_t n = ::recv(socket_, bytes, sizeof(bytes), 0);
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(n));
  return true;
}

std::string HttpConnection::line() {
  size_t end;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!fill()) return {};
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::string HttpConnection::take(size_t bytes) {
  while (buffer_.size() < bytes && fill()) {
  }
  std::string taken = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return taken;
}

std::string HttpConnection::read_until(std::string_view enough) {
  while (enough.empty() || buffer_.find(enough) == std::string::npos) {
    if (!fill()) break;
  }
  return std::exchange(buffer_, {});
}

HttpReply HttpConnection::reply(bool head) {
  HttpReply reply;
  const std::string status = line();
  if (status.size() < 12) return reply;
  for (std::string header = line(); !header.empty(); header = line()) {
    const size_t colon = header.find(':');
    std::string name = header.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    reply.headers[name] = header.substr(header.find_first_not_of(' ', colon + 1));
  }
  if (!head && reply.headers["transfer-encoding"] == "chunked") {
    for (;;) {
      const std::string size = line();
      if (size.empty()) return {};  // broken off
      const size_t bytes = std::strtoul(size.c_str(), nullptr, 16);
      const std::string chunk = take(bytes);
      line();
      if (bytes == 0) break;
      reply.chunks.push_back(chunk);
      reply.body += chunk;
    }
  } else if (!head && reply.headers.contains("content-length")) {
    const size_t bytes = std::strtoul(reply.headers["content-length"].c_str(), nullptr, 10);
    reply.body = take(bytes);
    if (reply.body.size() != bytes) return {};
  }
  reply.status = std::atoi(status.c_str() + 9);
  return reply;
}

HttpReply http(uint16_t port, std::string_view method, std::string_view path, std::string_view body,
               const std::vector<std::string>& headers) {
  HttpConnection connection(port);
  connection.request(method, path, body, headers);
  return connection.reply(method == "HEAD");
}

std::vector<std::string> sse_events(std::string_view body) {
  std::vector<std::string> events;
  while (!body.empty()) {
    const size_t end = body.find("\n\n");
    std::string_view event = body.substr(0, end);
    CHECK(event.starts_with("data: ") && event.find('\n') == std::string_view::npos)
        << "not one line: " << event;
    events.emplace_back(event.substr(6));
    if (end == std::string_view::npos) break;
    body.remove_prefix(end + 2);
  }
  return events;
}

}  // namespace trireme::test
